"""A rendered infrared video of the animal's eye."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.errors import DataError
from pipeline.rng import derive_seed, generator
from pipeline.simulate.brain.behavior import AnimalState
from pipeline.simulate.microscope.movie import _mix_bits

LIT_GREY = 185.0  # of a pupil that the laser of the microscope lights from behind


@dataclass(frozen=True)
class EyeScene:
    """What does not move; images of shape (H, W) in gray levels."""

    fur: NDArray[np.float32]
    globe: NDArray[np.float32]  # sclera and iris without pupil
    upper_px: NDArray[np.float32]  # (W,) row of the open upper lid
    lower_px: NDArray[np.float32]  # (W,) row of the lower lid
    lashes: NDArray[np.float32]  # (H, W) darkening, 0 to 1, at open lids
    pupil_grey: float


def draw_scene(seed: int, shape: tuple[int, int], center_px: tuple[float, float]) -> EyeScene:
    """Draw one animal's eye; `center_px` is the mean pupil center (x, y)."""
    rng = generator(seed, "eye scene")
    height, width = shape
    yy, xx = np.mgrid[:height, :width].astype(np.float64)
    x0, y0 = center_px
    half_w, half_h = 0.43 * width, 0.36 * height
    fur = 150 + 14 * _unit(gaussian_filter(rng.normal(size=shape), (3, 1)))
    fur += 20 * _unit(gaussian_filter(rng.normal(size=shape), 18)) - 25 * (yy / height - 0.5)
    radius = np.hypot(xx - x0, yy - y0)
    angle = np.arctan2(yy - y0, xx - x0)
    streaks = np.sin(23 * angle + 3 * np.sin(5 * angle)) + np.sin(41 * angle + 1)
    iris = 84 + 3.0 * streaks + 3 * _unit(gaussian_filter(rng.normal(size=shape), 1.5))
    sclera = 122 + 4 * _unit(gaussian_filter(rng.normal(size=shape), 3))
    rim = 1 / (1 + np.exp((radius - 0.31 * width) / 3.0))
    globe = rim * iris + (1 - rim) * sclera
    globe -= 0.18 * np.clip(radius - 0.2 * width, 0, None)  # shading toward the corners
    across = np.clip(np.abs(np.arange(width) - x0) / half_w, 0, 1)
    opening = np.sqrt(1 - across**2)
    lashes = np.zeros(shape, np.uint8)
    upper = y0 - half_h * opening
    for x in np.linspace(x0 - 0.7 * half_w, x0 + 0.7 * half_w, 13) + rng.normal(0, 2, 13):
        column = int(np.clip(x, 0, width - 1))
        root = (x, upper[column] - 1)
        tip = (x + 0.22 * (x - x0) + rng.normal(0, 2), root[1] + rng.uniform(5, 11))
        begin, end = ((round(16 * x), round(16 * y)) for x, y in (root, tip))
        cv2.line(lashes, begin, end, 255, 1, cv2.LINE_AA, 4)
    return EyeScene(
        fur=np.clip(fur, 40, 235).astype(np.float32),
        globe=globe.astype(np.float32),
        upper_px=upper.astype(np.float32),
        lower_px=(y0 + 0.92 * half_h * opening).astype(np.float32),
        lashes=(lashes / 255 * 0.5).astype(np.float32),
        pupil_grey=float(rng.uniform(20, 32)),
    )


def _unit(image: NDArray) -> NDArray:
    return (image - image.mean()) / image.std()


@numba.njit(cache=True)
def _draw(fur, globe, upper, lower, lashes, pupil_grey, center, radius, lid, glints, seed, out):
    height, width = fur.shape
    base = _mix_bits(np.uint64(seed))
    for y in range(height):
        for x in range(width):
            # lids close to a line below the middle of the open eye
            closed = 0.35 * upper[x] + 0.65 * lower[x]
            top = upper[x] + lid * (closed - upper[x])
            bottom = lower[x] + lid * (closed - lower[x])
            inside = min(max(min(y - top, bottom - y) / 1.5 + 0.5, 0.0), 1.0)
            if lower[x] - upper[x] < 1:
                inside = 0.0
            value = globe[y, x]
            distance = np.hypot(x - center[0], y - center[1])
            pupil = min(max((radius - distance) / 1.6 + 0.5, 0.0), 1.0)
            value += pupil * (pupil_grey - value)
            for k in range(glints.shape[0]):
                d2 = (x - glints[k, 0]) ** 2 + (y - glints[k, 1]) ** 2
                if d2 < 9 * glints[k, 2] ** 2:
                    value += (250.0 - value) * min(1.6 * np.exp(-d2 / glints[k, 2] ** 2), 1.0)
            shadow = min(max((y - top) / 7.0, 0.0), 1.0)
            value *= 0.75 + 0.25 * shadow
            value = inside * value + (1 - inside) * fur[y, x]
            edge = min(abs(y - top), abs(y - bottom))
            if upper[x] < lower[x] - 1:
                value *= 1 - 0.35 * np.exp(-edge * edge / 3.0)
            root = y - int(top - upper[x])  # lashes come down with the lid
            if root >= 0:
                value *= 1 - lashes[root, x]
            bits = _mix_bits(base + np.uint64(y * width + x))
            noise = 0.0
            for _ in range(4):  # the sum of four bytes is close to normal
                noise += float(bits & np.uint64(255))
                bits = bits >> np.uint64(8)
            value += (noise - 510.0) * (3.0 / 147.8)
            out[y, x] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


def write_video(
    path: str | Path,
    state: AnimalState,
    time_s: NDArray,
    *,
    seed: int,
    day: int,
    shape: tuple[int, int],
    mean_px: tuple[float, float],
    laser: NDArray[np.bool_] | None = None,
) -> None:
    """Render the eye at given times (s) into an AVI of motion JPEG.

    Parameters
    ----------
    state : AnimalState
        Gives pupil radius and center and the lid.
    seed, day : int
        Animal, and day, whose noise differs.
    shape : (int, int)
        Height and width of a frame.
    mean_px : (float, float)
        Mean pupil center (x, y), around which the eye opens.
    laser : array of bool, shape (frames,), optional
        Frames in which the light of the microscope's laser, through the head, makes the pupil
        brighter than the iris; default none.
    """
    scene = draw_scene(seed, shape, mean_px)
    fps = float(np.round(1 / np.median(np.diff(time_s)), 3))
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (shape[1], shape[0]), True
    )
    if not writer.isOpened():
        raise DataError("OpenCV cannot write motion JPEG here", file=path)
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 92)
    center = state.gaze(time_s)
    radius, lid = state.at(time_s, "radius_px"), state.at(time_s, "lid")
    offset = center - np.asarray(mean_px)
    frame = np.empty(shape, np.uint8)
    noise = derive_seed(seed, "eye noise", day)
    for i in range(len(time_s)):
        # reflections of two lamps move with the cornea, by less than the pupil
        glint = np.asarray(mean_px) + 0.3 * offset[i]
        glints = np.array(
            [[glint[0] - 9.0, glint[1] - 5.0, 2.2], [glint[0] + 12.0, glint[1] - 2.0, 1.5]]
        )
        _draw(
            scene.fur,
            scene.globe,
            scene.upper_px,
            scene.lower_px,
            scene.lashes,
            LIT_GREY if laser is not None and laser[i] else scene.pupil_grey,
            center[i],
            radius[i],
            lid[i],
            glints,
            np.uint64(noise + i),
            frame,
        )
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
