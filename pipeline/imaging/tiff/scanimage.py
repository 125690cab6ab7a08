"""How the pages of a scan are interleaved, by the header of a ScanImage file.

Written after the public description of the format (ScanImage documentation, "TIFF tags" and
"BigTIFF specification") and the header lines of files of versions 3.8 to 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import TypeVar

import numpy as np

from pipeline.errors import DataError
from pipeline.imaging.tiff.header import standard_names
from pipeline.imaging.tiff.regions import RoiField, fields_at, regions, single_size

_MOST_SLICES = 10_000
_MOST = 1e12  # of a positive number, and 1 / the least
_Default = TypeVar("_Default")


@dataclass(frozen=True)
class ScanLayout:
    """How the pages of a scan are interleaved.

    Attributes
    ----------
    fps : float
        Frames (volumes, for several slices) per second (Hz).
    channels : list of int
        Numbers of the saved channels, as on the microscope.
    n_slices, slices_with_flyback : int
        Slices of a volume that are data, and that are written.
    bidirectional : bool
    line_period_s, frame_period_s : float
        Time of one line, of one page (s).
    fields : list of RoiField
    fill_fraction : float
        Share of a line's time in which its pixels are scanned.
    average : int
        Frames that were averaged into one page while it was written.
    repeats : int
        Pages of one slice and channel that follow each other (a slow stack); 1 for a movie.
    slow : bool
        A stack that stays at every slice: no functional scan.
    offset, scale : float
        Gray level of a stored number: offset + scale x number.
    own_fps : float or None
        `fps` by the files, where another was given.
    """

    fps: float
    channels: list[int]
    n_slices: int
    slices_with_flyback: int
    bidirectional: bool
    line_period_s: float
    frame_period_s: float
    fields: list[RoiField]
    fill_fraction: float = 1.0
    average: int = 1
    repeats: int = 1
    slow: bool = False
    offset: float = 0.0
    scale: float = 1.0
    own_fps: float | None = None

    def at_rate(self, fps: float) -> ScanLayout:
        """Return the layout of a scan that ran at another rate (Hz): every time goes with it."""
        factor = self.fps / fps
        return replace(
            self,
            fps=float(fps),
            own_fps=self.own_fps or self.fps,
            line_period_s=self.line_period_s * factor,
            frame_period_s=self.frame_period_s * factor,
        )


def scan_layout(
    header: Mapping[str, object], groups: dict, height: int, width: int, file: str | PathLike
) -> ScanLayout:
    """Work out channels, slices and fields from a header.

    Parameters
    ----------
    header : dict
        From `parse_header`.
    groups : dict
        Region groups, from `regions_of`; empty if there are none.
    height, width : int
        Size of a page (px).
    file : path
        For messages.

    Raises
    ------
    DataError
        If a needed value is missing or impossible, or the fields do not fit the page.
    """
    reader = _Header(header, file)
    channels = reader.channels()
    average = reader.count("hScan2D.logAverageFactor", 1)
    depths, written, repeats, slow = _slices(reader, average)
    frame_rate = reader.positive("hRoiManager.scanFrameRate", None)
    if frame_rate is None:
        frame_rate = 1 / reader.positive("hRoiManager.scanFramePeriod")
    fps = frame_rate
    if written > 1:
        fps = reader.positive("hRoiManager.scanVolumeRate", frame_rate / written)
        if fps > frame_rate / written * 1.01:  # of a header that does not count the flyback
            fps = frame_rate / written
    for name, rate in (("scanFrameRate", frame_rate), ("scanVolumeRate", fps)):
        if not 1e-3 <= rate <= 1e5:
            raise DataError(
                "frame rate is absurd",
                file=file,
                field=f"SI.hRoiManager.{name}",
                found=f"{rate} Hz",
                expected="0.001-100000 Hz",
            )
    line_period = reader.positive("hRoiManager.linePeriod", 1 / frame_rate / height)
    return ScanLayout(
        fps=fps / average,
        channels=channels,
        n_slices=len(depths),
        slices_with_flyback=written,
        bidirectional=bool(reader.value("hScan2D.bidirectional", False)),
        line_period_s=line_period,
        frame_period_s=1 / frame_rate,
        fields=_fields(reader, groups, depths, height, width),
        fill_fraction=min(1.0, reader.positive("hScan2D.fillFractionTemporal", 1.0)),
        average=average,
        repeats=repeats,
        slow=slow,
    )


class _Header:
    def __init__(self, header: Mapping[str, object], file: str | PathLike) -> None:
        self.file = file
        self.entries = standard_names(header)

    def value(self, name: str, default: object = None) -> object:
        return self.entries.get(name, default)

    def fail(
        self,
        problem: str,
        name: str,
        *,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> DataError:
        return DataError(
            problem,
            file=self.file,
            field=f"SI.{name}",
            found=found,
            expected=expected,
            remedy=remedy,
        )

    def numbers(self, name: str) -> list[float]:
        """Return a list of finite numbers; empty if the entry is missing or empty."""
        value = self.entries.get(name, [])
        if not isinstance(value, (list, int, float)) or isinstance(value, bool):
            return []
        flat, waiting = [], [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list):
                waiting += item
            else:
                flat.append(item)
        flat.reverse()
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in flat):
            raise self.fail("header value is impossible", name, found=flat[:8], expected="numbers")
        return [float(v) for v in flat]

    def channels(self) -> list[int]:
        name = "hChannels.channelSave"
        found = self.numbers(name)
        if name not in self.entries or not found:
            raise self.fail(
                "header does not say which channels were saved",
                name,
                remedy="export the scan again, or write channels and fps into a JSON file beside "
                "the TIFF",
            )
        channels = [int(value) for value in found]
        if len(set(channels)) != len(channels) or min(channels) < 1 or channels != found:
            raise self.fail("saved channels are impossible", name, found=found[:16])
        return channels

    def count(self, name: str, default: int, most: int = 1_000_000) -> int:
        """Return a whole number >= 1; the default if it is missing, empty or infinite."""
        value = self.entries.get(name, default)
        if value in ([], "") or value == math.inf:
            return default
        if (
            isinstance(value, (bool, str, list))
            or not isinstance(value, (int, float))
            or not (math.isfinite(value) and 1 <= value <= most and value == int(value))
        ):
            raise self.fail("header value is impossible", name, found=value, expected=f"1-{most}")
        return int(value)

    def positive(self, name: str, *default: _Default) -> float | _Default:
        value = self.entries.get(name)
        if value is None or (default and (value == [] or isinstance(value, (str, list)))):
            if default:
                return default[0]
            raise self.fail(
                "header lacks a value",
                name,
                remedy="give it by argument, or export the file again",
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (math.isfinite(value) and 1 / _MOST < value < _MOST)
        ):
            raise self.fail(
                "header value is impossible", name, found=value, expected="a positive number"
            )
        return float(value)


def unsubtracted(
    header: Mapping[str, object], channels: list[int], file: str | PathLike
) -> dict[int, int]:
    """Return the offset (gray levels) of every saved channel that ScanImage left in the pixels."""
    reader = _Header(header, file)
    value = reader.value("hChannels.channelSubtractOffset")
    flags = value if isinstance(value, list) else [value]
    offsets = reader.value("hChannels.channelOffset")
    offsets = offsets if isinstance(offsets, list) else [offsets]
    found = {}
    for channel in channels:
        if channel > min(len(flags), len(offsets)):
            continue
        offset = offsets[channel - 1]
        if not isinstance(offset, (int, float)) or not math.isfinite(offset) or offset == 0:
            continue
        if flags[channel - 1] in (False, 0) and flags[channel - 1] is not None:
            found[channel] = int(offset)
    return found


def _slices(reader: _Header, average: int) -> tuple[list[float], int, int, bool]:
    """Return depths (um), pages a volume takes per channel, pages a slice takes, and if slow."""
    fast = bool(reader.value("hFastZ.enable", False))
    many = reader.count("hStackManager.numSlices", 1, _MOST_SLICES)
    many = reader.count("hStackManager.actualNumSlices", many, _MOST_SLICES)
    stack = bool(reader.value("hStackManager.enable", many > 1))
    fast = fast or (stack and str(reader.value("hStackManager.stackMode", "")) == "fast")
    depths = reader.numbers("hStackManager.zs") or (reader.numbers("hFastZ.userZs") if fast else [])
    if not fast and (not stack or (many == 1 and len(depths) < 2)):
        return [depths[0] if depths else 0.0], 1, 1, False
    known = "hStackManager.numSlices" in reader.entries
    known = known or "hStackManager.actualNumSlices" in reader.entries
    depths = depths or [0.0]
    n_slices = many if known and (many > 1 or fast) else len(depths)
    if len(depths) < n_slices:
        depths = [0.0] * n_slices
    depths = depths[:n_slices]
    if not fast:
        repeats = reader.count("hStackManager.framesPerSlice", 1)
        return depths, n_slices, max(1, repeats // average), repeats > 1
    written = reader.positive(
        "hStackManager.numFramesPerVolumeWithFlyback",
        reader.positive("hFastZ.numFramesPerVolume", None),
    )
    if written is None:
        discarded = bool(reader.value("hFastZ.discardFlybackFrames", True))
        discard = reader.numbers("hFastZ.numDiscardFlybackFrames") if discarded else []
        written = n_slices + (discard[0] if discard else 0)
    if not n_slices <= written <= _MOST_SLICES:
        raise reader.fail(
            "volume has fewer pages than slices",
            "hFastZ.numFramesPerVolume",
            found=written,
            expected=n_slices,
        )
    return depths, int(written), 1, False


def _fields(
    reader: _Header, groups: dict, depths: list[float], height: int, width: int
) -> list[RoiField]:
    several = bool(reader.value("hRoiManager.mroiEnable", False))
    found = regions(groups, reader.file, needed=several)
    said = reader.value("objectiveResolution")
    scale = None
    if isinstance(said, (int, float)) and math.isfinite(said) and said > 0:
        scale = float(said)
    if several and found:
        fly = reader.value("hScan2D.flytoTimePerScanfield")
        line = reader.positive("hRoiManager.linePeriod", None)
        fly_lines = None
        if isinstance(fly, (int, float)) and 0 <= fly < _MOST and line:
            fly_lines = min(1 << 20, int(np.rint(fly / line)))
        return fields_at(
            found,
            depths,
            height=height,
            width=width,
            fly_lines=fly_lines,
            scale=scale,
            file=reader.file,
        )
    if several:
        raise reader.fail(
            "scan has several fields, and nothing says where they are",
            "hRoiManager.mroiEnable",
            expected="their description in the Artist tag",
            remedy="export the scan with ScanImage's own header",
        )
    corners = reader.value("hRoiManager.imagingFovUm")
    um_per_px, center = single_size(corners, found, scale, height, width)
    return [
        RoiField(height, width, 0, index, *center, depth, um_per_px)
        for index, depth in enumerate(depths)
    ]
