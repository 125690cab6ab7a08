"""A scan of TIFF files: its fields, and the frames of each, read when asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.movie import MovieBase
from pipeline.imaging.tiff.pages import TiffPages
from pipeline.imaging.tiff.regions import RoiField
from pipeline.imaging.tiff.scanimage import ScanLayout
from pipeline.imaging.tiff.stamps import Arrangement, counted


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
        rows = np.arange(self.height_px, dtype=np.float64) - (self.height_px - 1) / 2
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
    frame_place : array of int64, shape (frames,)
        Place of each frame in its acquisition, from 0: what is missing is left out.
    frame_run : array of int64, shape (frames,)
        Acquisition of each frame, from 0; its number is `acquisitions[run]`.
    frame_seconds : array, shape (frames,), or None
        Time stamp of each frame by the microscope (s), where it wrote one.
    pages_per_frame : int
        Pages that one channel of a frame takes, flyback included.
    numbered : bool
        The microscope numbered its frames: `frame_place` is what it says, not a count.
    findings : list of Finding
        What had to be left out or corrected.
    """

    def __init__(
        self,
        pages: list[TiffPages],
        layout: ScanLayout,
        header: dict[str, object],
        *,
        arranged: Arrangement | None = None,
        findings: list[Finding] | None = None,
        numbered: bool = False,
    ) -> None:
        self._pages, self._layout, self.header = pages, layout, header
        self.files = [page.path for page in pages]
        self.n_channels = len(layout.channels)
        self.channel_numbers = list(layout.channels)
        self.fps, self.bidirectional = layout.fps, layout.bidirectional
        self._first = np.concatenate([[0], np.cumsum([len(page) for page in pages])])
        total, written = int(self._first[-1]), layout.slices_with_flyback
        if arranged is None:
            arranged = counted(total, self.n_channels, layout.n_slices, written)
        self._arranged, self._table = arranged, arranged.table
        self.n_frames = len(arranged.table)
        self.pages_per_frame, self.numbered = written, numbered
        self.frame_place, self.frame_run = arranged.place, arranged.run
        self.frame_seconds, self.acquisitions = arranged.seconds, arranged.acquisitions
        self.findings = [f for page in pages for f in page.findings] + arranged.findings
        self.findings += findings or []
        if self.n_frames < 1:
            raise DataError(
                "scan has not one complete frame",
                file=self.files[0],
                found=f"{total} pages",
                expected=f"at least {written * self.n_channels}",
            )
        self.fields = [self._info(i, field) for i, field in enumerate(layout.fields)]
        self.n_fields = len(self.fields)

    def at_rate(self, fps: float) -> Scan:
        """Return the scan as one that ran at another rate (Hz); delays and line times follow."""
        return self._changed(self._layout.at_rate(fps))

    def with_scale(self, um_per_px: tuple[float, float]) -> Scan:
        """Return the scan with another size of its pixels (y, x; um)."""
        fields = [replace(field, um_per_px=um_per_px) for field in self._layout.fields]
        return self._changed(replace(self._layout, fields=fields))

    def _changed(self, layout: ScanLayout) -> Scan:
        own = sum(len(page.findings) for page in self._pages)
        return Scan(
            self._pages,
            layout,
            self.header,
            arranged=replace(self._arranged, findings=[]),
            findings=self.findings[own:],
            numbered=self.numbered,
        )

    @property
    def own_fps(self) -> float:
        """Frames (volumes) per second by the files, whatever rate was given (Hz)."""
        return self._layout.own_fps or self.fps

    @property
    def table(self) -> NDArray[np.int64]:
        """Number of the page of every frame, slice and channel, counted over all files."""
        return self._table

    @property
    def n_pages(self) -> int:
        """Pages of all files."""
        return int(self._first[-1])

    @property
    def layout(self) -> ScanLayout:
        """How the pages are interleaved."""
        return self._layout

    def _info(self, index: int, field: RoiField) -> FieldInfo:
        layout = self._layout
        middle = field.top_px + (field.height_px - 1) / 2
        delay = field.slice_index * layout.frame_period_s + middle * layout.line_period_s
        delay += (layout.average - 1) / layout.average / 2 / layout.fps  # of those averaged
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

    def read(self, field: int, channel: int, start: int, stop: int) -> NDArray:
        """Return frames `start:stop` of a field and channel, shape (frames, H, W)."""
        place = self._layout.fields[field]
        wanted = self._table[start:stop, place.slice_index, channel]
        whole = self.pages(wanted)
        if whole.dtype.kind == "f" and not np.isfinite(whole).all():
            which = int(np.searchsorted(self._first, wanted[0], side="right")) - 1
            raise DataError(
                "pixels are not finite numbers",
                file=self.files[which],
                field=f"frames {start}-{stop}",
                remedy="write the movie again without NaN",
            )
        return whole[:, place.top_px : place.top_px + place.height_px, : place.width_px]

    def pages(self, wanted: NDArray[np.int64]) -> NDArray:
        """Return pages by their numbers, counted over all files, shape (len(wanted), H, W)."""
        first = self._pages[0]
        whole = np.empty((len(wanted), first.height, first.width), first.dtype.newbyteorder("="))
        which = np.searchsorted(self._first, wanted, side="right") - 1
        begin = 0
        while begin < len(wanted):  # a run of pages of one file at a time
            end = begin + 1
            while end < len(wanted) and which[end] == which[begin]:
                end += 1
            local = wanted[begin:end] - self._first[which[begin]]
            self._pages[which[begin]].read(local, whole[begin:end])
            begin = end
        return self._gray(whole)

    def _gray(self, stored: NDArray) -> NDArray:
        offset, scale = self._layout.offset, self._layout.scale
        if offset == 0 and scale == 1:
            return stored
        if offset == -32768 and scale == 1 and stored.dtype == np.uint16:  # signed, as ImageJ does
            return (stored ^ np.uint16(0x8000)).view(np.int16)
        return (stored * np.float32(scale) + np.float32(offset)).astype(np.float32)


class ScanMovie(MovieBase):
    """Frames of one field and channel of a scan, read from the files when asked."""

    def __init__(self, scan: Scan, field: int, channel: int) -> None:
        info = scan.fields[field]
        self.scan, self.field, self.channel = scan, field, channel
        self.shape = (scan.n_frames, info.height_px, info.width_px)
        self.fps, self.um_per_px, self.bidirectional = scan.fps, info.um_per_px, scan.bidirectional

    def _read(self, start: int, stop: int) -> NDArray:
        return self.scan.read(self.field, self.channel, start, stop)
