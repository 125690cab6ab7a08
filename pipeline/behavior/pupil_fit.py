"""One pupil in one frame: its edge along rays, and the ellipse through what is visible of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

RAYS = 96
RADIUS_PX = 32.0  # patches in which the pupil is larger are reduced to this
REACH = 1.9  # length of a ray in radii
ANGLE = 2 * np.pi * np.arange(RAYS) / RAYS
CIRCLE = np.stack([np.cos(ANGLE), np.sin(ANGLE)])
NEIGHBORS = (np.arange(RAYS)[:, None] + np.arange(-4, 5)) % RAYS
# edge = radius + x cos + y sin + c cos 2a + s sin 2a
DESIGN = np.stack([np.ones(RAYS), *CIRCLE, np.cos(2 * ANGLE), np.sin(2 * ANGLE)], axis=1)


@dataclass(frozen=True)
class PupilFit:
    """Ellipse of one frame in px of the frame, and how well the image bears it out.

    Attributes
    ----------
    x, y : float
        Center; the middle of the first pixel is 0.
    shape : array float64, shape (2, 2)
        Symmetric; maps the unit circle to the ellipse about its center.
    bright : bool
        Whether the pupil is brighter than the iris.
    visible : float
        Share of the edge that was seen where the ellipse has it.
    astray : float
        Share of the rays on which the pupil goes on beyond the ellipse: no lid does that.
    known : float
    spread : float
        Root mean square distance of the edge from the ellipse, in radii.
    inner, outer : float
        Gray level of the pupil and of the ring around it.
    uneven : float
        How much the inside varies, in contrasts (median absolute deviation).
    ring_uneven : float
        The same of the ring around the pupil: smooth for an iris, not for fur.
    white : float
        Brightest gray level of the image.
    """

    x: float
    y: float
    shape: NDArray[np.float64]
    bright: bool
    visible: float
    astray: float
    known: float
    spread: float
    inner: float
    outer: float
    uneven: float
    ring_uneven: float
    white: float

    @property
    def axes(self) -> NDArray[np.float64]:
        """Short and long half axis (px)."""
        return np.asarray(np.linalg.eigvalsh(self.shape), np.float64)

    @property
    def radius(self) -> float:
        """Radius of a circle of the ellipse's area (px)."""
        return float(np.sqrt(abs(np.linalg.det(self.shape))))

    @property
    def contrast(self) -> float:
        """Gray levels between pupil and ring; positive."""
        return abs(self.outer - self.inner)

    @property
    def glares(self) -> bool:
        """Whether it is as white as the reflection of a lamp."""
        return self.bright and self.inner > 0.92 * self.white

    @property
    def confidence(self) -> float:
        """0 to 1: share of the edges seen that lie on the ellipse, less what is unlike a pupil."""
        doubt = (self.spread / 0.08) ** 2 + (self.uneven / 0.25) ** 2
        doubt += (self.ring_uneven / 0.4) ** 2 + (self.astray / 0.15) ** 2
        agree = self.visible / max(self.known, 1e-6)
        enough = min(1.0, self.visible / 0.7) ** 0.5 * min(1.0, self.contrast / 8.0)
        return float(agree * enough / (1.0 + doubt))


