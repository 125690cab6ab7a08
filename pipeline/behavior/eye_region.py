"""Where in an eye video the pupil is, how large and how dark: one look at frames spread over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

SAMPLES = 80  # frames looked at to find the eye
WORK_PX = 160  # the search is done on frames reduced to this size


@dataclass(frozen=True)
class EyeRegion:
    """Part of the frame in which the pupil moves, and what it looks like.

    Attributes
    ----------
    top, bottom, left, right : int
        Half-open rows and columns (px).
    radius_px : float
        Typical pupil radius.
    pupil_grey, iris_grey : float
        Typical gray level inside of the pupil and around it.
    """

    top: int
    bottom: int
    left: int
    right: int
    radius_px: float
    pupil_grey: float
    iris_grey: float


def frames_of(path: str | os.PathLike, every: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield every n-th frame of a video as a gray image (H, W), one at a time.

    Raises
    ------
    DataError
        If the file is no readable video, or ends before its header says.
    """
    video = cv2.VideoCapture(os.fspath(path))
    try:
        if not os.path.isfile(path) or not video.isOpened():
            raise DataError(
                "cannot be read as a video", file=path, remedy="re-encode it as AVI (motion JPEG)"
            )
        expected = frame_count(video)
        index = 0
        while video.grab():
            if index % every == 0:
                good, frame = video.retrieve()
                if not good:
                    raise DataError("a frame cannot be decoded", file=path, field=f"frame {index}")
                gray = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                yield np.asarray(gray, np.uint8)
            index += 1
        if index == 0 or index < expected - max(1, expected // 1000):
            raise DataError(
                "video ends early",
                file=path,
                found=f"{index} frames",
                expected=f"{expected} by its header",
                remedy="copy the file again",
            )
    finally:
        video.release()


def frame_count(video: cv2.VideoCapture) -> int:
    """Return the number of frames that the header promises, 0 if it does not."""
    count = video.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if np.isfinite(count) and 0 < count < 2**40 else 0


def _disc(radius: float) -> NDArray[np.float32]:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (np.hypot(y, x) <= radius).astype(np.float32)


def _ring_kernel(radius: float) -> NDArray[np.float32]:
    """Mean of a ring around a disc minus mean of the disc."""
    outer = _disc(1.5 * radius)
    pad = (len(outer) - len(_disc(1.1 * radius))) // 2
    hole = np.pad(_disc(1.1 * radius), pad)
    ring = outer - hole
    inner = np.pad(_disc(0.9 * radius), (len(outer) - len(_disc(0.9 * radius))) // 2)
    return ring / ring.sum() - inner / inner.sum()


def find_eye(path: str | os.PathLike) -> EyeRegion:
    """Find the pupil: a round region darker than the ring around it, at much the same place.

    Every sampled frame votes for the disc that differs most from its surroundings, over all places
    and sizes; votes far from the most supported place (blinks, shadows in the fur) are dropped.

    Raises
    ------
    DataError
        If the video is unreadable or shows nothing like a pupil.
    """
    video = cv2.VideoCapture(os.fspath(path))
    count = frame_count(video) if video.isOpened() else 0
    video.release()
    votes, shape = [], (0, 0)
    kernels: list[tuple[float, NDArray[np.float32]]] = []
    for frame in frames_of(path, every=max(1, count // SAMPLES)):
        shape = frame.shape
        scale = min(1.0, WORK_PX / max(shape))
        if not kernels:
            largest = 0.27 * min(shape) * scale
            kernels = [(r, _ring_kernel(r)) for r in np.geomspace(3.0, max(largest, 3.5), 10)]
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        # an opening takes away bright spots smaller than it: corneal reflections
        small = cv2.morphologyEx(small, cv2.MORPH_OPEN, _disc(3).astype(np.uint8))
        small = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32)
        best = (-np.inf, 0.0, 0.0, 0.0)
        for radius, kernel in kernels:
            margin = int(np.ceil(radius))
            contrast = cv2.filter2D(small, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
            inner = contrast[margin:-margin, margin:-margin]
            if inner.size == 0:
                continue
            row, column = (int(n) for n in np.unravel_index(int(inner.argmax()), inner.shape))
            if inner[row, column] > best[0]:
                best = (float(inner[row, column]), column + margin, row + margin, radius)
        height, x, y, radius = best
        if np.isfinite(height):
            dark = float(small[int(y), int(x)])
            half = (1 / scale - 1) / 2  # centers of large pixels on the grid of small ones
            votes.append([x / scale + half, y / scale + half, radius / scale, height, dark])
        if count == 0 and len(votes) >= 20 * SAMPLES:
            break
    table = np.array(votes).reshape(-1, 5)
    table = table[table[:, 3] > 5.0]
    if len(table) == 0:
        raise DataError(
            "shows nothing like a pupil", file=path, expected="a dark round pupil in a lit eye"
        )
    distance = np.hypot(
        table[:, None, 0] - table[None, :, 0], table[:, None, 1] - table[None, :, 1]
    )
    reach = max(2.0 * float(np.median(table[:, 2])), 0.08 * min(shape))
    support = ((distance < reach) * table[None, :, 3]).sum(axis=1)
    near = distance[int(support.argmax())] < 1.5 * reach
    x, y, radius, contrast, dark = table[near].T
    largest = float(np.quantile(radius, 0.95))
    return EyeRegion(
        top=int(max(0, y.min() - 2.4 * largest - 4)),
        bottom=int(min(shape[0], y.max() + 2.4 * largest + 5)),
        left=int(max(0, x.min() - 2.4 * largest - 4)),
        right=int(min(shape[1], x.max() + 2.4 * largest + 5)),
        radius_px=float(np.median(radius)),
        pupil_grey=float(np.median(dark)),
        iris_grey=float(np.median(dark + contrast)),
    )
