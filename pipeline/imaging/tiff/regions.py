"""Regions of interest of a mesoscope: which lines of a page belong to which, and where they lie.

The fields of one depth are scanned one after the other into one page. Between two of them lie the
lines that pass while the mirrors fly to the next, as many as the header's fly-to time holds. A
depth with fewer or shorter fields than the fullest one leaves the end of its pages empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from pipeline.errors import DataError

_ROUNDING = 2  # lines by which versions differ in rounding the fly-to time


@dataclass(frozen=True)
class RoiField:
    """One rectangle imaged at one depth, as the header describes it."""

    height_px: int
    width_px: int
    top_px: int
    slice_index: int
    x_um: float | None
    y_um: float | None
    z_um: float | None
    um_per_px: tuple[float, float] | None


@dataclass(frozen=True)
class _Region:
    fields: list[dict]
    zs: np.ndarray
    discrete: bool


def regions(groups: dict, file: str | PathLike, *, needed: bool) -> list[_Region]:
    """Return the enabled regions of the imaging group, in the order of scanning.

    Raises
    ------
    DataError
        If they are `needed` and their description is damaged.
    """
    try:
        rois = (groups.get("imagingRoiGroup") or {}).get("rois") or []
        rois = rois if isinstance(rois, list) else [rois]
        found = []
        for roi in rois:
            if "scanfields" not in roi and not needed:  # MATLAB's empty array
                continue
            if not roi.get("enable", True):
                continue
            fields = roi["scanfields"]
            fields = fields if isinstance(fields, list) else [fields]
            depths = np.ravel(roi.get("zs", 0)).astype(float)
            found.append(
                _Region(
                    [_checked(field) for field in fields],
                    depths,
                    bool(roi.get("discretePlaneMode", 0)),
                )
            )
        return found
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if not needed:
            return []
        raise DataError(
            "description of the imaging fields is damaged",
            file=file,
            field="Artist tag",
            found=str(error)[:120],
        ) from error


def _checked(field: dict) -> dict:
    pixels = [int(v) for v in field["pixelResolutionXY"]]
    center, size = ([float(v) for v in field[name]] for name in ("centerXY", "sizeXY"))
    if len(pixels) != 2 or min(pixels) < 1 or len(center) != 2 or len(size) != 2:
        raise ValueError(f"scanfield of {pixels} px at {center}")
    if not np.isfinite([*center, *size]).all():
        raise ValueError(f"scanfield at {center}")
    return {"pixels": pixels, "center": center, "size": size}


def fields_at(
    found: Sequence[_Region],
    depths: Sequence[float],
    *,
    height: int,
    width: int,
    fly_lines: int | None,
    scale: float | None,
    file: str | PathLike,
) -> list[RoiField]:
    """Cut the pages of every depth into fields.

    Parameters
    ----------
    found : list
        From `regions`.
    depths : list of float
        Depth of every slice (um).
    height, width : int
        Size of a page (px).
    fly_lines : int or None
        Lines between two fields by the header's fly-to time; None if it does not say.
    scale : float or None
        um per degree of scan angle.

    Raises
    ------
    DataError
        If the fields do not fit the page, or there is none.
    """
    slices = [[f for roi in found if (f := _at_depth(roi, depth))] for depth in depths]
    gap = _gap(slices, height, width, fly_lines, file)
    fields = []
    for index, (here, depth) in enumerate(zip(slices, depths, strict=True)):
        top = 0
        for one in here:
            across, lines = one["pixels"]
            x, y = one["center"]
            um_per_px = None
            if scale:
                um_per_px = (one["size"][1] * scale / lines, one["size"][0] * scale / across)
                x, y = x * scale, y * scale
            fields.append(RoiField(lines, width, top, index, x, y, depth, um_per_px))
            top += lines + gap
    return fields


def _gap(slices: list[list[dict]], height: int, width: int, fly_lines: int | None, file) -> int:
    """Return the lines between two fields; the fullest depth has to fill the page."""
    sizes = [[one["pixels"][1] for one in here] for here in slices]

    def fail(problem: str, expected: str) -> DataError:
        shown = [one["pixels"] for here in slices for one in here][:12]
        return DataError(
            problem,
            file=file,
            field="RoiGroups",
            found=f"fields of {shown} px" if shown else "no field at the depths of the scan",
            expected=expected,
            remedy="export the scan with ScanImage's own header",
        )

    if not any(sizes):
        raise fail("no imaging field is scanned", "at least one")
    if any(one["pixels"][0] != width for here in slices for one in here):
        raise fail("imaging fields do not fit the page", f"stacked in {width} x {height} px")

    def filled(gap: int) -> int:
        return max(sum(here) + gap * (len(here) - 1) for here in sizes if here)

    if max(len(here) for here in sizes) < 2:
        if filled(0) != height:
            raise fail("imaging fields do not fit the page", f"{width} x {height} px")
        return 0
    fitting = [gap for gap in _candidates(sizes, height) if filled(gap) == height]
    if fly_lines is not None:
        near = [gap for gap in fitting if abs(gap - fly_lines) <= _ROUNDING]
        if near:
            return min(near, key=lambda gap: abs(gap - fly_lines))
        if abs(height - filled(fly_lines) - fly_lines) <= _ROUNDING:  # and flight after the last
            return fly_lines
        if len(sizes) > 1 or not fitting or fly_lines > 0:
            expected = f"{height} lines with {fly_lines} lines of flight between two fields"
            raise fail("imaging fields do not fit the page", expected)
    if not fitting or (len(sizes) > 1 and len({(sum(s), len(s)) for s in sizes}) > 1):
        raise fail("imaging fields do not fit the page", f"stacked in {width} x {height} px")
    return fitting[0]


def _candidates(sizes: list[list[int]], height: int) -> list[int]:
    """Return the gaps with which one of the depths would fill the page."""
    gaps = set()
    for here in sizes:
        if len(here) > 1:
            gap, rest = divmod(height - sum(here), len(here) - 1)
            if gap >= 0 and not rest:
                gaps.add(gap)
    return sorted(gaps)


def _at_depth(roi: _Region, depth: float) -> dict | None:
    """Return the scanfield imaged at a depth, interpolated between the depths that are given."""
    zs, fields = roi.zs, roi.fields
    if roi.discrete:
        match = np.flatnonzero(np.isclose(zs, depth, atol=0.01))
        return fields[match[0]] if len(match) and match[0] < len(fields) else None
    if len(fields) == 1 or len(zs) != len(fields):
        return fields[0]
    if not zs.min() - 0.01 <= depth <= zs.max() + 0.01:
        return None
    order = np.argsort(zs)
    found = dict(fields[order[0]])
    for name in ("center", "size"):
        values = np.array([fields[i][name] for i in order], float)
        found[name] = [float(np.interp(depth, zs[order], column)) for column in values.T]
    return found


def single_size(
    corners: object, found: Sequence[_Region], scale: float | None, height: int, width: int
) -> tuple[tuple[float, float] | None, tuple[float | None, float | None]]:
    """Return pixel size (y, x) and center (x, y) of the one field of a scan (um)."""
    try:
        outline = np.array(corners, float)
    except (TypeError, ValueError, OverflowError):
        outline = np.zeros(0)
    if outline.shape == (4, 2) and np.isfinite(outline).all():
        across, down = np.ptp(outline, axis=0)
        if across > 0 and down > 0:
            size = (float(down) / height, float(across) / width)
            x, y = map(float, outline.mean(axis=0))
            return size, (x, y)
    if scale and found and found[0].fields:
        one = found[0].fields[0]
        across, down = (v * scale for v in one["size"])
        x, y = (v * scale for v in one["center"])
        return (down / height, across / width), (x, y)
    return None, (None, None)
