"""Recordings and prepared data sets into the database: checked, then all or nothing."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.closed_loop.package.photodiode import read_flips
from pipeline.closed_loop.presentation.answer import Asked, check_answer
from pipeline.closed_loop.presentation.audit import STATUSES, audit_presentation
from pipeline.dataset import load
from pipeline.errors import DataError, Finding
from pipeline.jsonfile import read_object
from pipeline.recording.bundle import Bundle, read_bundle
from pipeline.recording.nwb.unpack import unpack
from pipeline.registry import config_hash
from schemas import closed_loop, dataset, experiment, stimulus
from schemas.decisions.tasks import register_presentation
from schemas.store import number

log = logging.getLogger("inception.ingest")


def ingest_nwb(
    file: str | Path,
    *,
    into: str | Path | None = None,
    entries: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Check an NWB file and insert the recording in it.

    Parameters
    ----------
    file : path
        Stays where it is; a movie is read from it.
    into : path, optional
        Folder for the small files of the recording; default: `FILE.bundle` beside it.
    entries : mapping, optional
        What the file does not say, as in recording.json.

    Returns
    -------
    dict
        As of `ingest_bundle`. The same file again changes nothing.

    Raises
    ------
    DataError
        If it cannot be used.
    """
    return ingest_bundle(unpack(file, into, entries), movie=file)


def ingest_bundle(folder: str | Path, movie: str | Path | None = None) -> dict[str, int]:
    """Check a recording bundle and insert it, with the tasks of day 2 if it shows a plan.

    Parameters
    ----------
    folder : path
        Bundle as in docs/formats.md. Its movies stay where they are.
    movie : path, optional
        See `pipeline.recording.bundle.read_bundle`.

    Returns
    -------
    dict
        `animal_id, session, scan_idx`. The same bundle again changes nothing.

    Raises
    ------
    DataError
        If anything in it is wrong, or another recording has its key. Nothing is inserted then.
    """
    bundle = read_bundle(folder, movie)
    key = insert_bundle(bundle)
    for line in bundle.clock_report:
        log.info("%s: %s", bundle.folder, line)
    for finding in bundle.findings:
        log.warning("%s: %s", bundle.folder, finding)
    return key


def insert_bundle(bundle: Bundle) -> dict[str, int]:
    """Insert a bundle that was read, with the tasks of day 2 if it shows a plan.

    Parameters
    ----------
    bundle : Bundle
        Of `read_bundle`. What the plan has to say of it joins its `findings`; nothing is logged.

    Returns
    -------
    dict
        `animal_id, session, scan_idx`. The same bundle again changes nothing.

    Raises
    ------
    DataError
        If another recording has its key, an image is known to nobody, or it does not answer the
        plan that it names. Nothing is inserted then.
    """
    recording = bundle.recording
    key = {name: getattr(recording, name) for name in experiment.Scan.primary_key}
    files = _file_rows(key, bundle)
    content = {_within(row["path"], bundle): row["fingerprint"] for row in files}
    digest = _digest(content)
    known = experiment.Scan & key
    if known:
        if known.fetch1("bundle_hash") == digest:
            experiment.Scan.ingested_again(key, str(bundle.folder), files)
            return key
        raise DataError(
            "another recording has this key",
            file=bundle.folder / "recording.json",
            field="animal_id, session, scan_idx",
            found=experiment.scan_name(key),
            expected=f"a free key; {known.fetch1('folder')} has this one",
            remedy="correct recording.json (of an NWB file: --entries), or delete the earlier scan",
        )
    _check_known_images(bundle)
    if recording.plan is not None:
        _check_presentation(bundle)
    with experiment.schema.connection.transaction:
        _insert_scan(key, bundle, digest)
        experiment.Scan.File.insert(files)
        _insert_monitor(key, bundle)
        if bundle.images:
            names = sorted(bundle.images)
            images = np.stack([bundle.images[name] for name in names])
            stimulus.ImageSet.add(names, images, name=f"scan {'/'.join(map(str, key.values()))}")
        columns = bundle.trials
        stimulus.Trial.insert(
            {
                **key,
                "trial_idx": int(columns["trial_idx"][row]),
                "image_hash": columns["image_hash"][row],
                "onset_s": float(columns["onset_s"][row]),
                "offset_s": float(columns["offset_s"][row]),
                "blank_before_s": number(columns["blank_before_s"][row]),
            }
            for row in range(len(columns["trial_idx"]))
        )
        if recording.plan is not None:
            register_presentation(key, recording.plan)
    return key


