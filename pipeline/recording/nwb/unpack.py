"""An NWB file as a recording bundle: small files in a folder, the movie where it is."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.adapters.hdf5 import open_hdf5
from pipeline.imaging.segmentation.mask_files import as_lists
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.jsonfile import read_object
from pipeline.recording.nwb.read import read_session
from pipeline.recording.nwb.session import Plane, Session, flat, nested
from pipeline.stimulus.monitor import MonitorCurve

NEEDED = (
    "animal_id",
    "session",
    "scan_idx",
    "rig",
    "monitor.width_px",
    "monitor.height_px",
)
MARK = "nwb"  # entry of recording.json that says from which file a folder was made


def read_entries(path: str | os.PathLike | None) -> dict[str, Any]:
    """Return what a person says of a recording: a JSON object with entries of recording.json.

    The path of the monitor's curve is from the folder of this file.
    """
    if path is None:
        return {}
    path = Path(path)
    found = read_object(path)
    for name in ("monitor", "imaging", "treadmill", "nwb"):
        if not isinstance(found.get(name, {}), dict):
            raise DataError(
                "is not a JSON object", file=path, field=name, found=repr(found[name])[:80]
            )
    curve = found.get("monitor", {}).get("calibration")
    if curve is not None:
        found["monitor"]["calibration"] = str((path.parent / curve).resolve())
    return found


def unpack(
    path: str | os.PathLike,
    into: str | os.PathLike | None = None,
    entries: Mapping[str, Any] | None = None,
) -> Path:
    """Write the bundle of an NWB file, and return its folder; the same once more changes nothing.

    Parameters
    ----------
    path : path
        The NWB file. A movie in it is not copied: `imaging.files` names the file.
    into : path, optional
        Folder to write; default: the file's name with `.bundle`, beside it.
    entries : mapping, optional
        What the file does not say, or says wrongly: see `read.read_session`.

    Raises
    ------
    DataError
        If the file cannot be used, or the folder holds anything else.
    """
    path = Path(path).resolve()
    folder = Path(into).resolve() if into is not None else path.with_suffix(".bundle")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with open_hdf5(path) as file:
            _write(read_session(file, path, entries or {}), part, path)
        if not folder.exists():
            part.rename(folder)
        elif not _same(part, folder):
            raise DataError(
                "folder holds something else",
                file=folder,
                expected=f"nothing, or what {path.name} holds",
                remedy="name another folder with --into, or remove this one",
            )
    except DataError:
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk; HDF5's own have none
            raise
        raise _not_understood(path, error) from error
    except Exception as error:  # h5py raises anything of bytes that are damaged, also SystemError
        raise _not_understood(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _not_understood(path: Path, error: Exception) -> DataError:
    return DataError(
        "is damaged, or laid out in a way that is not understood",
        file=path,
        found=f"{type(error).__name__}: {ascii(' '.join(str(error).split()))[:200]}",
    )


def _same(a: Path, b: Path) -> bool:
    """Tell whether two folders hold the same files."""
    names = [sorted(item.name for item in folder.iterdir()) for folder in (a, b)]
    if not b.is_dir() or names[0] != names[1]:
        return False
    return all(filecmp.cmp(a / name, b / name, shallow=False) for name in names[0])


def _write(session: Session, folder: Path, path: Path) -> None:
    entries = {**session.entries, "format": "inception-recording/1"}
    findings = list(session.planes[0].findings)
    if "scan_ts" not in entries:
        entries["scan_ts"] = session.start.isoformat()
    entries["imaging"] = dict(entries.get("imaging", {}))
    entries["imaging"].pop("channel", None)  # a file has the one channel that was used
    _check_said(flat(entries), path)
    if session.planes[0].movie is not None:
        entries["imaging"]["files"] = [path.name]
        _csv(
            folder / "frame_times.csv",
            {"frame": np.arange(len(session.frame_times)), "time_s": session.frame_times},
        )
    else:
        findings += _units(folder, session.planes[0], session.frame_times, path)
        entries["imaging"] |= {"traces": "traces.npz", "masks": "masks.npz"}
    entries["monitor"] = _monitor(folder, session, path)
    _trials(folder, session)
    names = sorted(session.images)
    np.savez(
        folder / "images.npz",
        names=np.array(names),
        images=_stack([session.images[name] for name in names], path),
    )
    if session.pupil is not None:
        columns = ("time_s", "center_x_px", "center_y_px", "radius_px")
        _csv(folder / "pupil.csv", dict(zip(columns, session.pupil.T, strict=False)))
    if session.counts is not None and entries.get("treadmill"):
        _csv(
            folder / "treadmill.csv", dict(zip(("time_s", "counts"), session.counts.T, strict=True))
        )
    elif session.speed is not None:
        _csv(
            folder / "running.csv",
            dict(zip(("time_s", "speed_cm_s"), session.speed.T, strict=True)),
        )
    if not (folder / "treadmill.csv").exists():
        entries.pop("treadmill", None)
    entries[MARK] = {"file": path.name}
    if findings:
        entries[MARK]["findings"] = [[finding.name, finding.text] for finding in findings]
    text = json.dumps(nested(flat(entries)), indent=1, sort_keys=True)
    (folder / "recording.json").write_text(text + "\n", encoding="utf-8")


def _check_said(entries: Mapping[str, Any], path: Path) -> None:
    """Raise DataError for what a recording has to say, and neither file nor person did."""
    for name in NEEDED:
        if name not in entries:
            raise DataError(
                "is not in the file",
                file=path,
                field=name,
                expected="an entry of recording.json",
                remedy="say it in a JSON file and give that with --entries",
            )


def _stack(images: list[NDArray], path: Path) -> NDArray:
    sizes = sorted({image.shape for image in images})
    if len(sizes) > 1:
        raise DataError(
            "images differ in size",
            file=path,
            field="stimulus/templates",
            found=sizes[:4],
            expected="one size: that of the monitor",
        )
    return np.stack(images)


def _units(folder: Path, plane: Plane, times: NDArray, path: Path) -> list[Finding]:
    """Write traces.npz and masks.npz, as `pipeline.imaging.importers.extracted` reads them.

    Who extracted vouches for the units; those that were not kept stay, and are no cells.
    """
    columns = {name: np.asarray(column.values) for name, column in plane.units.columns.items()}
    keep = columns.get("keep", np.ones(len(plane.units))).astype(bool)
    if plane.masks is None or not keep.any():
        raise DataError("no unit was kept", file=path, found=f"{len(keep)} units", expected="some")
    findings = []
    if not keep.all():
        text = f"{path.name}: {keep.sum()} of {len(keep)} units were kept"
        findings.append(Finding("units-kept", text))
    traces: dict[str, Any] = {
        "fluorescence" if name == "corrected" else name: np.asarray(trace.load(), np.float32)
        for name, trace in plane.traces.items()
        if name in ("corrected", "raw", "neuropil")
    }
    np.savez(folder / "traces.npz", time_s=np.asarray(times, np.float64), **traces)
    weights = PixelStack(*plane.masks, plane.shape)
    drawn = np.bincount(weights.pixel, weights.value, minlength=plane.shape[0] * plane.shape[1])
    given: dict[str, Any] = {**as_lists(weights)}
    if "keep" in columns:
        given["keep"] = keep
    if "soma_probability" in columns:
        given["soma_probability"] = columns["soma_probability"].astype(np.float32)
    np.savez(
        folder / "masks.npz",
        mean_image=plane.images.get("mean_image", drawn.reshape(plane.shape).astype(np.float32)),
        timing=np.array([plane.delay_s, plane.line_period_s]),
        **given,
    )
    return findings


def _monitor(folder: Path, session: Session, path: Path) -> dict[str, Any]:
    """Write monitor.csv, and return the entry."""
    monitor = dict(session.entries.get("monitor", {}))
    said = monitor.pop("calibration", None)
    if said is not None:
        curve = MonitorCurve.read_csv(said)
        gray, luminance = curve.pixel_value, curve.luminance_cd_m2
    elif session.monitor is not None:
        gray, luminance = session.monitor
    else:
        raise DataError(
            "curve of the monitor is not known",
            file=path,
            field="monitor.calibration",
            expected="pixel_value,luminance_cd_m2 in a csv file",
            remedy="name it in a JSON file and give that with --entries",
        )
    _csv(folder / "monitor.csv", {"pixel_value": gray, "luminance_cd_m2": luminance})
    return {**monitor, "calibration": "monitor.csv"}


def _trials(folder: Path, session: Session) -> None:
    columns = {name: column.values for name, column in session.trials.columns.items()}
    order = ("trial_idx", "image", "start_time", "stop_time", "blank_before_s")
    renamed = {"start_time": "onset_s", "stop_time": "offset_s"}
    _csv(
        folder / "trials.csv",
        {renamed.get(name, name): columns[name] for name in order if name in columns},
    )


def _csv(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of numbers or text; a number comes back as it was, to the last bit."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(",".join(columns) + "\n")
        for row in zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True):
            stream.write(",".join(_cell(value) for value in row) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1 << 53
        return f"{int(value)}" if whole else "" if value != value else repr(value)
    return str(value)
