"""Frames of an eye video, one at a time, from any container that OpenCV opens or a TIFF stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from pipeline.errors import DataError

TIFF = (".tif", ".tiff")


def frames_of(path: str | os.PathLike, every: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield every n-th frame of a video as a gray image (H, W), one at a time.

    The frames are those that can be decoded: the number that a header promises is often an
    estimate. A file that was cut is told by the size that its container declares.

    Raises
    ------
    DataError
        If the file is no readable video, was cut, or a frame cannot be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("is no file", file=path, expected="a video of the eye")
    yield from (_pages if path.suffix.lower() in TIFF else _decoded)(path, every)


@dataclass(frozen=True)
class VideoFacts:
    """What the header of a video says, after its first frame was decoded.

    Attributes
    ----------
    frames : int
        Often an estimate: `count_frames` reads the video to its end.
    height_px, width_px : int
    fps : float
        Frames per second (Hz) of the header; 0 if it does not say.
    """

    frames: int
    height_px: int
    width_px: int
    fps: float


def read_facts(path: str | os.PathLike) -> VideoFacts:
    """Open a video of the eye and decode its first frame.

    Raises
    ------
    DataError
        If the file is no readable video, or was cut.
    """
    path = Path(path)
    first = next(iter(frames_of(path)), None)
    if first is None:
        raise DataError("has no frame", file=path, expected="a video of the eye")
    if path.suffix.lower() in TIFF:
        return VideoFacts(count_frames(path), first.shape[0], first.shape[1], 0.0)
    declared, size = declared_size(path), path.stat().st_size
    if declared is not None and declared > size:
        raise DataError(
            "video ends early",
            file=path,
            found=f"{size:,} bytes",
            expected=f"{declared:,} bytes by its header",
            remedy="copy the file again",
        )
    video = cv2.VideoCapture(os.fspath(path))
    try:
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = float(video.get(cv2.CAP_PROP_FPS))
    finally:
        video.release()
    if frames <= 0:
        frames = count_frames(path)
    return VideoFacts(frames, first.shape[0], first.shape[1], fps if 0 < fps < 1e5 else 0.0)


def count_frames(path: str | os.PathLike) -> int:
    """Return how many frames a video has, by reading it to its end.

    Raises
    ------
    DataError
        As `frames_of`.
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF:
        return sum(1 for _ in _lazily(path))
    try:
        with tifffile.TiffFile(path) as file:
            return len(file.pages)
    except (ValueError, OSError, IndexError, KeyError, RuntimeError) as error:
        raise DataError("cannot be read as a TIFF stack", file=path, found=error) from error


def sample_frames(
    path: str | os.PathLike, count: int
) -> tuple[list[NDArray[np.uint8]], list[int], int]:
    """Return `count` to twice as many frames spread evenly, their numbers, and how many there are.

    Fewer if the video has fewer. No header is asked: the video is read to its end.

    Raises
    ------
    DataError
        As `frames_of`.
    """
    kept: list[NDArray[np.uint8]] = []
    numbers: list[int] = []
    stride, index = 1, -1
    for index, frame in enumerate(_lazily(path)):
        if index % stride == 0:
            kept.append(frame())
            numbers.append(index)
            if len(kept) == 2 * count:
                kept, numbers, stride = kept[::2], numbers[::2], 2 * stride
    return kept, numbers, index + 1


def _lazily(path: str | os.PathLike):
    """Yield functions that decode one frame each."""
    path = Path(path)
    if path.suffix.lower() in TIFF or not path.is_file():
        yield from (lambda f=f: f for f in frames_of(path))
    else:
        yield from _grabbed(path)


def _decoded(path: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    for index, frame in enumerate(_grabbed(path)):
        if index % every == 0:
            yield frame()


def _grabbed(path: Path):
    """Yield a function for every frame of a video, which decodes it while it is the current one."""
    video = cv2.VideoCapture(os.fspath(path))
    try:
        if not video.isOpened():
            raise DataError(
                "cannot be read as a video", file=path, remedy="re-encode it as AVI (motion JPEG)"
            )
        index = 0
        while video.grab():

            def frame(number: int = index) -> NDArray[np.uint8]:
                good, image = video.retrieve()
                if not good:
                    raise DataError("a frame cannot be decoded", file=path, field=f"frame {number}")
                grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
                return np.asarray(grey, np.uint8)

            yield frame
            index += 1
        declared, size = declared_size(path), path.stat().st_size
        if index == 0 or (declared is not None and declared > size):
            raise DataError(
                "video ends early",
                file=path,
                found=f"{index} frames in {size:,} bytes",
                expected=f"{declared:,} bytes by its header" if declared else "a frame",
                remedy="copy the file again",
            )
    finally:
        video.release()


def declared_size(path: Path) -> int | None:
    """Return how many bytes the container says that it has; None if it does not say.

    AVI, MP4 and MOV, Matroska, and WMV declare it; a recorder that was interrupted leaves 0.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8192)
        if head[:4] == b"RIFF":  # several of them above 1 GB
            at, end = 0, 0
            while head[:4] == b"RIFF":
                length = int.from_bytes(head[4:8], "little")
                if length in (0, 2**32 - 1):
                    return None
                at = end = at + 8 + length + length % 2
                file.seek(at)
                head = file.read(8)
            return end - 1 if end - size == 1 else end  # the padding of the last may be missing
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            at = 0
            while at + 8 <= size:
                file.seek(at)
                box = file.read(16)
                length = int.from_bytes(box[:4], "big")
                if length == 1:
                    length = int.from_bytes(box[8:16], "big")
                if length < 8:  # 0: to the end of the file
                    return None
                at += length
            return at
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska(head)
        if head[:16] == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"):
            at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
            declared = int.from_bytes(head[at + 40 : at + 48], "little") if at > 0 else 0
            return declared or None
    return None


def _matroska(head: bytes) -> int | None:
    """Return the end of the segment, which follows the EBML header."""

    def number(at: int) -> tuple[int, int, bool]:
        """Return value and length of a size, and whether it is said to be unknown."""
        length = 9 - head[at].bit_length() if head[at] else 9
        value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
        return value, length, value == (1 << 7 * length) - 1

    value, length, _ = number(4)
    at = 4 + length + value
    if at + 12 > len(head) or head[at : at + 4] != b"\x18\x53\x80\x67":
        return None
    value, length, unknown = number(at + 4)
    return None if unknown or value == 0 else at + 4 + length + value


def _pages(path: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pages of a TIFF stack; more than 8 bits are scaled by the brightest of 16 pages."""
    try:
        with tifffile.TiffFile(path) as file:
            count = len(file.pages)
            top = 0.0
            for index in range(0, count, max(1, count // 16)):
                page = file.pages[index].asarray()
                top = 255.0 if page.dtype == np.uint8 else max(top, float(page.max()))
            for index in range(0, count, every):
                page = file.pages[index].asarray()
                if page.ndim == 3 and page.shape[2] in (3, 4):
                    page = page[:, :, :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114])
                if page.ndim != 2:
                    raise DataError("is no image", file=path, field=f"page {index}")
                if page.dtype != np.uint8:
                    page = np.clip(page * (255.0 / max(top, 1.0)), 0, 255).astype(np.uint8)
                yield page
    except DataError:
        raise
    except (ValueError, OSError, IndexError, KeyError, RuntimeError) as error:
        raise DataError("cannot be read as a TIFF stack", file=path, found=error) from error
