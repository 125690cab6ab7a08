"""Writing movies the way ScanImage (2016 and later) does: BigTIFF with its header and time stamps.

The layout follows ScanImage's "BigTiff specification": after the 16 bytes of a BigTIFF header come
magic number, version and the lengths of two texts, then the microscope's settings (`SI.*`) and the
regions of interest (JSON). Every page's Software and Artist tags point to these two texts.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC, VERSION = 117637889, 4
OBJECTIVE_RESOLUTION = 15.0  # (um per degree of scan angle)
DESCRIPTION_BYTES = 512
ASCII, SHORT, LONG, RATIONAL, LONG8 = 2, 3, 4, 5, 16


def settings(
    *,
    fps: float,
    height: int,
    width: int,
    um_per_px: tuple[float, float],
    n_frames: int,
    frames_per_file: int,
    file_stem: str,
    line_period_s: float,
) -> str:
    """Return the `SI.*` lines of a single-field, single-channel scan."""
    fov_x, fov_y = width * um_per_px[1] / 2, height * um_per_px[0] / 2
    deg_x, deg_y = fov_x / OBJECTIVE_RESOLUTION, fov_y / OBJECTIVE_RESOLUTION

    def corners(x: float, y: float) -> str:
        return f"[{-x:.6g} {-y:.6g};{x:.6g} {-y:.6g};{x:.6g} {y:.6g};{-x:.6g} {y:.6g}]"

    lines = {
        "LINE_FORMAT_VERSION": "1",
        "TIFF_FORMAT_VERSION": f"{VERSION}",
        "VERSION_MAJOR": "'2018b'",
        "VERSION_MINOR": "'1'",
        "acqState": "'grab'",
        "acqsPerLoop": "1",
        "extTrigEnable": "false",
        "hBeams.powers": "18",
        "hChannels.channelAdcResolution": "{14 14 14 14}",
        "hChannels.channelDisplay": "1",
        "hChannels.channelInputRange": "{[-1 1] [-1 1] [-1 1] [-1 1]}",
        "hChannels.channelName": "{'Channel 1' 'Channel 2' 'Channel 3' 'Channel 4'}",
        "hChannels.channelOffset": "[0 0 0 0]",
        "hChannels.channelSave": "1",
        "hChannels.channelSubtractOffset": "[true true true true]",
        "hChannels.channelType": "{'stripe' 'stripe' 'stripe' 'stripe'}",
        "hChannels.channelsAvailable": "4",
        "hChannels.loggingEnable": "1",
        "hCycleManager.enabled": "false",
        "hFastZ.enable": "false",
        "hFastZ.numFramesPerVolume": "1",
        "hFastZ.position": "0",
        "hMotors.motorPosition": "[0 0 200]",
        "hPmts.gains": "[0.6 0 0 0]",
        "hRoiManager.forceSquarePixels": "true",
        "hRoiManager.imagingFovDeg": corners(deg_x, deg_y),
        "hRoiManager.imagingFovUm": corners(fov_x, fov_y),
        "hRoiManager.linePeriod": f"{line_period_s:.9g}",
        "hRoiManager.linesPerFrame": f"{height}",
        "hRoiManager.mroiEnable": "0",
        "hRoiManager.pixelsPerLine": f"{width}",
        "hRoiManager.scanFramePeriod": f"{1 / fps:.9g}",
        "hRoiManager.scanFrameRate": f"{fps:.9g}",
        "hRoiManager.scanRotation": "0",
        "hRoiManager.scanType": "'frame'",
        "hRoiManager.scanVolumeRate": f"{fps:.9g}",
        "hRoiManager.scanZoomFactor": "2",
        "hScan2D.bidirectional": "true",
        "hScan2D.channelsDataType": "'int16'",
        "hScan2D.fillFractionSpatial": "0.9",
        "hScan2D.fillFractionTemporal": "0.712867",
        "hScan2D.flytoTimePerScanfield": "0.001",
        "hScan2D.flybackTimePerFrame": "0.001",
        "hScan2D.linePhase": "0",
        "hScan2D.logAverageFactor": "1",
        "hScan2D.logFileStem": f"'{file_stem}'",
        "hScan2D.logFramesPerFile": f"{frames_per_file}",
        "hScan2D.scannerType": "'Resonant'",
        "hScan2D.uniformSampling": "false",
        "hScan_ResScanner.bidirectional": "true",
        "hStackManager.actualNumSlices": "1",
        "hStackManager.actualNumVolumes": "1",
        "hStackManager.enable": "false",
        "hStackManager.framesPerSlice": f"{n_frames}",
        "hStackManager.numFramesPerVolume": "1",
        "hStackManager.numSlices": "1",
        "hStackManager.numVolumes": "1",
        "hStackManager.stackZStepSize": "0",
        "hStackManager.zs": "0",
        "imagingSystem": "'ResScanner'",
        "loopAcqInterval": "10",
        "objectiveResolution": f"{OBJECTIVE_RESOLUTION:g}",
    }
    return "\n".join(f"SI.{key} = {value}" for key, value in lines.items())


def roi_groups(*, height: int, width: int, um_per_px: tuple[float, float]) -> str:
    """Return the JSON of the one imaging region, in degrees of scan angle."""
    size = [
        width * um_per_px[1] / OBJECTIVE_RESOLUTION,
        height * um_per_px[0] / OBJECTIVE_RESOLUTION,
    ]
    pixel = [size[0] / width, size[1] / height]
    field = {
        "ver": 1,
        "classname": "scanimage.mroi.scanfield.fields.RotatedRectangle",
        "name": "Default Imaging Scanfield",
        "enable": 1,
        "centerXY": [0, 0],
        "sizeXY": size,
        "rotationDegrees": 0,
        "pixelResolutionXY": [width, height],
        "pixelToRefTransform": [
            [pixel[0], 0, -size[0] / 2 - pixel[0] / 2],
            [0, pixel[1], -size[1] / 2 - pixel[1] / 2],
            [0, 0, 1],
        ],
    }
    roi = {
        "ver": 1,
        "classname": "scanimage.mroi.Roi",
        "name": "Default Imaging ROI",
        "enable": 1,
        "zs": 0,
        "discretePlaneMode": 0,
        "scanfields": field,  # an object, not a list: MATLAB's JSON of a single one
    }
    group = {
        "ver": 1,
        "classname": "scanimage.mroi.RoiGroup",
        "name": "Default Imaging ROI Group",
        "rois": roi,
    }
    groups = {
        "imagingRoiGroup": group,
        "photostimRoiGroups": None,
        "integrationRoiGroup": {
            "ver": 1,
            "classname": "scanimage.mroi.RoiGroup",
            "name": "",
            "rois": [],
        },
    }
    return json.dumps({"RoiGroups": groups}, indent=2)


class ScanImageWriter:
    """Stream int16 frames to one ScanImage file; a context manager.

    Parameters
    ----------
    path : path
    header, rois : str
        Texts for all pages.
    height, width : int
    um_per_px : (float, float)
        Size of a pixel, y and x, for the resolution tags.
    """

    def __init__(
        self,
        path: str | Path,
        header: str,
        rois: str,
        *,
        height: int,
        width: int,
        um_per_px: tuple[float, float],
    ) -> None:
        self.path, self.height, self.width = Path(path), height, width
        texts = [header.encode() + b"\0", rois.encode() + b"\0"]
        offsets = [32, 32 + len(texts[0])]
        first = offsets[1] + len(texts[1])
        first += -first % 16
        self._next = first
        self._file = self.path.open("wb")
        self._file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first))
        self._file.write(struct.pack("<IIII", MAGIC, VERSION, *map(len, texts)))
        self._file.write(b"".join(texts).ljust(first - 32, b"\0"))
        self._data_bytes = height * width * 2
        resolution = [struct.pack("<II", round(1e7 / um), 1000) for um in um_per_px[::-1]]
        self._entries = [
            (254, LONG, 1, 0),
            (256, LONG, 1, width),
            (257, LONG, 1, height),
            (258, SHORT, 1, 16),
            (259, SHORT, 1, 1),  # no compression
            (262, SHORT, 1, 1),  # black is zero
            (270, ASCII, DESCRIPTION_BYTES, None),
            (273, LONG8, 1, None),
            (274, SHORT, 1, 1),
            (277, SHORT, 1, 1),
            (278, LONG, 1, height),
            (279, LONG8, 1, self._data_bytes),
            (282, RATIONAL, 1, resolution[0]),
            (283, RATIONAL, 1, resolution[1]),
            (284, SHORT, 1, 1),
            (296, SHORT, 1, 3),  # pixels per centimetre
            (305, ASCII, len(texts[0]), offsets[0]),
            (315, ASCII, len(texts[1]), offsets[1]),
            (339, SHORT, 1, 2),  # signed
        ]
        self._ifd_bytes = 8 + 20 * len(self._entries) + 8
        self._page_bytes = self._ifd_bytes + DESCRIPTION_BYTES + self._data_bytes
        self._page_bytes += -self._page_bytes % 16
        self._last_link: int | None = None

    def _ifd(self, offset: int) -> bytes:
        values = {270: offset + self._ifd_bytes, 273: offset + self._ifd_bytes + DESCRIPTION_BYTES}
        out = [struct.pack("<Q", len(self._entries))]
        for tag, kind, count, value in self._entries:
            value = values.get(tag, value)
            packed = value if isinstance(value, bytes) else struct.pack("<Q", value)
            out.append(struct.pack("<HHQ", tag, kind, count) + packed)
        out.append(struct.pack("<Q", offset + self._page_bytes))
        return b"".join(out)

    def write(
        self, frames: NDArray[np.int16], numbers: NDArray[np.integer], time_s: NDArray[np.floating]
    ) -> None:
        """Append frames (n, height, width) with their 1-based numbers and time stamps (s)."""
        if frames.shape[1:] != (self.height, self.width) or frames.dtype != np.int16:
            raise ValueError(
                f"frames must be int16 (n, {self.height}, {self.width}), "
                f"got {frames.dtype} {frames.shape}"
            )
        for frame, number, seconds in zip(frames, numbers, time_s, strict=True):
            text = (
                f"frameNumbers = {number}\nacquisitionNumbers = 1\n"
                f"frameNumberAcquisition = {number}\nframeTimestamps_sec = {seconds:.9f}\n"
                "acqTriggerTimestamps_sec = -0.000021560\n"
                "nextFileMarkerTimestamps_sec = -1.000000000\n"
                "endOfAcquisition = 0\nendOfAcquisitionMode = 0\ndcOverVoltage = 0\n"
                "epoch = [2026 11 23 9 0 0.000]\nauxTrigger0 = []\nauxTrigger1 = []\n"
                "auxTrigger2 = []\nauxTrigger3 = []\nI2CData = {}\n"
            )
            page = self._ifd(self._next) + text.encode().ljust(DESCRIPTION_BYTES, b"\0")
            page += frame.astype("<i2", copy=False).tobytes()
            self._file.write(page.ljust(self._page_bytes, b"\0"))
            self._last_link = self._next + self._ifd_bytes - 8
            self._next += self._page_bytes

    def close(self) -> None:
        """End the chain of pages and close the file."""
        if self._file.closed:
            return
        if self._last_link is not None:
            self._file.seek(self._last_link)
            self._file.write(struct.pack("<Q", 0))
        self._file.close()

    def __enter__(self) -> ScanImageWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
