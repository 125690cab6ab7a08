"""What other programs than ScanImage write into a TIFF about its pages: Fiji, tifffile, and more.

A description that is in the file is understood or refused, never passed over: a movie of two
channels that is read as one is wrong in every frame.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.tiff.pages import TiffPages

_UM = {
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "å": 1e-4,
    "pm": 1e-6,
    "in": 25400.0,
    "inch": 25400.0,
}
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "min": 60.0, "h": 3600.0}
_SECONDS |= {"ms": 1e-3, "msec": 1e-3, "us": 1e-6, "ns": 1e-9}
SIDECAR = "write fps, channels and slices into a JSON file beside the TIFF"


@dataclass
class Description:
    """What a file says of its pages.

    Attributes
    ----------
    table : array of int64, shape (frames, slices, channels)
        Number of the page, counted over all files; -1 where there is none.
    fps : float or None
        Volumes per second (Hz).
    um_per_px : tuple (y, x) or None
    channels : list of int
    depths_um : list of float or None
    offset, scale : float
        Gray level of a stored number.
    line_period_s, frame_period_s : float or None
    bidirectional : bool
    is_stack : bool
        One volume of several slices, and no time.
    findings : list of Finding
    """

    table: NDArray[np.int64]
    fps: float | None = None
    um_per_px: tuple[float, float] | None = None
    channels: list[int] = field(default_factory=list)
    depths_um: list[float] | None = None
    offset: float = 0.0
    scale: float = 1.0
    line_period_s: float | None = None
    frame_period_s: float | None = None
    bidirectional: bool = True
    is_stack: bool = False
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels = self.channels or list(range(1, self.table.shape[2] + 1))


def in_um(size: object, unit: str) -> float | None:
    """Return a length in um; None if it or its unit says nothing."""
    factor = _UM.get(_plain_unit(unit))
    return _positive(size, factor)


def in_seconds(time: object, unit: str) -> float | None:
    """Return a duration in s; None if it or its unit says nothing."""
    return _positive(time, _SECONDS.get(_plain_unit(unit)))


def _plain_unit(unit: str) -> str:
    plain = unit.strip().replace("\\u00B5", "u").replace("µ", "u").replace("\u03bc", "u")
    return plain.lower()


def _positive(value: object, factor: float | None) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if factor is None or not math.isfinite(number) or number <= 0:
        return None
    return number * factor


def ordered_table(sizes: dict[str, int], order: str, n_pages: int) -> NDArray[np.int64]:
    """Return the table of pages that run through the axes of `order`, slowest first.

    Parameters
    ----------
    sizes : dict of "T", "Z", "C" to int
    order : str
        Such as "TZC".
    n_pages : int
        Pages from this number on are not there: -1.
    """
    shape = [sizes[axis] for axis in order]
    pages = np.arange(math.prod(shape), dtype=np.int64)
    pages[pages >= n_pages] = -1
    return pages.reshape(shape).transpose([order.index(axis) for axis in "TZC"])


def whole_frames(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames of which no page is missing, and their places."""
    whole = (table >= 0).all(axis=(1, 2))
    return table[whole], np.flatnonzero(whole)


