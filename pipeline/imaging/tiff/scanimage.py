"""What the header of a ScanImage file says.

Written after the public description of the format (ScanImage documentation, "TIFF tags" and
"BigTIFF specification") and the header lines of files of versions 5.1 to 2023.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DataError

MAX_DEPTH = 8
_KEY = re.compile(r"SI\w*\..+")


def parse_header(*texts: str) -> dict[str, object]:
    """Return the `SI.*` lines of a header as a dictionary with Python values.

    Parameters
    ----------
    texts : str
        Software tag (ScanImage 2016 and later) and ImageDescription tag (5.x).

    Returns
    -------
    dict
        Keys such as "SI.hChannels.channelSave" (a leading "scanimage." is dropped); MATLAB
        literals become numbers, bools, strings and nested lists. Empty without such lines.
    """
    header = {}
    for text in texts:
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            key = key.strip().removeprefix("scanimage.")
            if equals and _KEY.fullmatch(key):
                header[key] = matlab_value(value)
    return header


def matlab_value(text: str, *, depth: int = 0) -> object:
    """Return a MATLAB literal as a Python value; what is no literal stays text.

    A row or column vector becomes a list, a matrix a list of rows; brackets within each other are
    text from a depth of `MAX_DEPTH`.
    """
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if depth < MAX_DEPTH and text[:1] in "[{" and text[-1:] in "]}" and text:
        if "'" in text or "{" in text[1:]:
            return re.findall(r"'((?:[^']|'')*)'", text) or text
        rows = [
            [matlab_value(part, depth=depth + 1) for part in re.split(r"[\s,]+", row.strip())]
            for row in text[1:-1].split(";")
            if row.strip()
        ]
        if all(len(row) == 1 for row in rows):
            return [row[0] for row in rows]
        return rows[0] if len(rows) == 1 else rows
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


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


def scan_layout(
    header: dict[str, object], roi_text: str, height: int, width: int, file: object
) -> ScanLayout:
    """Work out channels, slices and fields from a header.

    Parameters
    ----------
    header : dict
        From `parse_header`.
    roi_text : str
        Artist tag: JSON with RoiGroups, or empty.
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
    channels = [int(c) for c in reader.listed("hChannels.channelSave", [1])]
    if not channels or len(set(channels)) != len(channels) or min(channels) < 1:
        raise DataError(
            "saved channels are impossible",
            file=file,
            field="SI.hChannels.channelSave",
            found=channels,
        )
    depths, written = _slices(reader)
    frame_rate = reader.positive("hRoiManager.scanFrameRate", None)
    if frame_rate is None:
        frame_rate = 1 / reader.positive("hRoiManager.scanFramePeriod")
    fps = frame_rate
    if written > 1:
        fps = reader.positive("hRoiManager.scanVolumeRate", frame_rate / written)
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
        fps=fps,
        channels=channels,
        n_slices=len(depths),
        slices_with_flyback=written,
        bidirectional=bool(reader.value("hScan2D.bidirectional", False)),
        line_period_s=line_period,
        frame_period_s=1 / frame_rate,
        fields=_fields(reader, roi_text, depths, height, width),
        fill_fraction=min(1.0, reader.positive("hScan2D.fillFractionTemporal", 1.0)),
    )


class _Header:
    def __init__(self, header: dict[str, object], file: object) -> None:
        self.file = file
        # older versions write SI5.hChannels..., newer SI.hChannels...
        self.entries = {key.split(".", 1)[1]: value for key, value in header.items()}

    def value(self, name: str, default: object = None) -> object:
        return self.entries.get(name, default)

    def listed(self, name: str, default: list) -> list:
        value = self.entries.get(name, default)
        return list(np.ravel(value)) if isinstance(value, (list, int, float)) else default

    def positive(self, name: str, *default: float | None) -> float:
        value = self.entries.get(name)
        if value is None or (default and (value == [] or isinstance(value, (str, list)))):
            if default:
                return default[0]
            raise DataError(
                "header lacks a value",
                file=self.file,
                field=f"SI.{name}",
                remedy="give it by argument, or export the file again",
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (math.isfinite(value) and value > 0)
        ):
            raise DataError(
                "header value is impossible",
                file=self.file,
                field=f"SI.{name}",
                found=value,
                expected="a positive number",
            )
        return float(value)


def _slices(reader: _Header) -> tuple[list[float], int]:
    """Return the depths of the slices (um) and how many pages per channel a volume takes."""
    fast = bool(reader.value("hFastZ.enable", False))
    stack = bool(reader.value("hStackManager.enable", False))
    if not fast and not (stack and str(reader.value("hStackManager.stackMode", "")) == "fast"):
        if stack and int(reader.positive("hStackManager.framesPerSlice", 1)) > 1:
            raise DataError(
                "is a slow z stack, not a functional scan",
                file=reader.file,
                field="SI.hStackManager.framesPerSlice",
                expected=1,
            )
        if not stack:
            return [float(reader.listed("hStackManager.zs", [0.0])[:1][0] or 0.0)], 1
    depths = reader.listed("hStackManager.zs", []) or reader.listed("hFastZ.userZs", [0.0])
    n_slices = int(
        reader.positive(
            "hStackManager.actualNumSlices", reader.positive("hStackManager.numSlices", len(depths))
        )
    )
    if len(depths) < n_slices:
        depths = [0.0] * n_slices
    depths = [float(depth) for depth in depths[:n_slices]]
    written = reader.positive(
        "hStackManager.numFramesPerVolumeWithFlyback",
        reader.positive("hFastZ.numFramesPerVolume", None),
    )
    if written is None:
        discard = reader.value("hFastZ.numDiscardFlybackFrames", 0)
        discarded = bool(reader.value("hFastZ.discardFlybackFrames", True)) and discard
        written = n_slices + (int(discard) if discarded else 0)
    if written < n_slices:
        raise DataError(
            "volume has fewer pages than slices",
            file=reader.file,
            field="SI.hFastZ.numFramesPerVolume",
            found=int(written),
            expected=n_slices,
        )
    return depths, int(written)


