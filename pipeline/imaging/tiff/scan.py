"""Open the TIFF files of a scan, ScanImage's or plain ones, as movies."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.movie import MovieBase
from pipeline.imaging.tiff.pages import TiffPages, read_pages
from pipeline.imaging.tiff.scanimage import RoiField, ScanLayout, parse_header, scan_layout


@dataclass(frozen=True)
class FieldInfo:
    """One imaged rectangle.

    Attributes
    ----------
    index : int
        0-based, slices in order of acquisition and fields from top to bottom of the page.
    height_px, width_px : int
    um_per_px : tuple (y, x) or None
        Size of a pixel (um); None if the header does not say.
    x_um, y_um, z_um : float or None
        Center in the coordinates of the microscope, right and down positive (um), and depth.
    delay_s : float
        When the middle line of the field begins, after the start of the frame or volume (s).
    line_period_s : float
        Time from one line to the next (s).
    first_line : int
        Line of the page in which the field begins, from 0.
    bidirectional : bool
        Odd lines of the page are scanned from right to left.
    fill_fraction : float
        Share of a line's time in which its pixels are scanned, the rest being the turn.
    """

    index: int
    height_px: int
    width_px: int
    um_per_px: tuple[float, float] | None
    x_um: float | None
    y_um: float | None
    z_um: float | None
    delay_s: float
    line_period_s: float
    first_line: int = 0
    bidirectional: bool = False
    fill_fraction: float = 1.0

    def row_delays(self) -> NDArray[np.float64]:
        """Return when each row begins to be scanned, after the start of the frame or volume (s)."""
        rows = np.arange(self.height_px) - (self.height_px - 1) / 2
        return self.delay_s + rows * self.line_period_s

    def pixel_delays(self) -> NDArray[np.float64]:
        """Return when each pixel is scanned, after the start of the frame or volume (s), (H, W).

        Pixels of a line are taken as evenly spaced in time.
        """
        place = (np.arange(self.width_px) + 0.5) / self.width_px
        place = (1 - self.fill_fraction) / 2 + self.fill_fraction * place
        odd = (self.first_line + np.arange(self.height_px)) % 2 == 1
        place = np.where((odd & self.bidirectional)[:, None], 1 - place, place)
        return self.row_delays()[:, None] + place * self.line_period_s


class Scan:
    """A scan: one or several TIFF files, read when asked.

    Attributes
    ----------
    files : list of Path
        In the order of acquisition.
    n_frames, n_fields, n_channels : int
        Complete frames (volumes, if there are several slices), fields and saved channels.
    fps : float
        Frames (volumes) per second (Hz).
    bidirectional : bool
        Whether rows alternate in direction, so that the raster phase has to be found.
    header : dict
        `SI.*` entries; empty for a plain TIFF.
    fields : list of FieldInfo
    """

    def __init__(
        self, pages: list[TiffPages], layout: ScanLayout, header: dict[str, object]
    ) -> None:
        self._pages, self._layout, self.header = pages, layout, header
        self.files = [page.path for page in pages]
        self.n_channels = len(layout.channels)
        self.channel_numbers = list(layout.channels)
        self.fps, self.bidirectional = layout.fps, layout.bidirectional
        self._first = np.concatenate([[0], np.cumsum([len(page) for page in pages])])
        self._stride = layout.slices_with_flyback * self.n_channels
        self.n_frames = int(self._first[-1]) // self._stride
        if self.n_frames < 1:
            raise DataError(
                "scan has not one complete frame",
                file=self.files[0],
                found=f"{self._first[-1]} pages",
                expected=f"at least {self._stride}",
            )
        self.fields = [self._info(i, field) for i, field in enumerate(layout.fields)]
        self.n_fields = len(self.fields)

    def _info(self, index: int, field: RoiField) -> FieldInfo:
        layout = self._layout
        middle = field.top_px + (field.height_px - 1) / 2
        delay = field.slice_index * layout.frame_period_s + middle * layout.line_period_s
        return FieldInfo(
            index,
            field.height_px,
            field.width_px,
            field.um_per_px,
            field.x_um,
            field.y_um,
            field.z_um,
            delay,
            layout.line_period_s,
            field.top_px,
            layout.bidirectional,
            layout.fill_fraction,
        )

    def movie(self, field: int = 0, channel: int = 0) -> ScanMovie:
        """Return the movie of a field and channel (0-based positions, not channel numbers)."""
        if not 0 <= field < self.n_fields:
            raise ValueError(f"no field {field}; the scan has {self.n_fields}, counted from 0")
        if not 0 <= channel < self.n_channels:
            raise ValueError(
                f"no channel {channel}; the scan has {self.n_channels}, counted from 0"
            )
        return ScanMovie(self, field, channel)

    def interleaved(self, *, channels: int, slices: int, bidirectional: bool) -> Scan:
        """Return a scan of plain pages that run through channels, then slices, then time."""
        layout, whole = self._layout, self._layout.fields[0]
        fields = [RoiField(**{**vars(whole), "slice_index": index}) for index in range(slices)]
        period = 1 / (layout.fps * slices)
        changes = {
            "channels": list(range(1, channels + 1)),
            "n_slices": slices,
            "slices_with_flyback": slices,
            "bidirectional": bidirectional,
            "line_period_s": period / whole.height_px,
            "frame_period_s": period,
            "fields": fields,
        }
        return Scan(self._pages, ScanLayout(**{**vars(layout), **changes}), self.header)

    def read(self, field: int, channel: int, start: int, stop: int) -> NDArray:
        """Return frames `start:stop` of a field and channel, shape (frames, H, W)."""
        place = self._layout.fields[field]
        within = place.slice_index * self.n_channels + channel
        wanted = np.arange(start, stop) * self._stride + within
        first = self._pages[0]
        whole = np.empty((len(wanted), first.height, first.width), first.dtype.newbyteorder("="))
        which = np.searchsorted(self._first, wanted, side="right") - 1
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            local = wanted[here] - self._first[number]
            self._pages[number].read(local, whole[here[0] : here[-1] + 1])
        if whole.dtype.kind == "f" and not np.isfinite(whole).all():
            raise DataError(
                "pixels are not finite numbers",
                file=self.files[which[0]],
                field=f"frames {start}-{stop}",
                remedy="write the movie again without NaN",
            )
        return whole[:, place.top_px : place.top_px + place.height_px, : place.width_px]


class ScanMovie(MovieBase):
    """Frames of one field and channel of a scan, read from the files when asked."""

    def __init__(self, scan: Scan, field: int, channel: int) -> None:
        info = scan.fields[field]
        self.scan, self.field, self.channel = scan, field, channel
        self.shape = (scan.n_frames, info.height_px, info.width_px)
        self.fps, self.um_per_px, self.bidirectional = scan.fps, info.um_per_px, scan.bidirectional

    def _read(self, start: int, stop: int) -> NDArray:
        return self.scan.read(self.field, self.channel, start, stop)


def open_scan(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
) -> Scan:
    """Open the files of a scan; nothing but the page directories is read.

    Parameters
    ----------
    files : path or sequence of paths
        TIFF files in any order if ScanImage numbered their frames, else in order of acquisition; a
        folder means its .tif files by name.
    fps : float, optional
        Frames per second (Hz). Needed for a TIFF without a ScanImage header; otherwise it
        overrides the header.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um), where the header does not say or is to be overridden.

    Returns
    -------
    Scan

    Raises
    ------
    DataError
        If a file is malformed, files do not belong together, or the frame rate is unknown.
    """
    paths = _listed(files)
    pages = [read_pages(path) for path in paths]
    first = pages[0]
    for page in pages[1:]:
        if (page.height, page.width, page.dtype) != (first.height, first.width, first.dtype):
            raise DataError(
                "files of one scan differ in size or type",
                file=page.path,
                found=f"{page.height} x {page.width} {page.dtype}",
                expected=f"{first.height} x {first.width} {first.dtype} as {first.path.name}",
            )
    pages = _in_order(pages)
    first = pages[0]
    if np.any(first.offsets < 0):  # a page that only tifffile can read: find out now whether it can
        first.read(np.array([0]), np.empty((1, first.height, first.width), first.dtype))
    header = parse_header(first.description, first.software)
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number; got {fps}")
    if header:
        if first.dtype.kind == "f" or first.dtype.itemsize != 2:
            raise DataError(
                "pixel type is not ScanImage's",
                file=first.path,
                found=first.dtype,
                expected="16-bit integers",
            )
        if fps is not None and "SI.hRoiManager.scanFrameRate" not in header:
            header["SI.hRoiManager.scanFrameRate"] = fps
        layout = scan_layout(header, first.artist, first.height, first.width, first.path)
    else:
        layout = _plain_layout(first, fps)
    changes = {} if fps is None else {"fps": float(fps)}
    if um_per_px is not None:
        size = (float(um_per_px[0]), float(um_per_px[1]))
        changes["fields"] = [RoiField(**{**vars(f), "um_per_px": size}) for f in layout.fields]
    return Scan(pages, ScanLayout(**{**vars(layout), **changes}), header)


def _listed(files) -> list[Path]:
    if isinstance(files, (str, os.PathLike)):
        path = Path(files)
        if path.is_dir() and any(p.suffix.lower() in (".tif", ".tiff") for p in path.iterdir()):
            found = [p for p in path.iterdir() if p.suffix.lower() in (".tif", ".tiff")]
            return sorted(
                found,
                key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)],
            )
        return [path]
    paths = [Path(file) for file in files]
    if not paths:
        raise ValueError("no files were given")
    if len({path.resolve() for path in paths}) != len(paths):
        raise DataError("the same file is listed twice", file=paths[0].parent)
    return paths


def _in_order(pages: list[TiffPages]) -> list[TiffPages]:
    """Sort files by the number of their first frame, if ScanImage wrote one and all differ."""
    numbers = []
    for page in pages:
        match = re.search(r"frameNumbers?\s*=\s*(\d+)", page.description)
        numbers.append(int(match[1]) if match else None)
    if None in numbers or len(set(numbers)) != len(numbers):
        return pages
    return [page for _, page in sorted(zip(numbers, pages, strict=True), key=lambda pair: pair[0])]


def _plain_layout(page: TiffPages, fps: float | None) -> ScanLayout:
    """Return the layout of a TIFF without ScanImage header: one field, one channel per page."""
    entries = dict(re.findall(r"^(\w+)=(\S+)\s*$", page.description, re.MULTILINE))
    is_imagej = "ImageJ" in entries
    if fps is None and is_imagej and float(entries.get("finterval", 0) or 0) > 0:
        fps = 1 / float(entries["finterval"])
    if fps is None:
        raise DataError(
            "has no ScanImage header, so that its frame rate is unknown",
            file=page.path,
            remedy="give fps (frames per second)",
        )
    channels = int(entries.get("channels", 1)) if is_imagej else 1
    slices = int(entries.get("slices", 1)) if is_imagej and "frames" in entries else 1
    if is_imagej and len(page) == 1 and int(entries.get("images", 1)) > 1 and page.offsets[0] >= 0:
        # ImageJ writes stacks over 4 GB as one directory followed by all the pixels
        page.offsets = page.offsets[0] + np.arange(int(entries["images"])) * page.page_bytes
        if page.offsets[-1] + page.page_bytes > page.path.stat().st_size:
            raise DataError(
                "file is shorter than its images",
                file=page.path,
                expected=f"{entries['images']} images",
            )
    fields = [
        RoiField(page.height, page.width, 0, index, None, None, None, None)
        for index in range(slices)
    ]
    return ScanLayout(
        fps=float(fps),
        channels=list(range(1, channels + 1)),
        n_slices=slices,
        slices_with_flyback=slices,
        bidirectional=True,
        line_period_s=1 / fps / slices / page.height,
        frame_period_s=1 / fps / slices,
        fields=fields,
    )
