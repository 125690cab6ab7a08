"""Structural stacks: one image for every depth, from all the pages that were taken there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.motion.rigid import rigid
from pipeline.imaging.movie import ArrayMovie, MotionCorrected
from pipeline.imaging.tiff import Scan, open_scan

_LEAST_REPEATS, _LEAST_SIDE = 4, 32  # for an estimate of motion between the pages of a slice
_MOST_VOXELS = 1 << 31


@dataclass(frozen=True)
class StructuralStack:
    """A volume, and what its file says of it.

    Attributes
    ----------
    volume : array float32, shape (slices, H, W)
    um_per_voxel : tuple (z, y, x) of float or None
        None where the file does not say.
    repeats : int
        Pages that were averaged for each slice.
    findings : list of Finding
    """

    volume: NDArray[np.float32]
    um_per_voxel: tuple[float | None, float | None, float | None]
    repeats: int
    findings: list[Finding] = field(default_factory=list)


def read_stack(
    file: str | os.PathLike, *, channel: int | None = None, align: bool = True
) -> StructuralStack:
    """Read a structural stack from a TIFF, by what its header says of slices and repeats.

    Parameters
    ----------
    file : path
        Of ScanImage (slow, or fast with flyback), OME, Fiji, or a plain TIFF of one page a slice.
    channel : int, optional
        Number of the channel as on the microscope; the first that was saved if not given.
    align : bool
        Bring the pages of a slice into register before they are averaged, where that makes them
        more alike.

    Raises
    ------
    DataError
        If the file is no stack, is cut off within its first volume, or lacks the channel.
    """
    scan = open_scan(file, fps=None if _knows_rate(file) else 1.0, stack=True)
    numbers = scan.channel_numbers
    if channel is not None and channel not in numbers:
        raise DataError(
            "channel was not saved",
            file=file,
            field="channel",
            found=channel,
            expected=f"one of {numbers}",
        )
    pages = _pages(scan, Path(file))[..., 0 if channel is None else numbers.index(channel)]
    findings = list(scan.findings)
    if channel is None and len(numbers) > 1:
        text = f"{Path(file).name}: the first of channels {numbers} is taken"
        findings.append(Finding("stack-channel", text))
    first = scan.fields[0]
    if len(pages) * first.height_px * first.width_px > _MOST_VOXELS:
        raise DataError("stack is too large", file=file, found=f"{len(pages)} slices")
    volume = np.empty((len(pages), first.height_px, first.width_px), np.float32)
    for index, here in enumerate(pages):
        volume[index] = _mean(scan.pages(here), align=align)
    depths = [f.z_um for f in scan.fields]
    step = None
    if len(depths) > 1 and None not in depths:
        step = float(np.median(np.abs(np.diff(np.array(depths, float))))) or None
    size = first.um_per_px or (None, None)
    return StructuralStack(volume, (step, *size), pages.shape[1], findings)


def _knows_rate(file: str | os.PathLike) -> bool:
    """Return whether a rate is in the file: it plays no part in a stack."""
    try:
        open_scan(file, stack=True)
    except DataError as error:
        if "frame rate is unknown" in str(error):
            return False
        raise
    return True


def _pages(scan: Scan, file: Path) -> NDArray[np.int64]:
    """Return the pages of every slice, shape (slices, repeats, channels)."""
    layout = scan.layout
    if len(scan.fields) > layout.n_slices or any(f.first_line for f in scan.fields):
        raise DataError("stack has several fields in a page", file=file, expected="one")
    if layout.slow and scan.header:
        per_volume = layout.n_slices * layout.repeats * scan.n_channels
        volumes = scan.n_pages // per_volume
        if volumes < 1:
            raise DataError(
                "stack ends within its first volume",
                file=file,
                found=f"{scan.n_pages} pages",
                expected=f"{layout.n_slices} slices x {layout.repeats} frames x "
                f"{scan.n_channels} channels",
                remedy="copy the file again, or cut it to whole slices and say their number",
            )
        pages = np.arange(volumes * per_volume).reshape(
            volumes, layout.n_slices, layout.repeats, scan.n_channels
        )
        pages = pages.transpose(1, 0, 2, 3)
        return pages.reshape(layout.n_slices, volumes * layout.repeats, scan.n_channels)
    table = scan.table
    if table.shape[1] == 1:  # a page for every slice, in the order of the file
        return table
    return table.transpose(1, 0, 2)


def _mean(pages: NDArray, *, align: bool) -> NDArray[np.float32]:
    """Average the pages of one slice, in register if they are more alike then."""
    if not align or len(pages) < _LEAST_REPEATS or min(pages.shape[1:]) < _LEAST_SIDE:
        return pages.mean(axis=0, dtype=np.float64).astype(np.float32)
    movie = ArrayMovie(pages, 1.0)
    found = rigid(movie)
    moved = MotionCorrected(movie, found.y_shifts, found.x_shifts)
    return np.asarray(moved[:]).mean(axis=0, dtype=np.float64).astype(np.float32)