def _fields(
    reader: _Header, roi_text: str, depths: list[float], height: int, width: int
) -> list[RoiField]:
    rois = _scanfields(reader, roi_text)
    scale = reader.value("objectiveResolution")
    scale = float(scale) if isinstance(scale, (int, float)) and scale > 0 else None
    if not reader.value("hRoiManager.mroiEnable", False) or not rois:
        um_per_px, center = _single_size(reader, rois, scale, height, width)
        return [
            RoiField(height, width, 0, index, *center, depth, um_per_px)
            for index, depth in enumerate(depths)
        ]
    fields = []
    for index, depth in enumerate(depths):
        here = [found for roi in rois if (found := _at_depth(roi, depth)) is not None]
        sizes = [int(found["pixelResolutionXY"][1]) for found in here]
        gap, rest = (0, 0)
        if len(here) > 1:
            gap, rest = divmod(height - sum(sizes), len(here) - 1)
        if gap < 0 or rest or any(int(f["pixelResolutionXY"][0]) != width for f in here):
            raise DataError(
                "imaging fields do not fit the page",
                file=reader.file,
                field="RoiGroups",
                found=f"fields of {[f['pixelResolutionXY'] for f in here]} px",
                expected=f"stacked in {width} x {height} px",
            )
        top = 0
        for found, size in zip(here, sizes, strict=True):
            x, y = (float(v) for v in found["centerXY"])
            um_per_px = None
            if scale:
                across, down = (float(v) * scale for v in found["sizeXY"])
                um_per_px = (down / size, across / width)
                x, y = x * scale, y * scale
            fields.append(RoiField(size, width, top, index, x, y, depth, um_per_px))
            top += size + gap
    return fields


def _scanfields(reader: _Header, text: str) -> list[dict]:
    """Return the regions of interest of the imaging group, each with a list of scanfields."""
    if not text.strip().startswith("{"):
        return []
    try:
        groups = json.loads(text)["RoiGroups"]
        rois = (groups["imagingRoiGroup"] or {}).get("rois") or []
        rois = rois if isinstance(rois, list) else [rois]
        cleaned = []
        for roi in rois:
            if not roi.get("enable", True):
                continue
            fields, depths = roi["scanfields"], np.ravel(roi.get("zs", 0)).astype(float)
            fields = fields if isinstance(fields, list) else [fields]
            for found in fields:
                if min(found["pixelResolutionXY"]) < 1 or len(found["centerXY"]) != 2:
                    raise ValueError(f"scanfield {found}")
            cleaned.append(
                {"fields": fields, "zs": depths, "discrete": bool(roi.get("discretePlaneMode", 0))}
            )
        return cleaned
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if not reader.value("hRoiManager.mroiEnable", False):
            return []
        raise DataError(
            "description of the imaging fields is damaged",
            file=reader.file,
            field="Artist tag",
            found=str(error)[:120],
        ) from error


def _at_depth(roi: dict, depth: float) -> dict | None:
    """Return the scanfield imaged at a depth, interpolated between the depths that are given."""
    zs, fields = roi["zs"], roi["fields"]
    if roi["discrete"]:
        match = np.flatnonzero(np.isclose(zs, depth, atol=0.01))
        return fields[match[0]] if len(match) and match[0] < len(fields) else None
    if len(fields) == 1 or len(zs) != len(fields):
        return fields[0]
    if not zs.min() - 0.01 <= depth <= zs.max() + 0.01:
        return None
    order = np.argsort(zs)
    found = dict(fields[order[0]])
    for name in ("centerXY", "sizeXY"):
        values = np.array([fields[i][name] for i in order], float)
        found[name] = [float(np.interp(depth, zs[order], column)) for column in values.T]
    return found


def _single_size(
    reader: _Header, rois: list[dict], scale: float | None, height: int, width: int
) -> tuple[tuple[float, float] | None, tuple[float | None, float | None]]:
    corners = reader.value("hRoiManager.imagingFovUm")
    if isinstance(corners, list) and len(corners) == 4 and np.shape(corners) == (4, 2):
        corners = np.array(corners, float)
        across, down = np.ptp(corners, axis=0)
        if np.isfinite(corners).all() and across > 0 and down > 0:
            scale_yx = (float(down) / height, float(across) / width)
            return scale_yx, tuple(map(float, corners.mean(axis=0)))
    if scale and rois:
        found = rois[0]["fields"][0]
        across, down = (float(v) * scale for v in found["sizeXY"])
        x, y = (float(v) * scale for v in found["centerXY"])
        return (down / height, across / width), (x, y)
    return None, (None, None)
