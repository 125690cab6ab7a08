"""Where in an eye video the pupil is and what it looks like: one look at frames spread over it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

from .pupil import EyeRegion, NoPupil, Tried
from .pupil_fit import PupilFit, disc, fit_pupil
from .pupil_seeds import find_seeds
from .video import sample_frames

LOOKED_AT = 8  # frames in which the whole image is searched
SAMPLES = 25  # to twice as many, in which the eye's surroundings are
WORK_PX = 640  # the image is searched at this size and at halves of it
CREDIBLE = 0.45  # confidence of a pupil where the eye is known to be; pupils in view have 0.8
UNSURE = 0.6  # confidence below which another level of gray is tried
POLARITIES = {"dark": (False,), "bright": (True,), "auto": (False, True)}


def _levels(image: NDArray[np.uint8]) -> NDArray:
    """Return gray levels that lie closer together in the dark, as noise does."""
    return (np.arange(2, 24) / 24) ** 1.7 * np.percentile(image, 99.5)


def _middles(image: NDArray[np.uint8]) -> NDArray:
    """Return gray levels between those of areas that grow by a third each."""
    share = 100 * np.geomspace(0.01, 0.75, 12)
    both = np.percentile(image, np.concatenate([share, 100 - share[::-1]]))
    return (both[1:] + both[:-1]) / 2


def _without_lines(image: NDArray[np.uint8], bright: bool, width: int) -> NDArray[np.uint8]:
    """Take lines out that may cross a pupil: whiskers, and lashes on a bright one."""
    way = cv2.MORPH_CLOSE if bright else cv2.MORPH_OPEN
    return np.asarray(cv2.morphologyEx(image, way, disc(width)), np.uint8)


def _reduced(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Return a frame made smaller, where the scale is below 1, and a little smoother."""
    small: NDArray = frame
    if scale < 1:
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.8), np.uint8)


def candidates(
    frame: NDArray[np.uint8], polarities: tuple[bool, ...], *, count: int = 10
) -> list[PupilFit]:
    """Return what looks like a pupil anywhere in a frame, of any size, the surest first."""
    scale, found = min(1.0, WORK_PX / max(frame.shape)), []
    while True:
        small = _reduced(frame, scale)
        largest = min(16.0, 0.4 * min(small.shape))
        for bright in polarities:
            fine, coarse = (
                find_seeds(
                    _without_lines(small, bright, width),
                    _levels(small),
                    smallest=4.0,
                    largest=largest,
                    bright=(bright,),
                )
                for width in (3, 5)
            )
            seeds = (fine + coarse).best(count)
            for center, shape, score in zip(seeds.center, seeds.shape, seeds.score, strict=True):
                if score < 0.25:
                    continue
                center = (center + 0.5) / scale - 0.5
                fit = fit_pupil(frame, center, shape / scale, bright=bright, steps=2)
                if fit is not None and fit.confidence > 0.3:
                    found.append(fit)
        if max(small.shape) <= 110:
            break
        scale /= 2
    return _distinct(found)


def _distinct(found: list[PupilFit]) -> list[PupilFit]:
    kept: list[PupilFit] = []
    for fit in sorted(found, key=lambda f: -f.confidence):
        for other in kept:
            near = np.hypot(fit.x - other.x, fit.y - other.y) < 0.3 * other.radius
            if near and fit.bright == other.bright and abs(np.log(fit.radius / other.radius)) < 0.2:
                break
        else:
            kept.append(fit)
    return kept


def _inside(inner: PupilFit, outer: PupilFit) -> bool:
    offset = np.linalg.solve(outer.shape, [inner.x - outer.x, inner.y - outer.y])
    return bool(np.hypot(*offset) < 1.15) and inner.radius < 0.6 * outer.radius


def _without_reflections(found: list[PupilFit]) -> list[PupilFit]:
    """Leave out bright spots that are reflections of a lamp on something dark."""
    dark = [fit for fit in found if not fit.bright]
    kept = []
    for fit in found:
        lies_on = [other for other in dark if fit.bright and _inside(fit, other)]
        tiny = any(fit.radius < 0.15 * other.radius for other in lies_on)
        on_pupil = any(other.confidence > 0.6 for other in lies_on)
        if not (tiny or (fit.glares and on_pupil)):
            kept.append(fit)
    return kept


def _alike(a: PupilFit, b: PupilFit) -> bool:
    apart = np.hypot(a.x - b.x, a.y - b.y)
    return (
        a.bright == b.bright
        and apart < 1.2 * max(a.radius, b.radius)
        and abs(np.log(a.radius / b.radius)) < np.log(1.7)
    )


def _gathered(frames: Sequence[list[PupilFit]]) -> list[list[PupilFit]]:
    """Return groups of candidates that are one thing in several frames, the most likely first."""
    groups = []
    for seed in (fit for found in frames for fit in found if fit.confidence > 0.4):
        group = []
        for found in frames:
            like = [fit for fit in found if _alike(seed, fit)]
            if like:
                group.append(max(like, key=lambda fit: fit.confidence))
        groups.append(group)
    return sorted(groups, key=_support, reverse=True)


