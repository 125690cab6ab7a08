"""What an NWB file of this program holds, as arrays and numbers: no file and no table is known."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Finding

RECORDING = "recording"  # table of the entries of recording.json, by which a file of ours is known
MONITOR = "monitor_calibration"
CLOCKS = "clocks"
PROVENANCE = "image_provenance"
COUNTS = "treadmill_counts"
TRACES = ("corrected", "raw", "neuropil", "denoised", "activity")

Load = Callable[[], NDArray]


@dataclass(frozen=True)
class Column:
    """One column of a table: what it means, and a value a row."""

    meaning: str
    values: Sequence[Any] | NDArray


@dataclass(frozen=True)
class Table:
    """Rows with columns that say what they mean."""

    name: str
    meaning: str
    columns: Mapping[str, Column]

    @classmethod
    def of_rows(
        cls,
        name: str,
        meaning: str,
        rows: Sequence[Mapping[str, Any]],
        meanings: Mapping[str, str],
    ) -> Table:
        """Return rows as a table with the columns of `meanings`; None where a row has none."""
        columns = {n: Column(text, [row.get(n) for row in rows]) for n, text in meanings.items()}
        return cls(name, meaning, columns)

    def known(self) -> dict[str, Column]:
        """Return the columns in which anything is known: not None or NaN throughout."""
        return {
            name: column
            for name, column in self.columns.items()
            if any(value is not None and value == value for value in column.values)
        }

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values) if self.columns else 0


@dataclass(frozen=True)
class Trace:
    """One kind of trace of the units of a field.

    Attributes
    ----------
    load : callable
        Returns an array, shape (units, frames); it may be a memory map.
    unit, meaning : str
    """

    load: Load
    unit: str
    meaning: str


@dataclass
class Plane:
    """One imaged field.

    Attributes
    ----------
    index : int
        From 0.
    shape : (int, int)
        Height and width (px).
    um_per_px : (float, float) or None
        Height and width of a pixel (um).
    center_um : tuple of three, float or None
        Center of the field in the microscope's coordinates: right, down, depth (um).
    delay_s, line_period_s : float
        Middle line after the start of the frame, and from one line to the next (s).
    bidirectional : bool
    movie : movie, optional
        `shape` (frames, H, W) and slices of frames; the raw one, as recorded.
    linked : list of (Path, int)
        Files of the movie, where it is named and not copied, and the frame that each begins with.
    raster_px : float, optional
        Content of odd rows against even rows (px).
    motion : array, shape (2, frames), optional
        Displacement of the content, y and x (px).
    blocks : (array (2, frames, down, across), rows, columns), optional
        Displacement of blocks (px), and the blocks' centers (px).
    images : dict of name to array, shape (H, W)
    masks : (start, pixel, weight), optional
        As `pipeline.imaging.segmentation.masks.pack_masks`.
    units : Table
        A row a mask: `unit_id`, `keep` where somebody decided, quality.
    traces : dict of name to Trace
        Names of `TRACES`; rows as those of `units`.
    findings : list of Finding
        What a reader left out or assumed.
    """

    index: int
    shape: tuple[int, int]
    um_per_px: tuple[float, float] | None = None
    center_um: tuple[float | None, float | None, float | None] = (None, None, None)
    delay_s: float = 0.0
    line_period_s: float = 0.0
    bidirectional: bool = False
    movie: Any = None
    linked: list[tuple[Path, int]] = field(default_factory=list)
    raster_px: float | None = None
    motion: NDArray | None = None
    blocks: tuple[NDArray, list[float], list[float]] | None = None
    images: dict[str, NDArray] = field(default_factory=dict)
    masks: tuple[NDArray, NDArray, NDArray] | None = None
    units: Table = field(default_factory=lambda: Table("units", "", {}))
    traces: dict[str, Trace] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Session:
    """One scan with all that is known of it.

    Attributes
    ----------
    entries : dict
        As recording.json has them: `animal_id`, `session`, `scan_idx`, `rig`, `monitor`, ...
    start : datetime
        Start of the scan, local time of the rig; its clock is taken to be 0 then.
    said : dict
        What no row knows and a person says: see `write.SAID`.
    frame_times : array, shape (frames,)
        Start of every frame (volume), rig clock (s).
    planes : list of Plane
    images : dict of content hash to uint8 array (H, W)
        All images that were shown, or planned of this scan.
    about : dict of content hash to str
        One line of every image: kind, unit, variant.
    trials : Table
        `start_time`, `stop_time` (s, rig clock), `image` (content hash), and more.
    pupil : array, shape (samples, 5), optional
        Time (s), x, y, radius (px), confidence.
    eye_video : Path, optional
    counts : array, shape (samples, 2), optional
        Time (s) and reading of the treadmill's counter.
    speed : array, shape (samples, 2), optional
        Time (s) and running speed (cm/s).
    monitor : (array, array), optional
        Gray levels, and their luminances (cd/m2).
    tables : list of Table
        Clocks, methods, quality, provenance, predictions, matches.
    """

    entries: dict[str, Any]
    start: datetime.datetime
    frame_times: NDArray[np.float64]
    planes: list[Plane]
    trials: Table
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    pupil: NDArray | None = None
    eye_video: Path | None = None
    counts: NDArray | None = None
    speed: NDArray | None = None
    monitor: tuple[NDArray, NDArray] | None = None
    tables: list[Table] = field(default_factory=list)


def flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested entries as dotted names; None is left out.

    >>> flat({"rig": "a", "monitor": {"width_px": 64}, "plan": None})
    {'rig': 'a', 'monitor.width_px': 64}
    """
    found: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = value
    return found


def nested(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested entries; the inverse of `flat`.

    >>> nested({"rig": "a", "monitor.width_px": 64})
    {'rig': 'a', 'monitor': {'width_px': 64}}
    """
    found: dict[str, Any] = {}
    for name, value in entries.items():
        *above, last = name.split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return found
