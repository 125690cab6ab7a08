"""Find where the content of one day's field lies in another's: rotation, shift, mild affine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from pipeline.closed_loop.matching.base import FieldView

GRID_UM = 2.0  # pixel of the search
FINE_UM = 1.25  # smallest pixel of the refinement
NORMALIZE_UM = 10.0  # radius of the local mean and contrast: little more than a cell
CLIP = 3.0  # local sd, so that one bright cell does not decide
APART_UM = 8.0  # nearer maxima of the search are one place
MIN_OVERLAP = 0.3  # of the smaller field

MIRRORED: dict[str, Callable[[NDArray], NDArray]] = {
    "mirrored left to right": lambda image: image[:, ::-1],
    "mirrored top to bottom": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
}
"""Placements with all the statistics of a field that cannot be its place."""


@dataclass(frozen=True)
class Registration:
    """Where a source field lies in a target.

    Attributes
    ----------
    transform : array, shape (2, 3)
        ``target_yx = transform[:, :2] @ source_yx + transform[:, 2]``, in px.
    score : float
        Correlation of the normalized images after refinement.
    rival : float
        Largest correlation at another place (refined as well), or of the source mirrored, over
        `score`: near 1 if the best place is no better than a chance one.
    overlap : float
        Share of the source field inside of the target.
    area_um2 : float
        Area of the overlap.
    mirrored : dict of str to float
        Correlation at the best place of the source mirrored or turned around, where it cannot be.
    """

    transform: NDArray[np.float64]
    score: float
    rival: float
    overlap: float
    area_um2: float
    mirrored: Mapping[str, float] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """How far the correlation lies above the rival's, in standard errors (Fisher's z).

        Locally normalized images are taken to be independent `NORMALIZE_UM` apart.
        """
        score = float(np.clip(self.score, 0, 0.999))
        samples = max(self.area_um2 / NORMALIZE_UM**2, 4.0)
        return float((np.arctanh(score) - np.arctanh(score * self.rival)) * np.sqrt(samples - 3))


def align(
    source: FieldView,
    target: FieldView,
    *,
    max_shift_um: float = 50.0,
    max_rotation_deg: float = 6.0,
    max_stretch: float = 0.06,
    n_candidates: int = 5,
) -> Registration:
    """Search rotations and shifts exhaustively, then refine the best by gradient.

    Images are normalized locally (mean and contrast), so that neither illumination nor expression
    matters; mean image, correlation image and masks add up. The search is a masked normalized
    cross-correlation (Padfield 2012, doi:10.1109/TIP.2011.2181402) at every angle; the refinement
    maximizes the enhanced correlation coefficient (Evangelidis and Psarakis 2008,
    doi:10.1109/TPAMI.2008.113), rigid first and then affine.

    Parameters
    ----------
    max_shift_um, max_rotation_deg
        Range of the search, about the centers of the fields.
    max_stretch : float
        Largest change of scale or shear; an affine beyond it is refused and the rigid one kept.
    n_candidates : int
        Places of the search that are refined.

    Returns
    -------
    Registration
    """
    look = Search(source, target, max_stretch=max_stretch)
    places = look.places(max_shift_um, max_rotation_deg, n_candidates)
    warp, score = places[0]
    rivals = look.rivals(places)
    other = {
        name: look.places(max_shift_um, max_rotation_deg, 1, flip)[0][1]
        for name, flip in MIRRORED.items()
    }
    transform = _to_pixels(warp, look.grid_um, source.pixel_um, target.pixel_um)
    overlap = _overlap(transform, source.shape, target.shape)
    return Registration(
        transform=transform,
        score=float(score),
        rival=float(np.clip(max([0.0, *rivals, *other.values()]) / max(score, 1e-6), 0.0, 1.0)),
        overlap=overlap,
        area_um2=overlap * float(np.prod(np.array(source.shape) * source.pixel_um)),
        mirrored=other,
    )


class Search:
    """The images of two fields, to be laid upon each other again and again.

    Parameters
    ----------
    source, target : FieldView
    max_stretch : float
        As in `align`.

    Attributes
    ----------
    grid_um : float
        Pixel of the refinement, in whose pixels `places` are given.
    fine : (array, array)
        Features of source and target at that size.
    """

    def __init__(self, source: FieldView, target: FieldView, *, max_stretch: float = 0.06) -> None:
        largest = max(source.pixel_um.max(), target.pixel_um.max())
        self.grid_um = float(np.clip(largest, FINE_UM, GRID_UM))
        self.max_stretch = max_stretch
        self.coarse = field_features(source, GRID_UM), field_features(target, GRID_UM)
        self.fine = field_features(source, self.grid_um), field_features(target, self.grid_um)

    def offset_um(self, warp: NDArray) -> NDArray[np.float64]:
        """Return how far (y, x; um) an affine of `places` brings the source's center."""
        return _offset(warp, *(f.shape for f in self.fine)) * self.grid_um

    def places(
        self,
        max_shift_um: float,
        max_rotation_deg: float,
        count: int,
        flip: Callable[[NDArray], NDArray] | None = None,
    ) -> list[tuple[NDArray[np.float64], float]]:
        """Return the best places as (affine, correlation), the best first.

        Parameters
        ----------
        max_shift_um, max_rotation_deg : float
            Range, about the centers of the fields.
        count : int
            Places of the search that are refined.
        flip : function, optional
            Mirrors or turns the source first.
        """
        coarse, fine = (
            (np.ascontiguousarray(flip(pair[0])) if flip else pair[0], pair[1])
            for pair in (self.coarse, self.fine)
        )
        step = np.rad2deg(GRID_UM / (0.5 * max(max(f.shape) * GRID_UM for f in coarse)))
        step = float(np.clip(step, 0.4, 1.5))
        half = int(np.ceil(max_rotation_deg / step))
        angles = np.arange(-half, half + 1) * step
        surfaces = correlations(*coarse, angles, max_shift_um / GRID_UM)
        shapes = [f.shape for f in fine]
        found = []
        for angle, shift, _ in peaks_of(surfaces, angles, count):
            start = _rigid(angle, np.asarray(shift) * GRID_UM / self.grid_um, *shapes)
            warp, score = _refine(*fine, start, self.max_stretch)
            if np.hypot(*_offset(warp, *shapes)) * self.grid_um > max_shift_um + APART_UM:
                warp, score = start, _score(*fine, start)  # it went out of the range
            found.append((warp, score))
        return sorted(found, key=lambda place: -place[1])

    def rivals(self, places: Sequence[tuple[NDArray, float]]) -> list[float]:
        """Return the correlations of `places` that are not the first one slightly moved."""
        here = self.offset_um(places[0][0])
        return [s for w, s in places[1:] if np.hypot(*(self.offset_um(w) - here)) > APART_UM]