def _changes(group: list[PupilFit]) -> float:
    """Return how much a thing moves and grows over the frames, in radii."""
    if len(group) < 3:
        return 0.03
    x, y, radius = np.array([(fit.x, fit.y, fit.radius) for fit in group]).T
    middle = float(np.median(radius))
    spread = [float(np.median(np.abs(v - np.median(v)))) for v in (x, y, radius)]
    return float(np.hypot(np.hypot(spread[0], spread[1]), spread[2])) / middle


def _support(group: list[PupilFit]) -> float:
    """Return the sum of squared confidence; less for what never changes (a screw) or is white."""
    change = _changes(group)
    glare = 0.3 if np.mean([fit.glares for fit in group]) > 0.5 else 1.0
    return glare * sum(fit.confidence**2 for fit in group) * (0.5 + change / (change + 0.02))


def _pupil_of(groups: list[list[PupilFit]]) -> list[PupilFit]:
    """Return the group that is the pupil: the surest, or one nearly as sure inside of it.

    Inside of a dark eye there may be a dark pupil or a bright one, inside of a dark pupil the
    reflection of a lamp: that one is white.
    """
    best = groups[0]
    for other in groups[1:]:
        middle, around = _middle(other), _middle(best)
        same = middle.bright == around.bright
        share = _support(other) / _support(best)
        if _inside(middle, around) and not around.bright and share > (0.5 if same else 0.8):
            best = other
    return best


