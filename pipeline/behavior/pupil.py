"""Pupil of an eye video, and pupils that other programs have tracked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.registry import Registry

from .pupil_fit import PupilFit

pupil_trackers = Registry("pupil tracker")


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
    smallest_px, largest_px : float
        Range of the radius.
    polarity : str
        dark, bright, or both: a laser that is gated makes the pupil bright for some of the time.
    form : array float64, shape (2, 2)
        Typical ellipse with the area of the unit circle.
    contrast : float
        Usual gray levels between pupil and ring; of the fainter polarity where there are both.
    """

    top: int
    bottom: int
    left: int
    right: int
    radius_px: float
    pupil_grey: float
    iris_grey: float
    smallest_px: float
    largest_px: float
    polarity: str
    form: NDArray[np.float64]
    contrast: float

    @property
    def bright(self) -> tuple[bool, ...]:
        """Polarities to look for."""
        return {"dark": (False,), "bright": (True,)}.get(self.polarity, (False, True))


@dataclass(frozen=True)
class Tried:
    """A frame in which no pupil was seen, and what came nearest to one.

    Attributes
    ----------
    number : int
        Of the frame.
    image : array uint8, shape (H, W)
        The part that was searched.
    fit : PupilFit or None
        In px of `image`.
    reason : str
        In words.
    """

    number: int
    image: NDArray[np.uint8]
    fit: PupilFit | None
    reason: str


class NoPupil(DataError):
    """A video that shows nothing like a pupil.

    Parameters
    ----------
    problem : str
    tried : tuple of Tried
        Some frames, with what came nearest to a pupil.
    where : str
        As in `DataError`: file, field, found, expected, remedy.
    """

    def __init__(self, problem: str, *, tried: tuple[Tried, ...] = (), **where: Any) -> None:
        super().__init__(problem, **where)
        self.tried = tried


@dataclass(frozen=True)
class PupilResult:
    """Pupil in every frame of a video; NaN where it is not seen (blinks, grooming).

    Attributes
    ----------
    center_x_px, center_y_px : array float64, shape (frames,)
        Center; the middle of the first pixel is 0, y points down.
    radius_px : array float64, shape (frames,)
        Radius of a circle of the ellipse's area.
    confidence : array float64, shape (frames,)
        0 to 1: visible share of the edge, times its sharpness, less what it departs from an
        ellipse. Given for rejected frames too.
    axis_ratio, visible_fraction : array float64, shape (frames,)
        Short over long axis; share of the edge that is free of lids, lashes and reflections.
    region : EyeRegion or None
        Where the video was searched.
    bright : array of bool, shape (frames,)
        Whether the pupil is brighter than the iris.
    problem : str
        Why most frames have no pupil, in words; empty where most have one.
    tried : tuple of Tried
        Some of the frames without a pupil.
    """

    center_x_px: NDArray[np.float64]
    center_y_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    confidence: NDArray[np.float64]
    axis_ratio: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    visible_fraction: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    region: EyeRegion | None = None
    bright: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    problem: str = ""
    tried: tuple[Tried, ...] = ()


def lone_leaps(track: NDArray, limit: float) -> NDArray[np.bool_]:
    """Return frames alone: far from the median of five and from both neighbors.

    Parameters
    ----------
    track : array, shape (3, frames)
        x, y and radius (px).
    limit : float
        What is far (radii).
    """
    frames = track.shape[1]
    if frames < 5:
        return np.zeros(frames, bool)
    padded = np.pad(track, ((0, 0), (2, 2)), constant_values=np.nan)
    around = np.stack([padded[:, k : k + frames] for k in range(5)])
    # the median of the known ones, by sorting: NaN sort last
    count = np.isfinite(around).sum(axis=0)
    order = np.sort(around, axis=0)
    middle = np.take_along_axis(order, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    size = limit * middle[2]
    with np.errstate(invalid="ignore"):

        def far(other: NDArray) -> NDArray[np.bool_]:
            step = np.hypot(track[0] - other[0], track[1] - other[1])
            return (step > size) | (np.abs(track[2] - other[2]) > size)

        unlike = far(middle)
        before, after = far(padded[:, 1 : 1 + frames]), far(padded[:, 3 : 3 + frames])
        lonely = (before | np.isnan(padded[0, 1 : 1 + frames])) & (
            after | np.isnan(padded[0, 3 : 3 + frames])
        )
    return unlike & lonely


def unlike_others(radius_px: NDArray) -> NDArray[np.bool_]:
    """Return frames whose radius is 2.5 times larger or smaller than the usual one; no NaN."""
    if not np.isfinite(radius_px).any():
        return np.zeros(len(radius_px), bool)
    usual = np.nanmedian(radius_px)
    with np.errstate(invalid="ignore"):
        return (radius_px > 2.5 * usual) | (radius_px < usual / 2.5)


def problem_of(why: NDArray[np.intp], reasons: Sequence[str]) -> str:
    """Return in words why most frames have no pupil; nothing if most have one.

    Parameters
    ----------
    why : array of int, shape (frames,)
        Number of the reason; 0 where there is a pupil.
    reasons : sequence of str
    """
    lost = int((why > 0).sum())
    if 2 * lost <= len(why):
        return ""
    counts = sorted((int((why == k).sum()), reasons[k]) for k in range(1, len(reasons)))
    text = "; ".join(f"{count}: {words}" for count, words in counts[::-1] if count)
    return f"no pupil in {lost} of {len(why)} frames ({text})"


def to_mm(radius_px: NDArray, eye_width_px: float, eye_width_mm: float = 3.4) -> NDArray:
    """Convert px to mm by a length known in both, e.g. the width of the eye.

    Raises
    ------
    ValueError
        If a width is not positive.
    """
    if not (eye_width_px > 0 and eye_width_mm > 0):
        raise ValueError(f"widths must be positive, got {eye_width_px} px and {eye_width_mm} mm")
    return np.asarray(radius_px, np.float64) * (eye_width_mm / eye_width_px)