def apply(transform: NDArray, yx: NDArray) -> NDArray[np.float64]:
    """Map positions (n, 2) of the source to the target (px)."""
    return np.asarray(yx) @ transform[:, :2].T + transform[:, 2]


def normalize_locally(image: NDArray, sigma_px: float) -> NDArray[np.float32]:
    """Subtract the local mean and divide by the local sd, clipped at `CLIP`."""
    image = np.nan_to_num(np.asarray(image, np.float32))
    centred = image - gaussian_filter(image, sigma_px)
    contrast = np.sqrt(gaussian_filter(centred**2, 2 * sigma_px))
    floor = 0.2 * float(np.median(contrast)) + 1e-12
    return np.clip(centred / np.maximum(contrast, floor), -CLIP, CLIP)


def field_features(view: FieldView, grid_um: float) -> NDArray[np.float32]:
    """Return the sum of the normalized images on an isotropic grid."""
    size = np.maximum(np.round(np.array(view.shape) * view.pixel_um / grid_um).astype(int), 8)
    channels = []
    for image in (view.mean_image, view.correlation_image, _cover(view)):
        if image is None or np.ptp(channel := np.nan_to_num(np.asarray(image, np.float32))) == 0:
            continue
        shrink = grid_um > view.pixel_um.min()
        resized = cv2.resize(
            channel,
            (int(size[1]), int(size[0])),
            interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR,
        )
        channel = normalize_locally(resized, NORMALIZE_UM / grid_um)
        channels.append(gaussian_filter(channel, 1.5 / grid_um))
    if not channels:
        raise ValueError("a field without images and without masks cannot be registered")
    return np.sum([c / c.std() for c in channels], axis=0, dtype=np.float32)


