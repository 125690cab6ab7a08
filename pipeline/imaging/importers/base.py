"""What an importer gives: traces and masks in the form that the chain has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.importers.extracted import ExtractedScan, open_extracted
from pipeline.imaging.segmentation.mask_files import MOST_PIXELS, as_lists, normalized
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.registry import Registry

importers = Registry("importer")


@dataclass
class ImportedScan:
    """One field as another program has left it.

    Attributes
    ----------
    corrected : array float32, shape (units, frames)
        Fluorescence without neuropil, not smoothed where the program keeps such traces.
    pixels : PixelStack, shape (units, H, W)
        Weights of sum 1 per unit, as lists of pixels; every unit has some.
    mean_image : array float32, shape (H, W)
    time_s : array float64, shape (frames,)
        Start of every frame; from 0 at the frame rate where the program keeps no times.
    keep : array of bool, shape (units,)
        What the program, or somebody in it, takes for a cell.
    soma_probability : array float32, shape (units,)
    source_row : array int64, shape (units,)
        Row of the unit in the program's own tables, from 0.
    raw, neuropil, activity : array float32, shape (units, frames), or None
    um_per_px : tuple (y, x) or None
    findings : list of Finding
        What was left out or assumed.
    """

    corrected: NDArray[np.float32]
    pixels: PixelStack
    mean_image: NDArray[np.float32]
    time_s: NDArray[np.float64]
    keep: NDArray[np.bool_]
    soma_probability: NDArray[np.float32]
    source_row: NDArray[np.int64]
    raw: NDArray[np.float32] | None = None
    neuropil: NDArray[np.float32] | None = None
    activity: NDArray[np.float32] | None = None
    um_per_px: tuple[float, float] | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks (units, H, W), made dense: a megabyte a unit of a large field or so."""
        return np.asarray(self.pixels.as_masks())

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weights (units, H, W), made dense."""
        return np.asarray(self.pixels)

    @property
    def fps(self) -> float:
        """Frames per second (Hz)."""
        return 1 / float(np.median(np.diff(self.time_s)))

    def write(self, folder: str | os.PathLike) -> tuple[Path, Path]:
        """Write `traces.npz` and `masks.npz`, as a recording bundle takes them.

        `recording.json` then says `"imaging": {"traces": "traces.npz", "masks": "masks.npz"}`; the
        times must be made those of the rig. Masks are lists of pixels; units keep their rows.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError("cannot be made", file=folder, found=error.strerror) from error
        traces, masks = folder / "traces.npz", folder / "masks.npz"
        optional = {"raw": self.raw, "neuropil": self.neuropil, "activity": self.activity}
        first: dict[str, Any] = {"time_s": self.time_s, "fluorescence": self.corrected}
        first |= {name: value for name, value in optional.items() if value is not None}
        second: dict[str, Any] = as_lists(self.pixels)
        for name in ("mean_image", "keep", "soma_probability", "source_row"):
            second[name] = getattr(self, name)
        np.savez(traces, **first)
        np.savez(masks, **second)
        return traces, masks

    def scan(self, folder: str | os.PathLike) -> ExtractedScan:
        """Write the two files and open them as the scan that all steps take."""
        return open_extracted(*self.write(folder), um_per_px=self.um_per_px)