@lru_cache(maxsize=64)
def disc(size: int) -> NDArray[np.uint8]:
    """Return a structuring element (size, size)."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


@lru_cache(maxsize=1)
def _triples() -> NDArray[np.intp]:
    """Return numbers of three rays far enough apart to fix a circle, (triples, 3)."""
    start = np.arange(0, RAYS, 2)
    gaps = [(RAYS // 3, 2 * RAYS // 3), (RAYS // 5, 2 * RAYS // 5), (RAYS // 4, RAYS // 2)]
    return np.concatenate([np.stack([start, start + a, start + b], axis=1) % RAYS for a, b in gaps])


@dataclass(frozen=True)
class _Patch:
    """Surroundings of a candidate, dark pupil, without reflections; frame = patch * step + zero."""

    image: NDArray  # float32, (H, W)
    spot: NDArray  # uint8, (H, W)
    zero: NDArray[np.float64]
    step: float


def _patch(
    frame: NDArray[np.uint8],
    center: NDArray[np.float64],
    shape: NDArray[np.float64],
    bright: bool,
) -> _Patch | None:
    """Cut out a candidate, turn it dark, and take out what is brighter and smaller than it."""
    radius = float(np.sqrt(abs(np.linalg.det(shape))))
    half = REACH * np.hypot(*shape) + 6.0  # of the bounding box of the longest rays
    left, top = (int(max(0, np.floor(v))) for v in center - half)
    right, bottom = (int(np.ceil(v)) + 1 for v in center + half)
    cut: NDArray = frame[top:bottom, left:right]
    if min(cut.shape) < 8:
        return None
    step = max(1.0, radius / RADIUS_PX)
    if step > 1:
        size = (max(8, round(cut.shape[1] / step)), max(8, round(cut.shape[0] / step)))
        step = cut.shape[1] / size[0]
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    zero = np.array([left, top]) + (step - 1) / 2  # middle of the patch's first pixel
    radius /= step
    if bright:
        cut = cv2.bitwise_not(cut)
    # gray levels within and around the candidate
    middle, form = (center - zero) / step, shape / step
    at = _sample(cut, middle, form, np.array([0.2, 0.4, 0.6, 1.25, 1.5]))
    inner, outer = float(np.median(at[:, :3])), float(np.median(at[:, 3:]))
    contrast = outer - inner
    if contrast < 3:
        return None
    spot: NDArray = np.zeros(cut.shape, np.uint8)
    if bright:  # reflections are brighter than the pupil: here they are darker
        spot = (cut < inner - max(0.35 * contrast, 8)).astype(np.uint8)
        cut = np.maximum(cut, np.uint8(max(0.0, inner)))
    # whiskers over the pupil and dim reflections in it; outside, a thin iris would be taken out
    thin = cv2.morphologyEx(cut, cv2.MORPH_OPEN, disc(max(5, 2 * round(0.18 * radius) + 1)))
    spot |= (cv2.subtract(cut, thin) > max(0.3 * contrast, 5)) & _within(cut, middle, form)
    # lamps: brighter than the iris
    wide = cv2.morphologyEx(cut, cv2.MORPH_OPEN, disc(max(5, 2 * round(0.4 * radius) + 1)))
    lamp = (cv2.subtract(cut, wide) > max(0.6 * contrast, 5)) & (cut > outer + 0.3 * contrast)
    spot = cv2.dilate((spot | lamp).astype(np.uint8), disc(5 if radius > 7 else 3))
    calm: NDArray = np.where((spot > 0) & (cut > wide), wide, cut).astype(np.float32)
    calm = cv2.GaussianBlur(calm, (0, 0), float(np.clip(0.07 * radius, 0.6, 2.0)))
    return _Patch(calm, spot, zero, step)


def _within(
    image: NDArray, center: NDArray, shape: NDArray, share: float = 0.9
) -> NDArray[np.bool_]:
    """Return where an image lies within a share of an ellipse's radius."""
    inverse = np.linalg.inv(shape) / share
    x, y = np.arange(image.shape[1]) - center[0], np.arange(image.shape[0])[:, None] - center[1]
    u, v = inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y
    return u * u + v * v < 1


def _sample(
    image: NDArray, center: NDArray, shape: NDArray, rho: NDArray, mode: int = cv2.INTER_LINEAR
) -> NDArray:
    """Return the image at `rho` radii along the rays of an ellipse, (rays, samples)."""
    way = shape @ CIRCLE
    x, y = (center[i] + way[i][:, None] * rho for i in (0, 1))
    return cv2.remap(
        image, x.astype(np.float32), y.astype(np.float32), mode, borderMode=cv2.BORDER_REPLICATE
    )


@dataclass(frozen=True)
class _Edges:
    at: NDArray[np.float64]  # (rays,) radii of the ellipse
    known: NDArray[np.bool_]  # (rays,)
    inner: float
    outer: float
    uneven: float
    ring_uneven: float


