"""What an importer gives: traces and masks in the form that the chain has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.importers.extracted import ExtractedScan, open_extracted
from pipeline.registry import Registry

importers = Registry("importer")


@dataclass
class ImportedScan:
    """One field as another program has left it.

    Attributes
    ----------
    corrected : array float32, shape (units, frames)
        Fluorescence without neuropil, not smoothed where the program keeps such traces.
    masks : array of bool, shape (units, H, W)
    weights : array float32, shape (units, H, W)
        Sum 1 per unit.
    mean_image : array float32, shape (H, W)
    time_s : array float64, shape (frames,)
        Start of every frame; from 0 at the frame rate where the program keeps no times.
    keep : array of bool, shape (units,)
        What the program, or somebody in it, takes for a cell.
    soma_probability : array float32, shape (units,)
    raw, neuropil, activity : array float32, shape (units, frames), or None
    um_per_px : tuple (y, x) or None
    """

    corrected: NDArray[np.float32]
    masks: NDArray[np.bool_]
    weights: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    time_s: NDArray[np.float64]
    keep: NDArray[np.bool_]
    soma_probability: NDArray[np.float32]
    raw: NDArray[np.float32] | None = None
    neuropil: NDArray[np.float32] | None = None
    activity: NDArray[np.float32] | None = None
    um_per_px: tuple[float, float] | None = None

    @property
    def fps(self) -> float:
        """Frames per second (Hz)."""
        return 1 / float(np.median(np.diff(self.time_s)))

    def write(self, folder: str | os.PathLike) -> tuple[Path, Path]:
        """Write `traces.npz` and `masks.npz`, as a recording bundle takes them.

        `recording.json` then says `"imaging": {"traces": "traces.npz", "masks": "masks.npz"}`; the
        times must be made those of the rig. Units keep their rows.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError("cannot be made", file=folder, found=error.strerror) from error
        traces, masks = folder / "traces.npz", folder / "masks.npz"
        optional = {"raw": self.raw, "neuropil": self.neuropil, "activity": self.activity}
        given = {name: value for name, value in optional.items() if value is not None}
        np.savez(traces, time_s=self.time_s, fluorescence=self.corrected, **given)
        np.savez(
            masks,
            masks=self.masks,
            mean_image=self.mean_image,
            weights=self.weights,
            keep=self.keep,
            soma_probability=self.soma_probability,
        )
        return traces, masks

    def scan(self, folder: str | os.PathLike) -> ExtractedScan:
        """Write the two files and open them as the scan that all steps take."""
        return open_extracted(*self.write(folder), um_per_px=self.um_per_px)


def assemble(
    file: Path,
    *,
    corrected: NDArray,
    weights: NDArray,
    time_s: NDArray,
    mean_image: NDArray | None = None,
    keep: NDArray | None = None,
    soma_probability: NDArray | None = None,
    **optional: Any,
) -> ImportedScan:
    """Check that all parts fit each other and fill in what is missing.

    Parameters
    ----------
    file : path
        For error messages.
    weights : array, shape (units, H, W)
        Of any scale; pixels above 0 are the mask.
    mean_image : array, shape (H, W), optional
        Drawn from masks and mean traces where the program kept none.

    Raises
    ------
    DataError
        If a part does not fit.
    """
    corrected = np.asarray(corrected, np.float32)
    if corrected.ndim != 2 or 0 in corrected.shape:
        raise DataError("traces are not (units, frames)", file=file, found=corrected.shape)
    units, frames = corrected.shape
    if frames < 2 or len(time_s) != frames:
        raise DataError(
            "times do not fit the traces",
            file=file,
            found=len(time_s),
            expected=f"{frames} frames, 2 or more",
        )
    if weights.ndim != 3 or len(weights) != units:
        raise DataError(
            "masks do not fit the traces",
            file=file,
            found=weights.shape,
            expected=f"({units}, H, W)",
        )
    weights = np.maximum(np.nan_to_num(weights), 0).astype(np.float32)
    total = weights.sum(axis=(1, 2))
    empty = np.flatnonzero(total <= 0)
    if len(empty):
        raise DataError("a mask has no pixel", file=file, field=f"unit {empty[0]}")
    weights /= total[:, None, None]
    if mean_image is None:
        level = np.nan_to_num(corrected.mean(axis=1)).astype(np.float32)
        mean_image = np.einsum("u,uhw->hw", np.maximum(level, 0) + 1e-3, weights)
    mean_image = np.asarray(mean_image, np.float32)
    if mean_image.shape != weights.shape[1:]:
        raise DataError(
            "mean image does not fit the masks",
            file=file,
            found=mean_image.shape,
            expected=weights.shape[1:],
        )
    for name, value in {"keep": keep, "soma_probability": soma_probability}.items():
        if value is not None and np.shape(value) != (units,):
            raise DataError(
                f"{name} does not fit the traces",
                file=file,
                found=np.shape(value),
                expected=(units,),
            )
    for name in ("raw", "neuropil", "activity"):
        value = optional.get(name)
        if value is not None and np.shape(value) != corrected.shape:
            raise DataError(
                f"{name} does not fit the traces",
                file=file,
                found=np.shape(value),
                expected=corrected.shape,
            )
        optional[name] = None if value is None else np.asarray(value, np.float32)
    keep = np.ones(units, bool) if keep is None else np.asarray(keep, bool)
    probability = keep if soma_probability is None else soma_probability
    return ImportedScan(
        corrected=corrected,
        masks=weights > 0,
        weights=weights,
        mean_image=np.nan_to_num(mean_image),
        time_s=np.asarray(time_s, np.float64),
        keep=keep,
        soma_probability=np.asarray(probability, np.float32),
        **optional,
    )


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
        A suite2p folder, a CaImAn HDF5 file or an NWB file.
    importer : str, optional
        Registered name; else by the path: a folder is suite2p's, `.nwb` is NWB, `.hdf5` or `.h5`
        is CaImAn's.
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
    kinds = {".nwb": "nwb", ".hdf5": "caiman", ".h5": "caiman"}
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