def describe_imagej(pages: Sequence[TiffPages]) -> Description:
    """Return what the description of ImageJ and Fiji says.

    Raises
    ------
    DataError
        If it contradicts the pages, or the gray levels are calibrated by a curve.
    """
    first = pages[0]
    entries = imagej_entries(first)

    def count(name: str, default: int = 1) -> int:
        text = entries.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 10**8:
            raise _contradiction(first, name, text[:40])
        return int(text[:9])

    images = count("images")
    if len(pages) == 1 and len(first) == 1 and images > 1:
        first.spread(images)  # stacks over 4 GB are one directory and all the pixels
    channels, slices, frames = count("channels"), count("slices"), count("frames")
    findings = []
    is_stack = False
    if "frames" not in entries and slices > 1:  # a movie that was opened as a stack
        frames, slices = slices, 1
        text = f"{first.path.name}: its slices are taken for frames, as it names no frames"
        findings.append(Finding("slices-as-frames", text))
    elif slices > 1 and frames == 1:
        is_stack = True
    total = sum(len(page) for page in pages)
    said = channels * slices * frames
    per_frame = channels * slices
    cut = any(page.cut for page in pages)
    if total % per_frame and not cut:
        raise _contradiction(first, "channels, slices", f"{channels} x {slices} in {total} pages")
    if len(pages) == 1 and images > 1 and images != said:
        raise _contradiction(first, "images", f"{images}, not {channels} x {slices} x {frames}")
    if len(pages) == 1 and images > total:
        text = f"{first.path.name}: {total} of the {images} images of its description are there"
        findings.append(Finding("pages-missing", text))
    table = ordered_table({"T": -(-total // per_frame), "Z": slices, "C": channels}, "TZC", total)
    offset, scale = _calibration(entries, first)
    interval = in_seconds(entries.get("finterval"), entries.get("tunit", "s"))
    size = None
    if first.px_per_unit is not None and "unit" in entries:
        down, across = (in_um(1 / v, entries["unit"]) for v in first.px_per_unit)
        size = (down, across) if down and across else None
    return Description(
        table,
        fps=1 / interval if interval else None,
        um_per_px=size,
        offset=offset,
        scale=scale,
        is_stack=is_stack,
        findings=findings,
    )


def imagej_entries(page: TiffPages) -> dict[str, str]:
    """Return the lines of an ImageJ description; empty if it is none."""
    if not page.description.startswith("ImageJ="):
        return {}
    found = {}
    for line in page.description.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found


def _calibration(entries: dict[str, str], page: TiffPages) -> tuple[float, float]:
    """Return offset and scale of the gray levels."""
    if "c0" not in entries and "c1" not in entries and entries.get("cf", "0") == "0":
        return 0.0, 1.0
    values = [entries.get("c0", "0"), entries.get("c1", "1")]
    try:
        offset, scale = (float(value) for value in values)
    except ValueError:
        offset, scale = math.nan, math.nan
    if entries.get("cf", "0") != "0" or not (math.isfinite(offset) and math.isfinite(scale)):
        raise DataError(
            "gray levels are calibrated by a curve",
            file=page.path,
            field="cf, c0, c1",
            found=[entries.get("cf"), *values],
            expected="a straight line",
            remedy="remove the calibration in Fiji (Analyze > Calibrate: None) and save again",
        )
    if scale == 0:
        raise _contradiction(page, "c1", "0")
    return offset, scale


def _contradiction(page: TiffPages, name: str, found: object) -> DataError:
    return DataError(
        "description does not fit the pages",
        file=page.path,
        field=name,
        found=found,
        expected=f"{len(page)} pages in the file",
        remedy=SIDECAR,
    )


def tifffile_shape(page: TiffPages) -> dict | None:
    """Return the JSON that tifffile writes beside an array; None if it is none."""
    if page.description[:1] != "{" or '"shape"' not in page.description[:4096]:
        return None
    try:
        said = json.loads(page.description[: 1 << 20])
        shape = [int(v) for v in said["shape"]]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return {**said, "shape": shape} if shape and min(shape) > 0 and len(shape) < 12 else None


def describe_tifffile(pages: Sequence[TiffPages]) -> Description:
    """Return what tifffile's `shape` and `axes` say.

    Raises
    ------
    DataError
        If several axes have no name, or do not fit the pages.
    """
    first = pages[0]
    said = tifffile_shape(first) or {}
    shape, axes = said["shape"], str(said.get("axes", "")).upper()
    if shape[-2:] != [first.height, first.width]:
        if shape[-1] == 1 and shape[-3:-1] == [first.height, first.width]:
            shape, axes = shape[:-1], axes[:-1]
        else:
            raise _contradiction(first, "shape", shape)
    if len(axes) != len(shape) or not axes.endswith("YX"):
        axes = ""
    lead = [(axes[i] if axes else "", n) for i, n in enumerate(shape[:-2]) if n > 1]
    total = sum(len(page) for page in pages)
    count = math.prod(n for _, n in lead)
    if len(pages) == 1 and len(first) == 1 and count > 1:
        first.spread(count)
        total = count
    names = "".join("T" if letter in ("", "I", "Q") else letter for letter, _ in lead)
    if len(set(names)) != len(names) or set(names) - set("TZC"):
        raise DataError(
            "has several axes, and nothing says which is time",
            file=first.path,
            field="shape",
            found=f"{shape}, axes {said.get('axes', 'not given')}",
            expected="frames x height x width, or axes of the letters T, Z, C, Y, X",
            remedy=SIDECAR,
        )
    sizes = {"T": 1, "Z": 1, "C": 1} | dict(zip(names, (n for _, n in lead), strict=True))
    per_frame = sizes["Z"] * sizes["C"]
    if names in ("", "T"):
        sizes["T"] = total
        table = ordered_table(sizes, "TZC", total)
    else:
        if total % count and not any(page.cut for page in pages):
            raise _contradiction(first, "shape", shape)
        order = "".join(axis for axis in "TZC" if axis not in names) + names
        one = ordered_table(sizes, order, count)
        blocks = -(-total // count)
        table = np.concatenate([one + count * block for block in range(blocks)])
        table[table >= total] = -1
    is_stack = "T" not in names and per_frame > 1 and sizes["Z"] > 1 and len(table) == 1
    return Description(table, is_stack=is_stack)


def describe_micromanager(pages: Sequence[TiffPages]) -> Description:
    """Return what Micro-Manager wrote into every page.

    Raises
    ------
    DataError
        If two pages have one place.
    """
    places = np.concatenate([page.places for page in pages if page.places is not None])
    if len(places) != sum(len(page) for page in pages) or (places[:, :3] < 0).any():
        raise DataError(
            "Micro-Manager's description of some pages is missing",
            file=pages[0].path,
            remedy=SIDECAR,
        )
    channel, slice_, frame = places[:, :3].astype(np.int64).T
    shape = (int(frame.max()) + 1, int(slice_.max()) + 1, int(channel.max()) + 1)
    if math.prod(shape) > 4 * len(places) + 64:
        raise DataError(
            "Micro-Manager's numbers leave most places empty",
            file=pages[0].path,
            found=f"{len(places)} pages for {shape} frames, slices, channels",
            remedy=SIDECAR,
        )
    table = np.full(shape, -1, np.int64)
    table[frame, slice_, channel] = np.arange(len(places))
    if (table >= 0).sum() != len(places):
        raise DataError(
            "two pages have one place (several positions?)",
            file=pages[0].path,
            field="Micro-Manager's FrameIndex, SliceIndex, ChannelIndex",
            remedy="save every position to a file of its own",
        )
    fps = None
    elapsed = places[:, 3]
    one = table[:, 0, 0]
    if len(one) > 2 and (one >= 0).all() and (elapsed[one] >= 0).all():
        gap = float(np.median(np.diff(elapsed[one]))) / 1000
        fps = 1 / gap if gap > 0 else None
    match = re.search(r'"PixelSizeUm"\s{0,4}:\s{0,4}"?(\d{1,6}\.?\d{0,12})', pages[0].private)
    size = in_um(match[1], "um") if match else None
    return Description(
        table,
        fps=fps,
        um_per_px=(size, size) if size else None,
        is_stack=shape[0] == 1 and shape[1] > 1,
    )