def _middle(group: list[PupilFit]) -> PupilFit:
    return sorted(group, key=lambda fit: fit.radius)[len(group) // 2]


def find_eye(
    path: str | os.PathLike,
    *,
    polarity: str = "auto",
    box: Sequence[float] | None = None,
) -> EyeRegion:
    """Find the pupil: an ellipse with a step along its border, much at the same place always.

    Parameters
    ----------
    path : path
    polarity : str
        auto, dark or bright.
    box : sequence of 4 float, optional
        Left, top, right, bottom (px) of the part of the frame to look in.

    Raises
    ------
    DataError
        If the video is unreadable or shows nothing like a pupil.
    """
    frames, numbers, _ = sample_frames(path, SAMPLES)
    high, wide = frames[0].shape
    left, top, right, bottom = (0, 0, wide, high) if box is None else (round(v) for v in box)
    left, top, right, bottom = max(0, left), max(0, top), min(wide, right), min(high, bottom)
    if right - left < 16 or bottom - top < 16:
        raise DataError(
            "the region does not lie in the frame",
            file=path,
            found=f"left, top, right, bottom = {list(box or ())}",
            expected=f"at least 16 px within {wide} x {high}",
        )
    some = np.unique(np.rint(np.linspace(0, len(frames) - 1, LOOKED_AT)).astype(int))
    parts = [frames[k][top:bottom, left:right] for k in some]
    found = [_without_reflections(candidates(p, POLARITIES[polarity])) for p in parts]
    groups = [g for g in _gathered(found) if 4 * len(g) >= len(parts)]
    pupil = _pupil_of(groups) if groups else []
    sure = np.sort([fit.confidence for fit in pupil])[len(pupil) // 2 :]
    # a patch of fur never changes; where somebody says that the eye is, less will do
    bar = 0.65 + 0.15 * 0.02 / (0.02 + _changes(pupil)) if box is None else CREDIBLE
    if not pupil or sure.mean() < bar:
        nearest = [max(fits, key=lambda fit: fit.confidence, default=None) for fits in found]
        raise NoPupil(
            "shows nothing like a pupil",
            tried=tuple(
                Tried(numbers[k], part, fit, "nothing like a pupil, seen over all frames")
                for k, part, fit in zip(some, parts, nearest, strict=True)
            ),
            file=path,
            found=f"a confidence of {sure.mean():.2f} at the likeliest place"
            if pupil
            else "no ellipse with a step along its border",
            expected=f"{bar:.2f}: a round pupil, darker or brighter than a lit iris",
            remedy="light the iris, focus the camera, or give the region of the eye",
        )
    return _described(frames, pupil, (left, top, right, bottom), polarity)


def _described(
    frames: list[NDArray[np.uint8]],
    pupil: list[PupilFit],
    limits: tuple[int, int, int, int],
    polarity: str,
) -> EyeRegion:
    """Look at more frames around the pupil, and measure it there."""
    own = pupil[0].bright
    region = _bounded(pupil, limits, "bright" if own else "dark")
    both = POLARITIES[polarity] if polarity == "auto" else (own,)
    good: dict[bool, list[PupilFit]] = {False: [], True: []}
    for frame in frames:
        best: dict[bool, PupilFit] = {}
        for fit in look(frame, region, both, loose=True):
            if fit.confidence > best[fit.bright].confidence if fit.bright in best else True:
                best[fit.bright] = fit
        kept = _without_reflections(list(best.values()))
        if own in best and best[own].confidence > CREDIBLE:
            kept = [best[own]]
        for fit in kept:
            if fit.confidence > CREDIBLE:
                good[fit.bright].append(fit)
    mine = _surest(good[own]) or pupil
    typical = float(np.median([fit.radius for fit in mine]))
    other = [fit for fit in _surest(good[not own]) if 0.5 < fit.radius / typical < 2.0]
    name = "bright" if own else "dark"
    if len(other) >= max(2, 0.04 * len(frames)):
        name, mine = "both", mine + other
    origin = (region.left, region.top) if good[own] else (limits[0], limits[1])
    return _bounded(mine, limits, name, origin)


def _surest(fits: list[PupilFit]) -> list[PupilFit]:
    """Leave out what is far less sure than the rest: the outline of the eye where lids hide all."""
    if not fits:
        return []
    bar = 0.65 * float(np.quantile([fit.confidence for fit in fits], 0.8))
    return [fit for fit in fits if fit.confidence >= bar]


def _bounded(
    pupil: list[PupilFit],
    limits: tuple[int, int, int, int],
    polarity: str,
    zero: tuple[int, int] | None = None,
) -> EyeRegion:
    """Return the region around fits, which count from `zero` (default the limits' corner)."""
    left, top, right, bottom = limits
    ox, oy = (left, top) if zero is None else zero
    x, y, radius = np.array([(f.x + ox, f.y + oy, f.radius) for f in pupil]).T
    small, large = (float(v) for v in np.quantile(radius, [0.05, 0.95]))
    by = ([f.contrast for f in pupil if f.bright == one] for one in (False, True))
    contrast = [float(np.median(values)) for values in by if values]
    form = np.mean([f.shape / f.radius for f in pupil], axis=0)
    form = np.round(form / np.sqrt(np.linalg.det(form)), 2)  # the same in whatever order
    wide, high = 2.2 * large * np.hypot(*form) + 4  # rows of the form: its extent in x and y
    x0, x1, y0, y1 = np.quantile(x, [0.02, 0.98]).tolist() + np.quantile(y, [0.02, 0.98]).tolist()
    return EyeRegion(
        top=int(max(top, y0 - high)),
        bottom=int(min(bottom, y1 + high + 1)),
        left=int(max(left, x0 - wide)),
        right=int(min(right, x1 + wide + 1)),
        radius_px=round(float(np.median(radius)), 1),
        pupil_grey=round(float(np.median([f.inner for f in pupil])), 1),
        iris_grey=round(float(np.median([f.outer for f in pupil])), 1),
        smallest_px=round(small, 1),
        largest_px=round(large, 1),
        polarity=polarity,
        form=form,
        contrast=round(min(contrast), 1),
    )


SMALL_RADIUS = 9.0  # of the pupil in the reduced surroundings where seeds are looked for


def look(
    frame: NDArray[np.uint8],
    region: EyeRegion,
    bright: tuple[bool, ...],
    *,
    loose: bool = False,
    tries: int = 4,
    enough: float = 0.7,
) -> list[PupilFit]:
    """Return what looks like the pupil in the region of a frame, in px of the region.

    Parameters
    ----------
    frame : array uint8, shape (H, W)
    region : EyeRegion
    bright : tuple of bool
        Polarities to look for.
    loose : bool
        Whether the typical form is not known yet and the size not well.
    tries : int
        Seeds of a polarity that are fitted.
    enough : float
        Confidence at which no further seed is tried.
    """
    crop = np.ascontiguousarray(frame[region.top : region.bottom, region.left : region.right])
    scale = min(1.0, SMALL_RADIUS / region.radius_px)
    small = _reduced(crop, scale)
    low, high = (0.55, 1.7) if loose else (0.65, 1.5)
    ratio = np.array(small.shape[::-1]) / np.array(crop.shape[::-1])
    levels = _middles(small)
    found: list[PupilFit] = []
    for one, width in itertools.product(bright, (3, 5)):
        if width > 3 and any(fit.confidence > CREDIBLE for fit in found):
            continue  # the second look is for broad whiskers
        seeds = find_seeds(
            _without_lines(small, one, width),
            levels[len(levels) // 2 :] if one else levels[: len(levels) // 2 + 1],
            smallest=max(2.0, low * region.smallest_px * scale),
            largest=min(high * region.largest_px * scale, 0.5 * max(small.shape)),
            bright=(one,),
        ).best(tries)
        for center, shape in zip(seeds.center, seeds.shape, strict=True):
            center, shape = (center + 0.5) / ratio - 0.5, shape / scale
            if not loose:  # a lid cuts the seed, not the pupil
                shape = region.form * np.sqrt(np.linalg.det(shape))
            fit = fit_pupil(crop, center, shape, bright=one)
            if fit is None or fit.confidence < UNSURE:
                found += [fit] if fit is not None else []
                fit = fit_pupil(crop, center, shape, bright=one, level=0.25)
            if fit is not None:
                found.append(fit)
                if fit.confidence > enough:
                    break
    return found