def _edges(
    patch: _Patch, center: NDArray, shape: NDArray, level: float, last: bool
) -> _Edges | None:
    """Return the place at which every ray leaves the dark, in radii, and where it is known.

    How even pupil and ring are is measured at the last step only.
    """
    radius = float(np.sqrt(abs(np.linalg.det(shape))))
    width = float(np.clip(0.5 / radius, 0.02, 0.12))
    rho = np.arange(0.0, REACH, width)
    polar = _sample(patch.image, center, shape, rho)
    hidden = _sample(patch.spot, center, shape, rho, cv2.INTER_NEAREST)
    way = shape @ CIRCLE
    height, wide = patch.image.shape
    room = np.full(RAYS, np.inf)  # radii until a ray leaves the image
    for i, size in ((0, wide), (1, height)):
        with np.errstate(divide="ignore", invalid="ignore"):
            end = np.where(way[i] > 0, size - 1 - center[i], -center[i]) / way[i]
        room = np.minimum(room, np.where(np.abs(way[i]) > 1e-9, end, np.inf))
    core = polar[:, (rho > 0.1) & (rho < 0.7)]
    inner = float(np.median(core))
    around = polar[:, (rho > 1.1) & (rho < 1.4)]
    ring = np.median(around, axis=1)
    outer = float(np.median(ring))
    contrast = outer - inner
    if contrast < 3:
        return None
    # a shadow or a lid changes the iris along the edge: each ray has its own middle
    local = np.clip(
        np.median(ring[NEIGHBORS], axis=1), inner + 0.35 * contrast, inner + 1.3 * contrast
    )
    beyond = polar > (inner + level * (local - inner))[:, None]
    beyond[:, rho < 0.35] = False
    first = beyond.argmax(axis=1)
    known = beyond.any(axis=1)
    ray = np.arange(RAYS)
    slope = np.zeros_like(polar)
    slope[:, 1:-1] = polar[:, 2:] - polar[:, :-2]
    reach = max(1, round(1.5 / (radius * width)))
    window = np.clip(first[:, None] + np.arange(-reach, reach + 1), 1, len(rho) - 2)
    peak = window[ray, slope[ray[:, None], window].argmax(axis=1)]
    before, top, after = (slope[ray, np.clip(peak + d, 0, len(rho) - 1)] for d in (-1, 0, 1))
    curve = before - 2 * top + after
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(curve < 0, 0.5 * (before - after) / curve, 0.0)
    at = (peak + np.clip(shift, -1, 1)) * width
    known &= (hidden[ray, peak] == 0) & (peak > 1) & (peak < len(rho) - 2) & (at < room)
    uneven = rough = 0.0
    if last:
        uneven = float(np.median(np.abs(core - inner))) / contrast
        close = polar[:, (rho > 1.12) & (rho < 1.35)]
        rough = float(np.median(np.abs(close - np.median(close, axis=1)[:, None])))
        rough = (rough + float(np.median(np.abs(ring - local)))) / contrast
    return _Edges(at, known, inner, outer, uneven, rough)


def _circle(
    edge: NDArray, known: NDArray[np.bool_], tolerance: float
) -> tuple[NDArray[np.bool_], float, float, float] | None:
    """Return the rays on the circle that most of them share, and the circle about the origin."""
    triples = _triples()
    triples = triples[known[triples].all(axis=1)]
    if len(triples) == 0:
        return None
    px, py = edge * CIRCLE
    (x1, x2, x3), (y1, y2, y3) = px[triples].T, py[triples].T
    twice = 2 * ((x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1))
    usable = np.abs(twice) > 1e-6
    a = (x2 - x1) * (x1 + x2) + (y2 - y1) * (y1 + y2)
    b = (x3 - x1) * (x1 + x3) + (y3 - y1) * (y1 + y3)
    with np.errstate(invalid="ignore", divide="ignore"):
        cx = ((y3 - y1) * a - (y2 - y1) * b) / twice
        cy = ((x2 - x1) * b - (x3 - x1) * a) / twice
        radius = np.hypot(x1 - cx, y1 - cy)
    error = np.hypot(px[None] - cx[:, None], py[None] - cy[:, None]) - radius[:, None]
    close = (np.abs(error) < tolerance) & known & usable[:, None]
    # lids and lashes hide the edge and pull it inwards: rays far outside speak against a circle
    score = close.sum(axis=1) - 0.5 * ((error > 2 * tolerance) & known).sum(axis=1)
    best = int(np.argmax(np.where(np.isfinite(radius), score, -np.inf)))
    return close[best], float(cx[best]), float(cy[best]), float(radius[best])