def assemble(
    file: Path,
    *,
    corrected: NDArray,
    weights: PixelStack,
    time_s: NDArray,
    mean_image: NDArray | None = None,
    keep: NDArray | None = None,
    soma_probability: NDArray | None = None,
    um_per_px: tuple[float, float] | None = None,
    findings: list[Finding] | None = None,
    **optional: Any,
) -> ImportedScan:
    """Check that all parts fit each other and fill in what is missing.

    Parameters
    ----------
    file : path
        For error messages.
    weights : PixelStack, shape (units, H, W)
        Of any scale; listed pixels are the mask. A unit without any, or without a number in its
        trace, is left out.
    mean_image : array, shape (H, W), optional
        Drawn from masks and mean traces where the program kept none.
    keep, soma_probability : array, shape (units,), optional
    raw, neuropil, activity : array, shape (units, frames), optional

    Raises
    ------
    DataError
        If a part does not fit.
    """
    corrected = np.asarray(corrected, np.float32)
    if corrected.ndim != 2 or 0 in corrected.shape:
        raise DataError("traces are not (units, frames)", file=file, found=corrected.shape)
    units, frames = corrected.shape
    time_s = np.asarray(time_s, np.float64)
    if frames < 2 or time_s.shape != (frames,):
        raise DataError(
            "times do not fit the traces",
            file=file,
            found=time_s.shape,
            expected=f"{frames} frames, 2 or more",
        )
    if not np.isfinite(time_s).all() or (np.diff(time_s) <= 0).any():
        raise DataError(
            "frame times do not increase",
            file=file,
            expected="finite, rising times",
            remedy="give fps (frames per second) instead",
        )
    expected = {
        "masks": (weights, (units, *weights.shape[1:])),
        "mean image": (mean_image, weights.shape[1:]),
        "keep": (keep, (units,)),
        "soma_probability": (soma_probability, (units,)),
        **{name: (value, corrected.shape) for name, value in optional.items()},
    }
    for name, (value, shape) in expected.items():
        if value is not None and np.shape(value) != shape:
            raise DataError(
                f"{name} does not fit the traces",
                file=file,
                found=np.shape(value),
                expected=shape,
            )
    keep = np.ones(units, bool) if keep is None else np.asarray(keep, bool)
    probability = np.asarray(keep if soma_probability is None else soma_probability, np.float32)
    findings = list(findings or ())
    gone = {"pixel": weights.counts == 0, "number in their traces": ~np.isfinite(corrected).any(1)}
    rows = np.flatnonzero(~np.any(list(gone.values()), axis=0))
    for name, units_without in gone.items():
        if len(lost := np.flatnonzero(units_without)):
            text = f"{len(lost)} units without a {name} are left out, the first is {lost[0]}"
            findings.append(Finding("units-left-out", f"{file.name}: {text}"))
    if not len(rows):
        raise DataError(
            "no unit can be used", file=file, found="; ".join(finding.text for finding in findings)
        )
    if len(rows) < units:
        weights, corrected = weights.select(rows), corrected[rows]
        keep, probability = keep[rows], probability[rows]
        optional = {n: None if v is None else np.asarray(v)[rows] for n, v in optional.items()}
    pixels = normalized(weights)
    if mean_image is None:
        mean_image = _drawn(pixels, corrected)
    return ImportedScan(
        corrected=corrected,
        pixels=pixels,
        mean_image=np.nan_to_num(np.asarray(mean_image, np.float32)),
        time_s=time_s,
        keep=keep,
        soma_probability=probability,
        source_row=rows.astype(np.int64),
        um_per_px=um_per_px,
        findings=findings,
        **{n: None if v is None else np.asarray(v, np.float32) for n, v in optional.items()},
    )


def _drawn(pixels: PixelStack, traces: NDArray) -> NDArray[np.float32]:
    """Return an image in which every unit is as bright as its mean trace."""
    level = np.nan_to_num(traces.mean(axis=1)).astype(np.float64)
    light = (np.maximum(level, 0) + 1e-3)[pixels.unit] * pixels.value
    size = pixels.shape[1] * pixels.shape[2]
    return np.bincount(pixels.pixel, light, size).reshape(pixels.shape[1:]).astype(np.float32)


def check_size(file: Path, height: float, width: float) -> tuple[int, int]:
    """Return the size of a field as whole numbers; DataError if there is no such field."""
    if not (height >= 1 and width >= 1 and height * width <= MOST_PIXELS):
        raise DataError(
            "field is too large" if height * width > MOST_PIXELS else "field has no size",
            file=file,
            found=f"{height:g} x {width:g} pixels",
            expected=f"at most {MOST_PIXELS} pixels",
        )
    return int(height), int(width)


@contextmanager
def reading(file: Path, program: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file of `program` is read into one clear line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, TypeError, ...
        text = " ".join(str(error).split())[:200].encode("ascii", "replace").decode()
        raise DataError(
            "cannot be read",
            file=file,
            found=text or type(error).__name__,
            expected=f"a file of {program}",
        ) from error


def even_times(frames: int, fps: float | None, file: Path) -> NDArray[np.float64]:
    """Return the starts of frames (s) at a rate, from 0.

    Raises
    ------
    DataError
        If the rate is None or no positive number.
    """
    if fps is None:
        raise DataError(
            "frame rate is unknown", file=file, field="fps", remedy="give fps (frames per second)"
        )
    if not np.isfinite(fps) or fps <= 0:
        raise DataError("frame rate is impossible", file=file, field="fps", found=fps)
    return np.arange(frames) / float(fps)


def import_results(
    path: str | os.PathLike, *, importer: str | None = None, **params: Any
) -> ImportedScan:
    """Import results of another program.

    Parameters
    ----------
    path : path
        A suite2p folder, a CaImAn HDF5 file, EXTRACT's output or an NWB file.
    importer : str, optional
        Registered name; else by the path: a folder is suite2p's, `.nwb` is NWB, `.hdf5` or `.h5`
        is CaImAn's, `.mat` is EXTRACT's.
    params
        Of the importer.

    Raises
    ------
    DataError
        If it is nothing of the kind, or its parts do not fit.
    ValueError
        If importer or parameter is unknown.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such file or folder", file=path)
    kinds = {".nwb": "nwb", ".hdf5": "caiman", ".h5": "caiman", ".mat": "extract"}
    name = importer or ("suite2p" if path.is_dir() else kinds.get(path.suffix.lower()))
    if name is None:
        raise DataError(
            "is of no known program",
            file=path,
            found=path.suffix or "no ending",
            expected=f"a folder or one of {sorted(kinds)}",
            remedy=f"or name an importer of {sorted(importers)}",
        )
    return importers[name](path, **importers.complete(name, params))
