"""What the rig shows when: a schedule of its own, or a package to the letter."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

FORMAT = "inception-package/1"
REFRESH_HZ = 60.0  # of the monitor


@dataclass(frozen=True)
class Schedule:
    """Trials as planned; arrays of shape (trials,) unless said otherwise."""

    images: NDArray[np.uint8]  # (images, H, W)
    names: tuple[str, ...]  # (images,) as in the `image` column of trials.csv
    files: tuple[str, ...]  # (images,) file names
    trial_idx: NDArray[np.int64]
    image_index: NDArray[np.int64]
    duration_s: NDArray[np.float64]
    blank_before_s: NDArray[np.float64]
    plan: str | None = None


@dataclass(frozen=True)
class Shown:
    """Trials as they were on the monitor, in order; arrays of shape (shown trials,)."""

    trial_idx: NDArray[np.int64]
    image_index: NDArray[np.int64]  # of the image that was really on
    onset_s: NDArray[np.float64]  # (rig clock)
    offset_s: NDArray[np.float64]
    blank_before_s: NDArray[np.float64]
    end_s: float
    faults: tuple[tuple[int, str], ...]  # (trial_idx, dropped | late | repeated)


def make_schedule(
    images: NDArray,
    rng: np.random.Generator,
    *,
    repeated: int,
    repeats: int,
    duration_s: float,
    blank_s: tuple[float, float],
    minutes: float | None,
) -> Schedule:
    """Shuffle single and repeated images into trials.

    The last `repeated` images are shown `repeats` times, the others once; with `minutes`, as many
    of the single images as fit.
    """
    images = np.asarray(images)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (n, H, W), got {images.dtype} {images.shape}")
    if not 0 <= repeated <= len(images):
        raise ValueError(f"{repeated} repeated images of {len(images)}")
    n_single = len(images) - repeated
    if minutes is not None:
        n_trials = int(minutes * 60 / (duration_s + np.mean(blank_s)))
        n_single = min(n_single, n_trials - repeated * repeats)
        if n_single < 0:
            raise ValueError(
                f"{repeated} images x {repeats} repeats need more than {minutes} minutes"
            )
    last = np.arange(len(images) - repeated, len(images))
    index = np.concatenate([np.arange(n_single), np.repeat(last, repeats)])
    rng.shuffle(index)
    names = tuple(f"image_{i:05d}.png" for i in range(len(images)))
    return Schedule(
        images=images,
        names=names,
        files=names,
        trial_idx=np.arange(len(index)),
        image_index=index,
        duration_s=np.full(len(index), duration_s),
        blank_before_s=rng.uniform(*blank_s, len(index)),
    )


def content_hash(image: NDArray[np.uint8]) -> str:
    """Return SHA-256 over ``{height}x{width}:`` and the row-major pixels, 64 hex digits."""
    head = f"{image.shape[0]}x{image.shape[1]}:".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


def read_package(folder: str | Path, animal_id: int) -> Schedule:
    """Read a package the way a rig does: manifest, trials and the images they name.

    Raises
    ------
    DataError
        If it is no package, is for another animal, or an image is not what its name says.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError("no manifest", file=path, remedy="give a folder of `inception package`")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise DataError(
            "unknown format",
            file=path,
            found=manifest.get("format"),
            expected=FORMAT,
        )
    if int(manifest["animal_id"]) != animal_id:
        raise DataError(
            "package of another animal", file=path, found=manifest["animal_id"], expected=animal_id
        )
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    if not rows:
        raise DataError("no trials", file=folder / "trials.csv")
    names = tuple(dict.fromkeys(row["image"] for row in rows))
    images = []
    for name in names:
        file = folder / "images" / f"{name}.png"
        if not file.is_file():
            raise DataError("image of a trial is missing", file=file)
        image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8 or image.ndim != 2:
            raise DataError("not an 8-bit gray PNG", file=file)
        pixels = np.asarray(image, np.uint8)
        if content_hash(pixels) != name:
            raise DataError("pixels do not match the name", file=file, found=content_hash(pixels))
        images.append(pixels)
    if len({image.shape for image in images}) != 1:
        raise DataError("images of several sizes", file=folder / "images")
    place = {name: i for i, name in enumerate(names)}
    return Schedule(
        images=np.array(images),
        names=names,
        files=tuple(f"{name}.png" for name in names),
        trial_idx=np.array([int(row["trial_idx"]) for row in rows]),
        image_index=np.array([place[row["image"]] for row in rows]),
        duration_s=np.array([float(row["duration_s"]) for row in rows]),
        blank_before_s=np.array([float(row["blank_before_s"]) for row in rows]),
        plan=str(manifest["plan"]),
    )


def present(
    schedule: Schedule,
    start_s: float,
    rng: np.random.Generator,
    *,
    dropped: float = 0.0,
    late: float = 0.0,
    repeated: float = 0.0,
) -> Shown:
    """Show the trials on a monitor that refreshes at 60 Hz and makes mistakes.

    Parameters
    ----------
    start_s : float
        When the first blank begins (rig clock).
    dropped, late, repeated : float
        Probability that a trial is not shown at all (the screen stays blank), comes on 2-12
        refreshes late, or that the image before it is shown once more in its place.
    """
    faults: list[tuple[int, str]] = []
    rows = []
    now, blank, before = start_s, 0.0, None
    for i in range(len(schedule.trial_idx)):
        trial, duration = int(schedule.trial_idx[i]), float(schedule.duration_s[i])
        draw, delay = rng.random(), int(rng.integers(2, 13)) / REFRESH_HZ
        planned = now + float(schedule.blank_before_s[i])
        blank += float(schedule.blank_before_s[i])
        image = int(schedule.image_index[i])
        if draw < dropped:
            faults.append((trial, "dropped"))
            now, blank = planned + duration, blank + duration
            continue
        onset = np.ceil(planned * REFRESH_HZ - 1e-6) / REFRESH_HZ
        if draw < dropped + late:
            faults.append((trial, "late"))
            onset += delay
        elif draw < dropped + late + repeated and before not in (None, image):
            faults.append((trial, "repeated"))
            image = before
        offset = onset + round(duration * REFRESH_HZ) / REFRESH_HZ
        rows.append((trial, image, onset, offset, onset - (planned - blank)))
        now, blank, before = offset, 0.0, image
    trials, images, onsets, offsets, blanks = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    # a photodiode reads the flip with a fraction of a millisecond of noise
    noise = rng.normal(0, 0.0002, (2, len(rows)))
    return Shown(
        trial_idx=trials,
        image_index=images,
        onset_s=onsets + noise[0],
        offset_s=offsets + noise[1],
        blank_before_s=blanks,
        end_s=now,
        faults=tuple(faults),
    )