def _harmonics(
    edge: NDArray, known: NDArray[np.bool_], good: NDArray[np.bool_], wide: float, narrow: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float, NDArray[np.float64]]:
    """Fit (radius, x, y, c, s), to first order an ellipse about (x, y), to a growing set of rays.

    Starts from the rays `good`, then takes in all known ones near the fit, less and less far off. A
    short arc cannot tell the second harmonic from a shift: there it is kept small.

    Returns
    -------
    array, shape (5,); array of bool, shape (rays,); float; array, shape (rays,)
        Solution, rays used, their root mean square distance from it, and every ray's.
    """
    solution, error = np.zeros(5), np.full(RAYS, np.inf)
    for tolerance in np.linspace(wide, narrow, 5):
        share = good.sum() / max(known.sum(), 1)  # the rest is behind a lid, not behind glints
        stiffness = RAYS * (0.005 + 40.0 * max(0.0, 0.88 - share))
        ridge = np.diag([0.0, 0.0, 0.0, stiffness, stiffness])
        weight = good.astype(np.float64)
        for _ in range(2):
            weighted = DESIGN * weight[:, None]
            solution = np.linalg.solve(weighted.T @ DESIGN + ridge, weighted.T @ edge)
            error = edge - DESIGN @ solution
            weight = good / (1 + (error / narrow) ** 2) ** 2
        # a lid hides the edge and shows its own inside of the pupil, never outside
        good = known & (error < tolerance) & (error > -0.6 * tolerance)
        if good.sum() < RAYS // 6:
            break
    spread = float(np.sqrt(np.mean(error[good] ** 2))) if good.any() else np.inf
    return solution, good, spread, error


def _moved(
    center: NDArray, shape: NDArray, solution: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return center and shape of an ellipse changed by (radius, x, y, c, s) in its own radii."""
    radius, x, y, c, s = solution
    whole = shape @ np.array([[radius + c, s], [s, radius - c]])
    center = center + shape @ np.array([x, y])
    # the symmetric matrix of the same ellipse
    square = whole @ whole.T
    root = np.sqrt(max(np.linalg.det(square), 0.0))
    return center, (square + root * np.eye(2)) / np.sqrt(np.trace(square) + 2 * root)


def fit_pupil(
    frame: NDArray[np.uint8],
    center: NDArray[np.float64],
    shape: NDArray[np.float64],
    *,
    bright: bool = False,
    steps: int = 3,
    level: float = 0.5,
) -> PupilFit | None:
    """Fit an ellipse to the pupil near a candidate; None if there is no edge like that of one.

    Parameters
    ----------
    frame : array uint8, shape (H, W)
    center : array, shape (2,)
        Of the candidate (x, y) (px).
    shape : array, shape (2, 2)
        Maps the unit circle to the candidate's ellipse (px).
    bright : bool
        Whether the pupil is brighter than what is around it.
    steps : int
        Times that the rays are drawn anew from the last ellipse.
    level : float
        The edge is sought where a ray first passes this share of the way from the gray of the
        pupil to that of its surroundings: a low one finds an iris that is far darker than fur.
    """
    patch = _patch(frame, center, shape, bright)
    if patch is None:
        return None
    middle, form = (center - patch.zero) / patch.step, shape / patch.step
    good, spread, edges, error = np.zeros(RAYS, bool), np.inf, None, np.zeros(RAYS)
    limit = 0.5 * max(patch.image.shape)
    for step in range(steps):
        edges = _edges(patch, middle, form, level, step == steps - 1)
        if edges is None:
            return None
        radius = float(np.sqrt(abs(np.linalg.det(form))))
        wide = max(0.12, 0.8 / radius)
        if step < 2:
            # the circle is exact far from the center, where harmonics are not
            found = _circle(edges.at, edges.known, wide)
            if found is None or (step == 0 and found[0].sum() < 0.2 * RAYS):
                return None
            good, x, y, size = found
        if step == 0:
            solution = np.array([size, x, y, 0.0, 0.0])
        else:
            narrow = max(0.05, 0.6 / radius)
            solution, good, spread, error = _harmonics(edges.at, edges.known, good, wide, narrow)
        middle, form = _moved(middle, form, solution)
        axes = np.linalg.eigvalsh(form)
        inside = (middle >= 0).all() and (middle <= np.array(patch.image.shape[::-1]) - 1).all()
        if not inside or not axes[0] > 1.8 or axes[1] > limit or axes[0] < 0.35 * axes[1]:
            return None
    if edges is None:
        return None
    grey = (255 - edges.inner, 255 - edges.outer) if bright else (edges.inner, edges.outer)
    x, y = middle * patch.step + patch.zero
    return PupilFit(
        float(x),
        float(y),
        form * patch.step,
        bright,
        float(good.mean()),
        float((edges.known & (error > wide)).mean()),
        float(edges.known.mean()),
        spread,
        grey[0],
        grey[1],
        edges.uneven,
        edges.ring_uneven,
        float(frame.max()),
    )