def _within(path: str, bundle: Bundle) -> str:
    """Return a path without the folder that it lies in: moved files are the same files."""
    if bundle.movie is not None and path == str(bundle.movie):
        return f"/{bundle.movie.name}"
    return path.removeprefix(str(bundle.folder))


def _digest(content: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_rows(key: Mapping[str, int], bundle: Bundle) -> list[dict[str, Any]]:
    rows = []
    for kind, paths in sorted(bundle.files.items()):
        if kind == "images":  # thousands of files whose pixels go into the store
            continue
        rows += [
            {
                **key,
                "file_kind": kind,
                "file_idx": index,
                "path": str(path),
                "size_bytes": path.stat().st_size,
                "fingerprint": experiment.fingerprint(path),
                "digest": experiment.raw_digest(path),
                "modified_ns": path.stat().st_mtime_ns,
            }
            for index, path in enumerate(paths)
        ]
    return rows


def _check_known_images(bundle: Bundle) -> None:
    """Raise if a trial names, by its hash, an image that neither folder nor database has."""
    missing = set(bundle.missing)
    if missing:
        asked = stimulus.ImageSet.Member & [{"image_hash": name} for name in sorted(missing)]
        missing -= set(asked.to_arrays("image_hash").tolist())
    if missing:
        raise DataError(
            "image is missing",
            file=bundle.folder / "trials.csv",
            field="image",
            found=f"{len(missing)} content hashes such as {min(missing)}",
            expected="an image in images/ or one that the database knows",
        )


def _check_presentation(bundle: Bundle) -> None:
    """Raise if the recording does not answer the plan that it names; say what it lacks."""
    where = {"file": bundle.folder / "recording.json"}
    recording = bundle.recording
    plan = {"plan_id": recording.plan}
    if not closed_loop.Plan & plan:
        raise DataError(
            "no such plan in this database",
            **where,
            field="plan",
            found=recording.plan,
            remedy="ingest into the database that made the package",
        )
    task = (closed_loop.PlanTask & plan).fetch1()
    source = {name: task[name] for name in experiment.Scan.primary_key}
    rows = (closed_loop.Plan.Trial & plan).to_dicts(order_by="trial_idx")
    planned = pd.DataFrame(rows).rename(columns={"image_hash": "image"})
    asked = Asked(
        plan_id=recording.plan,
        animal_id=task["animal_id"],
        trials=planned,
        curve=experiment.MonitorCalibration.curve(source),
        digests=(closed_loop.Package & plan).to_arrays("package_digest").tolist(),
    )
    shown = pd.DataFrame({"image": bundle.trials["image_hash"]})
    player = _player(bundle)
    bundle.findings += check_answer(
        asked, recording.model_dump(), shown, curve=bundle.curve, player=player
    )
    _check_usable(bundle, planned)


def _check_usable(bundle: Bundle, planned: pd.DataFrame) -> None:
    """Say what the audit will leave out, so that whoever ingests can still look for the cause."""
    clock = bundle.clocks["trials"]
    shown = pd.DataFrame(
        {
            "trial_idx": bundle.trials["trial_idx"],
            "image": bundle.trials["image_hash"],
            "onset_s": clock.to_rig(np.asarray(bundle.trials["onset_s"], float)),
            "offset_s": clock.to_rig(np.asarray(bundle.trials["offset_s"], float)),
        }
    ).sort_values("onset_s", ignore_index=True)
    paths = bundle.files.get("photodiode")
    flips = read_flips(paths[0]) if paths else None
    audit = audit_presentation(planned, shown, flips=flips)
    found = audit.summary
    said = {finding.name for finding in bundle.findings}
    bundle.findings += [
        Finding(finding.name, f"{paths[0].name}: {finding.text}")
        for finding in audit.findings
        if paths and finding.name not in said
    ]
    lost = ", ".join(f"{found[name]} {name}" for name in STATUSES if name != "ok" and found[name])
    if lost:
        text = f"{found['n_usable']} of {found['n_planned']} planned trials will be scored; {lost}"
        bundle.findings.append(Finding("plan-unusable", f"trials.csv: {text}"))


def _player(bundle: Bundle) -> dict[str, Any] | None:
    """Return what the player noted of the package that it showed, if it is in the bundle."""
    if "player" not in bundle.files:
        return None
    return read_object(bundle.files["player"][0])


def _insert_scan(key: Mapping[str, int], bundle: Bundle, digest: str) -> None:
    recording = bundle.recording
    animal = {"animal_id": key["animal_id"]}
    session = {**animal, "session": key["session"]}
    experiment.Mouse.insert1(animal, skip_duplicates=True)
    experiment.Rig.insert1({"rig": recording.rig}, skip_duplicates=True)
    if not experiment.Session & session:
        experiment.Session.insert1(
            {**session, "rig": recording.rig, "session_date": recording.scan_ts.date()}
        )
    size = recording.imaging.um_per_px or (None, None)
    wheel = recording.treadmill
    experiment.Scan.insert1(
        {
            **key,
            "scan_ts": recording.scan_ts,
            "brain_area": recording.brain_area,
            "depth_um": recording.depth_um,
            "indicator": recording.indicator,
            "channel": recording.imaging.channel,
            "um_per_px_y": size[0],
            "um_per_px_x": size[1],
            "treadmill_diameter_cm": wheel.diameter_cm if wheel else None,
            "treadmill_counts_per_rev": wheel.counts_per_rev if wheel else None,
            "folder": str(bundle.folder),
            "bundle_hash": digest,
        }
    )


def _insert_monitor(key: Mapping[str, int], bundle: Bundle) -> None:
    curve, monitor = bundle.curve, bundle.recording.monitor
    fit = curve.gamma_fit()
    experiment.MonitorCalibration.insert1(
        {
            **key,
            "width_px": monitor.width_px,
            "height_px": monitor.height_px,
            "pixel_value": np.asarray(curve.pixel_value, float).tolist(),
            "luminance_cd_m2": np.asarray(curve.luminance_cd_m2, float).tolist(),
            "amplitude": number(fit.amplitude),
            "gamma": number(fit.gamma),
            "offset": number(fit.offset),
            "rmse": number(fit.rmse),
        }
    )


def ingest_dataset(file: str | Path) -> dict[str, str]:
    """Check a prepared data set and register it.

    Parameters
    ----------
    file : path
        npz file, or the folder of a published static data set; it stays where it is.

    Returns
    -------
    dict
        `dataset_hash`. The same content again changes nothing.

    Raises
    ------
    DataError
        If it cannot be used.
    """
    path = Path(file).expanduser().resolve()
    data, _ = load(path).complete()
    for finding in data.findings:
        log.warning("%s: %s", path, finding)
    if (trained := len(data.trials("train"))) < 2:
        raise DataError(
            "too few training trials", file=path, field="tiers", found=trained, expected="2 or more"
        )
    print_ = experiment.fingerprint(path)
    height, width = data.shape
    key = {"dataset_hash": config_hash({"prepared": print_})}
    if dataset.DatasetSpec & key:
        return key
    size = path.stat().st_size
    if path.is_dir():
        size = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    with dataset.schema.connection.transaction:
        dataset.DatasetSpec.insert1(
            {
                **key,
                "height_px": height,
                "width_px": width,
                "tier_params": {},
                "dataset_notes": f"prepared: {path.name}"[:512],
            }
        )
        dataset.PreparedFile.insert1(
            {
                **key,
                "path": str(path),
                "size_bytes": size,
                "fingerprint": print_,
                "digest": experiment.raw_digest(path),
            }
        )
    return key