def _cover(view: FieldView) -> NDArray[np.float32]:
    """Return 1 where a unit is, 0 elsewhere; weights relative to each unit's largest."""
    cover = np.zeros(view.shape, np.float32)
    for mask in view.masks:
        peak = float(mask.max())
        if peak > 0:
            np.maximum(cover, mask / np.float32(peak), out=cover)
    return cover


def _rigid(angle_deg: float, shift: NDArray, source: tuple, target: tuple) -> NDArray[np.float64]:
    """Return target = A source + b (y, x; grid px): rotate about the centers, then shift."""
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centres = [(np.array(shape) - 1) / 2 for shape in (source, target)]
    return np.column_stack([turn, centres[1] + shift - turn @ centres[0]])


def _xy(transform: NDArray) -> NDArray[np.float32]:
    """Turn a (y, x) affine into OpenCV's (x, y)."""
    return np.ascontiguousarray(transform[::-1][:, [1, 0, 2]], np.float32)


def _invert(transform: NDArray) -> NDArray[np.float64]:
    inverse = np.linalg.inv(transform[:, :2])
    return np.column_stack([inverse, -inverse @ transform[:, 2]])


def correlations(
    source: NDArray, target: NDArray, angles: NDArray, reach: float
) -> NDArray[np.float32]:
    """Masked normalized cross-correlation, (angles, shifts y, shifts x), center = no shift."""
    reach = int(np.ceil(reach))
    canvas = tuple(np.maximum(source.shape, target.shape))
    size = [next_fast_len(n + reach + 1, real=True) for n in canvas]
    still = _rigid(0.0, np.zeros(2), target.shape, canvas)

    def place(image: NDArray, transform: NDArray) -> NDArray:
        return cv2.warpAffine(image, _xy(transform), (canvas[1], canvas[0]))

    b_mask = (place(np.ones(target.shape, np.float32), still) > 0.99).astype(np.float32)
    b = place(target, still) * b_mask
    fb, fbb, fbm = (rfft2(x, size) for x in (b, b * b, b_mask))
    take = np.ix_(np.arange(-reach, reach + 1) % size[0], np.arange(-reach, reach + 1) % size[1])
    least = MIN_OVERLAP * min(source.size, target.size)
    result = []
    for angle in angles:
        turn = _rigid(float(angle), np.zeros(2), source.shape, canvas)
        a_mask = (place(np.ones(source.shape, np.float32), turn) > 0.99).astype(np.float32)
        a = place(source, turn) * a_mask
        fa, faa, fam = (np.conj(rfft2(x, size)) for x in (a, a * a, a_mask))

        def cross(x: NDArray, y: NDArray) -> NDArray:
            return irfft2(x * y, size)[take]

        n = np.maximum(cross(fam, fbm), 1.0)
        sum_a, sum_b = cross(fa, fbm), cross(fam, fb)
        covariance = cross(fa, fb) - sum_a * sum_b / n
        variance = (cross(faa, fbm) - sum_a**2 / n) * (cross(fam, fbb) - sum_b**2 / n)
        ncc = covariance / np.sqrt(np.maximum(variance, 1e-6))
        # few pixels correlate by chance: count them as the fields' full overlap would
        ncc = np.where(n >= least, ncc * np.sqrt(n / min(source.size, target.size)), -1.0)
        yy, xx = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        result.append(np.where(yy**2 + xx**2 <= reach**2, ncc, -1.0))
    return np.array(result, np.float32)


