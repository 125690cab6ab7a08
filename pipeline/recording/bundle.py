"""A recording bundle on disk: what recording.json says, and whether all files hold it."""

from __future__ import annotations

import datetime
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.csvfile import read_columns, read_text_columns
from pipeline.errors import DataError
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.recording.streams import FRAME_SLACK, read_clocks, read_pupil
from pipeline.stimulus.images import check_aspect, image_hash, load_images
from pipeline.stimulus.monitor import MonitorCurve

log = logging.getLogger("inception.ingest")

FORMAT = "inception-recording/1"
HASH = re.compile(r"[0-9a-f]{64}")
EARLIEST = datetime.datetime(1990, 1, 1)
MIN_FRAMES = 10
MIN_SECONDS = 1.0
INT32 = 2**31 - 1
INT16 = 2**15 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Imaging(_Strict):
    """Entry `imaging` of recording.json."""

    files: list[str] = Field(default_factory=list)
    traces: str | None = None
    masks: str | None = None
    channel: int = Field(default=1, ge=1, le=16)
    um_per_px: tuple[float, float] | None = None

    @field_validator("um_per_px")
    @classmethod
    def _positive(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not all(0.01 <= size <= 100 for size in value):
            raise ValueError("two sizes of a pixel, 0.01 to 100 um")
        return value


class Monitor(_Strict):
    """Entry `monitor` of recording.json."""

    width_px: int = Field(ge=8, le=20000)
    height_px: int = Field(ge=8, le=20000)
    calibration: str = "monitor.csv"


class TreadmillWheel(_Strict):
    """Entry `treadmill` of recording.json."""

    diameter_cm: float = Field(gt=0, le=200)
    counts_per_rev: float = Field(gt=0)


class Recording(_Strict):
    """The file recording.json."""

    format: Literal["inception-recording/1"]
    animal_id: int = Field(ge=0, le=INT32)
    session: int = Field(ge=0, le=INT16)
    scan_idx: int = Field(ge=0, le=INT16)
    scan_ts: datetime.datetime
    rig: str = Field(min_length=1, max_length=64, pattern=r"^\w[\w .:/+()-]*$")
    brain_area: str = Field(default="unknown", max_length=32)
    depth_um: float | None = Field(default=None, ge=-2000, le=5000)
    imaging: Imaging
    indicator: str = Field(default="unknown", max_length=64)
    monitor: Monitor
    treadmill: TreadmillWheel | None = None
    plan: str | None = Field(default=None, max_length=64)

    @field_validator("scan_ts")
    @classmethod
    def _plausible(cls, value: datetime.datetime) -> datetime.datetime:
        value = value.replace(tzinfo=None, microsecond=0)
        if not EARLIEST < value < datetime.datetime.now() + datetime.timedelta(days=366):
            raise ValueError("a time of recording, after 1990 and not in the future")
        return value


@dataclass
class Bundle:
    """A recording whose files have been checked.

    Attributes
    ----------
    folder : Path
    recording : Recording
    files : dict
        Kind (tiff, traces, masks, frame_times, trials, monitor, eye_video, eye_times, pupil,
        treadmill, clocks, photodiode, player, recording, images) to paths.
    trials : dict of column to array or list
        `trial_idx, image_hash, onset_s, offset_s, blank_before_s`.
    images : dict of content hash to uint8 array (H, W)
        Those the folder holds.
    missing : list of str
        Content hashes on trials that the database must know.
    curve : MonitorCurve
    """

    folder: Path
    recording: Recording
    files: dict[str, list[Path]] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    curve: MonitorCurve | None = None


def read_bundle(folder: str | Path) -> Bundle:
    """Read and check all of a bundle but the pixels of its movies.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DataError("no such folder", file=folder)
    bundle = Bundle(root, _read_recording(root / "recording.json"))
    bundle.files["recording"] = [root / "recording.json"]
    frames = _check_imaging(bundle)
    _check_monitor(bundle)
    _check_trials(bundle, frames)
    _check_behavior(bundle)
    if (clocks := _optional(bundle, "clocks", "clocks.csv")) is not None:
        read_clocks(clocks)
    return bundle


def _read_recording(path: Path) -> Recording:
    if not path.is_file():
        raise DataError("file is missing", file=path, expected="recording.json of a bundle")
    if path.stat().st_size > 1 << 20:
        raise DataError(
            "file is too large",
            file=path,
            found=f"{path.stat().st_size} bytes",
            expected="a short JSON document",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            "cannot be read", file=path, found=error, expected="JSON in UTF-8"
        ) from error
    if not isinstance(content, Mapping):
        raise DataError("is not a JSON object", file=path, found=type(content).__name__)
    try:
        return Recording.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = first.get("input")
        found = None if first["type"] == "missing" else repr(given)[:80]
        raise DataError(
            "entry is not valid",
            file=path,
            field=place,
            found=found,
            expected=first["msg"].removeprefix("Value error, "),
        ) from None


def _inside(bundle: Bundle, name: str, entry: str) -> Path:
    """Return the path of a file that must be in the folder."""
    path = (bundle.folder / name).resolve()
    if not path.is_relative_to(bundle.folder):
        raise DataError(
            "file lies outside of the bundle",
            file="recording.json",
            field=entry,
            found=name,
            expected="a name inside of the folder",
        )
    if len(str(path)) > 1000:
        raise DataError(
            "path is too long",
            file="recording.json",
            field=entry,
            found=len(str(path)),
            expected="at most 1000 characters",
        )
    if not path.is_file():
        other = "is no regular file" if path.exists() else "file is missing"
        kind = "is a folder" if path.is_dir() else other
        raise DataError(
            kind, file=path, field=entry, expected="a file", remedy="copy the whole bundle"
        )
    if path.stat().st_size == 0:
        raise DataError("file is empty", file=path, field=entry, found="0 bytes")
    return path


def _optional(bundle: Bundle, kind: str, name: str) -> Path | None:
    if not (bundle.folder / name).exists():
        return None
    path = _inside(bundle, name, kind)
    bundle.files[kind] = [path]
    return path


def _check_imaging(bundle: Bundle) -> tuple[float, float]:
    """Check the movie or the traces; return first and last frame time (s)."""
    imaging = bundle.recording.imaging
    if bool(imaging.files) == bool(imaging.traces):
        raise DataError(
            "imaging needs either files or traces",
            file="recording.json",
            field="imaging",
            found=sorted(imaging.model_fields_set),
        )
    if imaging.traces:
        if not imaging.masks:
            raise DataError(
                "traces come without masks", file="recording.json", field="imaging.masks"
            )
        traces = _inside(bundle, imaging.traces, "imaging.traces")
        masks = _inside(bundle, imaging.masks, "imaging.masks")
        bundle.files |= {"traces": [traces], "masks": [masks]}
        scan = open_extracted(traces, masks)
        for note in scan.notes:
            log.warning("%s: %s", masks, note)
        _check_traces(traces, scan.movie().fluorescence)
        path, times = traces, scan.time_s
    else:
        if len(set(imaging.files)) != len(imaging.files):
            raise DataError(
                "file is named twice",
                file="recording.json",
                field="imaging.files",
                found=imaging.files,
            )
        bundle.files["tiff"] = [_inside(bundle, name, "imaging.files") for name in imaging.files]
        path = _inside(bundle, "frame_times.csv", "frame_times")
        bundle.files["frame_times"] = [path]
        times = read_columns(path, ["frame", "time_s"], rising="time_s")["time_s"]
        _check_tiff(bundle, len(times), float(np.median(np.diff(times))))
    fps = 1 / float(np.median(np.diff(times)))
    if not 0.1 <= fps <= 2000:
        raise DataError(
            "frame rate is absurd",
            file=path,
            field="time_s",
            found=f"{fps:.3g} Hz",
            expected="0.1 to 2000 Hz: times are in seconds",
        )
    if len(times) < MIN_FRAMES or times[-1] - times[0] < MIN_SECONDS:
        raise DataError(
            "recording is too short",
            file=path,
            field="time_s",
            found=f"{len(times)} frames in {times[-1] - times[0]:.2g} s",
            expected=f"{MIN_FRAMES} frames and {MIN_SECONDS:g} s, or more",
        )
    return float(times[0]), float(times[-1])


def _check_traces(path: Path, fluorescence: NDArray[np.float32]) -> None:
    """Raise if a trace is all NaN or infinite somewhere, or if no trace ever varies."""
    where = {"file": path, "field": "fluorescence"}
    known = np.isfinite(fluorescence)
    silent = np.flatnonzero(~known.any(axis=1))
    if len(silent):
        raise DataError(
            "a trace is all NaN", **where, found=f"unit {silent[0]}", expected="numbers"
        )
    endless = np.flatnonzero(np.isinf(fluorescence).any(axis=1))
    if len(endless):
        raise DataError(
            "a trace is infinite",
            **where,
            found=f"unit {endless[0]}",
            expected="finite numbers, or NaN where a frame is missing",
        )
    low = np.where(known, fluorescence, np.inf).min(axis=1)
    high = np.where(known, fluorescence, -np.inf).max(axis=1)
    if (low == high).all():
        raise DataError(
            "no trace ever varies",
            **where,
            found=f"{high[0]:g} in every frame",
            expected="fluorescence (a.u.)",
        )


def _check_tiff(bundle: Bundle, n_times: int, period_s: float) -> None:
    """Open the movie (page directories only) and compare its frames with the times."""
    from pipeline.imaging.adapters import open_source

    scan = open_source(bundle.files["tiff"], fps=1 / period_s)
    if abs(scan.n_frames - n_times) > FRAME_SLACK:
        raise DataError(
            "frame times do not fit the movie",
            file=bundle.files["frame_times"][0],
            found=f"{n_times} times",
            expected=f"{scan.n_frames} frames (volumes) in the TIFF",
            remedy="send one time per complete frame",
        )
    channel = bundle.recording.imaging.channel
    if channel not in scan.channel_numbers:
        raise DataError(
            "channel was not saved",
            file="recording.json",
            field="imaging.channel",
            found=channel,
            expected=f"one of {scan.channel_numbers}",
        )


def _check_monitor(bundle: Bundle) -> None:
    path = _inside(bundle, bundle.recording.monitor.calibration, "monitor.calibration")
    bundle.files["monitor"] = [path]
    bundle.curve = MonitorCurve.read_csv(path)


def _check_trials(bundle: Bundle, frames: tuple[float, float]) -> None:
    path = _inside(bundle, "trials.csv", "trials")
    bundle.files["trials"] = [path]
    numbers = read_columns(
        path,
        ["trial_idx", "onset_s", "offset_s"],
        optional=["blank_before_s"],
        nan=["blank_before_s"],
        at_least=1,
    )
    names = read_text_columns(path, ["image"])["image"]
    index = numbers["trial_idx"]
    if (index != np.round(index)).any() or index.min() < 0 or index.max() > INT32:
        raise DataError("trial numbers are not whole numbers", file=path, field="trial_idx")
    if len(np.unique(index)) != len(index):
        raise DataError("a trial number comes twice", file=path, field="trial_idx")
    onset, offset = numbers["onset_s"], numbers["offset_s"]
    bad = np.flatnonzero(offset <= onset)
    if len(bad):
        raise DataError(
            "image goes off before it comes on",
            file=path,
            field=f"offset_s, line {bad[0] + 2}",
            found=f"{onset[bad[0]]} to {offset[bad[0]]} s",
            expected="onset_s < offset_s",
        )
    order = np.argsort(onset, kind="stable")
    overlap = np.flatnonzero(onset[order][1:] < offset[order][:-1] - 1e-6)
    if len(overlap):
        raise DataError(
            "trials overlap in time", file=path, field=f"onset_s, line {order[overlap[0] + 1] + 2}"
        )
    own_clock = (bundle.folder / "clocks.csv").exists()
    outside = (onset > frames[1]) | (offset < frames[0])
    if not own_clock and outside.mean() > 0.5:
        raise DataError(
            "most trials lie outside of the recording",
            file=path,
            field="onset_s",
            found=f"{onset.min():.1f} to {onset.max():.1f} s",
            expected=f"within the frames, {frames[0]:.1f} to {frames[1]:.1f} s",
            remedy="give all times on one clock, or add clocks.csv",
        )
    blank = numbers.get("blank_before_s", np.full(len(index), np.nan))
    bundle.trials = {
        "trial_idx": index.astype(int),
        "image_hash": _resolve_images(bundle, names, path),
        "onset_s": onset,
        "offset_s": offset,
        "blank_before_s": blank,
    }


def _resolve_images(bundle: Bundle, names: list[str], path: Path) -> list[str]:
    """Return the content hash of the image on every trial."""
    given = _given_images(bundle)
    by_name = {name: image_hash(image) for name, image in given.items()}
    by_hash = {by_name[name]: image for name, image in given.items()}
    hashes, missing = {}, set()
    for line, name in enumerate(names):
        if name in hashes:
            continue
        plain = Path(name).name
        found = by_name.get(name) or by_name.get(plain) or by_name.get(f"{plain}.png")
        stem = plain.lower().removesuffix(".png")
        if found is None and HASH.fullmatch(stem):
            found = stem
            if stem not in by_hash:
                missing.add(stem)
        if found is None:
            raise DataError(
                "image is missing",
                file=path,
                field=f"image, line {line + 2}",
                found=repr(name[:80]),
                expected="a file in images/ or a content hash",
                remedy="copy the whole bundle",
            )
        if HASH.fullmatch(stem) and found != stem and len(stem) == 64:
            raise DataError(
                "image is not what its name says",
                file=bundle.folder / "images",
                field=name,
                found=found,
            )
        hashes[name] = found
    used = set(hashes.values())
    bundle.images = {name: image for name, image in by_hash.items() if name in used}
    bundle.missing = sorted(missing)
    monitor = bundle.recording.monitor
    for image in bundle.images.values():
        try:
            check_aspect(image.shape, (monitor.height_px, monitor.width_px))
        except DataError as error:
            raise DataError(str(error), file=bundle.folder / "images") from None
        break  # load_images has seen that all have one size
    return [hashes[name] for name in names]


def _given_images(bundle: Bundle) -> dict[str, NDArray[np.uint8]]:
    folder, archive = bundle.folder / "images", bundle.folder / "images.npz"
    if folder.is_dir() and any(folder.iterdir()):
        files = sorted(folder.glob("*.png")) or [folder / "images.npz"]
        for file in files:
            _inside(bundle, str(file.relative_to(bundle.folder)), "images")
        names, images = load_images(folder)
        bundle.files["images"] = files
    elif archive.is_file():
        names, images = load_images(_inside(bundle, "images.npz", "images"))
        bundle.files["images"] = [archive]
    else:
        return {}
    return dict(zip(names, images, strict=True))


def _check_behavior(bundle: Bundle) -> None:
    pupil = _optional(bundle, "pupil", "pupil.csv")
    if pupil is not None:
        read_pupil(pupil)
    elif (bundle.folder / "eye.avi").exists():
        _optional(bundle, "eye_video", "eye.avi")
        times = _inside(bundle, "eye_times.csv", "eye_times")
        bundle.files["eye_times"] = [times]
        read_columns(times, ["frame", "time_s"], rising="time_s")
    photodiode = _optional(bundle, "photodiode", "photodiode.csv")
    if photodiode is not None:
        read_columns(photodiode, ["time_s", "level"], rising="time_s")
    _optional(bundle, "player", "player.json")
    treadmill = _optional(bundle, "treadmill", "treadmill.csv")
    if treadmill is not None:
        read_columns(treadmill, ["time_s", "counts"], rising="time_s")
        if bundle.recording.treadmill is None:
            raise DataError(
                "treadmill.csv comes without the wheel's size",
                file="recording.json",
                field="treadmill",
                expected='{"diameter_cm": ..., "counts_per_rev": ...}',
            )