def peaks_of(
    surfaces: NDArray, angles: NDArray, count: int
) -> list[tuple[float, tuple[float, float], float]]:
    """Return (angle, shift (grid px), value) of the highest places apart from each other."""
    values = surfaces.copy()
    reach = values.shape[1] // 2
    away = round(APART_UM / GRID_UM)
    peaks = []
    for _ in range(count):
        k, y, x = np.unravel_index(int(np.argmax(values)), values.shape)
        if values[k, y, x] <= -1:
            break
        peaks.append(
            (float(angles[k]), (float(y - reach), float(x - reach)), float(values[k, y, x]))
        )
        values[:, max(y - away, 0) : y + away + 1, max(x - away, 0) : x + away + 1] = -1
    return peaks


def _refine(
    source: NDArray, target: NDArray, start: NDArray, max_stretch: float
) -> tuple[NDArray[np.float64], float]:
    """Refine target = A source + b; return it and the correlation over the overlap."""
    best, best_score = start, _score(source, target, start)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    for motion in (cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE):
        # OpenCV warps its input (the target) into the template's (the source's) frame
        try:
            _, warp = cv2.findTransformECC(source, target, _xy(best).copy(), motion, stop, None, 5)  # type: ignore[call-overload]  # a mask may be None
        except cv2.error:  # no convergence: what was found so far stands
            continue
        found = np.asarray(warp, np.float64)[::-1][:, [1, 0, 2]]
        stretch = np.linalg.svd(found[:, :2], compute_uv=False)
        moved = np.linalg.norm(
            apply(found, _corners(source.shape)) - apply(start, _corners(source.shape)), axis=1
        )
        score = _score(source, target, found)
        sane = np.abs(stretch - 1).max() <= max_stretch and moved.max() <= 0.1 * max(source.shape)
        if sane and score > best_score:
            best, best_score = found, score
    return best, best_score


def _score(source: NDArray, target: NDArray, transform: NDArray) -> float:
    """Correlation of the images where they overlap."""
    size = (source.shape[1], source.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(target, _xy(transform), size, flags=flags)
    valid = cv2.warpAffine(np.ones_like(target), _xy(transform), size, flags=flags) > 0.99
    if valid.sum() < 64:
        return -1.0
    a, b = source[valid] - source[valid].mean(), warped[valid] - warped[valid].mean()
    return float((a @ b) / max(np.sqrt((a @ a) * (b @ b)), 1e-12))


def _to_pixels(
    warp: NDArray, grid_um: float, source_um: NDArray, target_um: NDArray
) -> NDArray[np.float64]:
    """Bring an affine of the grid to the fields' own pixels (centers of pixels correspond)."""
    into = source_um / grid_um  # grid = (px + 0.5) * into - 0.5
    out = grid_um / target_um
    linear = out[:, None] * warp[:, :2] * into[None]
    offset = warp[:, :2] @ (0.5 * into - 0.5) + warp[:, 2]
    return np.column_stack([linear, (offset + 0.5) * out - 0.5])


def _offset(warp: NDArray, source: tuple, target: tuple) -> NDArray[np.float64]:
    """Return where the source's center lies from the target's (px)."""
    middles = [(np.array(shape) - 1)[None] / 2 for shape in (source, target)]
    return (apply(warp, middles[0]) - middles[1])[0]


def _corners(shape: tuple[int, int]) -> NDArray[np.float64]:
    h, w = shape[0] - 1.0, shape[1] - 1.0
    return np.array([[0.0, 0.0], [0.0, w], [h, 0.0], [h, w]])


def _overlap(transform: NDArray, source: tuple[int, int], target: tuple[int, int]) -> float:
    grid = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 21) for n in source), indexing="ij"), -1)
    moved = apply(transform, grid.reshape(-1, 2))
    return float(((moved >= -0.5) & (moved <= np.array(target) - 0.5)).all(1).mean())
