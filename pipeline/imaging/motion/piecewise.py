"""Piecewise registration: a smooth displacement field per frame, from the likelihood of tiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.motion.base import MotionResult, judged, motion_methods, with_depth
from pipeline.imaging.motion.fixed import without_fixed
from pipeline.imaging.motion.rigid import rigid_shifts
from pipeline.imaging.motion.smooth_field import SmoothField, agreed_course, fit_matrix
from pipeline.imaging.motion.tiles import FARTHEST, Tiles, integer_shift, noise_image
from pipeline.imaging.movie import Movie, few_frames, shift_frame

_STEPS = 3  # of Newton's method
_MIN_FRAMES = 200  # from fewer, what moves cannot be told from noise
_NODES = 17  # most nodes per axis at which a field is stored


class FieldEstimator:
    """Coefficients of the displacement field of frames whose rough shift is known.

    Parameters
    ----------
    template : array, shape (H, W)
    whitening : array, shape (H, W // 2 + 1)
    noise : array, shape (H, W)
    tile_px : float
        These four: see `Tiles`.
    degree : int
        Of the polynomials.
    expected_px : float
        Standard deviation expected of the first-degree terms (px).
    """

    def __init__(
        self,
        template: NDArray,
        whitening: NDArray,
        noise: NDArray,
        *,
        tile_px: float,
        degree: int,
        expected_px: float,
    ) -> None:
        self.template = np.asarray(template, np.float32)
        quarters = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        self.fills = {q: shift_frame(self.template, q[0] / 4, q[1] / 4) for q in quarters}
        self.tiles = Tiles(template, whitening, noise, tile_px=tile_px)
        self.field = SmoothField(degree)
        self.basis = self.field.at(self.tiles.centers)
        self.prior = 1 / self.field.prior_px(expected_px) ** 2
        self.scale: float | None = None  # curvature per information, known from the first frames

    def _matrices(self, surfaces: NDArray) -> None:
        """Find the unit of the curvature from the difference of the two sets, and the fits."""
        rest = np.zeros((surfaces.shape[2], surfaces.shape[1], 2))
        slopes = self.tiles.slopes(surfaces, rest)
        expected = self.tiles.curvature.sum(axis=0)[:, [0, 1], [0, 1]]
        difference = slopes[0] - slopes[1]
        difference -= difference.mean(axis=0)
        # a movie without any structure or noise has none: the prior alone then says "no shift"
        self.scale = float(np.mean(difference**2) / max(np.mean(expected), 1e-30)) or 1.0
        prior = self.prior * self.scale
        self.fit = fit_matrix(self.basis, self.tiles.curvature.sum(axis=0), prior)
        self.fits = [fit_matrix(self.basis, part, prior / 2) for part in self.tiles.curvature]

    def coefficients(
        self, frames: NDArray[np.float32], y: NDArray, x: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Return two independent estimates, each (frames, 2 terms), for shifts y, x (px)."""
        whole = np.round(np.stack([y, x], axis=1)).astype(int)
        start = np.stack([y, x], axis=1) - whole
        quarter = np.round(4 * start).astype(int)
        moved = np.stack(
            [
                integer_shift(frame, down, right, self.fills[tuple(part)])
                for frame, (down, right), part in zip(frames, whole, quarter, strict=True)
            ]
        )
        surfaces = self.tiles.surfaces(moved)
        if self.scale is None:
            self._matrices(surfaces)
        terms = self.basis.shape[1]
        current = np.repeat(start[:, None], len(self.basis), axis=1)
        for _ in range(_STEPS):
            slopes = self.tiles.slopes(surfaces, current)
            told = slopes + np.einsum("sbij,tbj->stbi", self.tiles.curvature, current)
            flat = told.reshape(2, len(frames), -1)
            found = (flat[0] + flat[1]) @ self.fit.T
            fields = found.reshape(-1, 2, terms)
            current = np.einsum("tac,bc->tba", fields, self.basis)
            current = np.clip(current, -FARTHEST, FARTHEST)
        both = [part @ fit.T for part, fit in zip(flat, self.fits, strict=True)]
        for half in both:
            half[:, [0, terms]] += whole
        return both[0], both[1]

    def all_frames(self, movie: Movie, y: NDArray, x: NDArray) -> tuple[NDArray, NDArray]:
        """Return two independent estimates of all frames, each (frames, 2 terms)."""
        parts = [
            self.coefficients(
                frames, y[start : start + len(frames)], x[start : start + len(frames)]
            )
            for start, frames in movie.batches(few_frames(movie))
        ]
        one, other = (np.concatenate(half) for half in zip(*parts, strict=True))
        return one, other

    def nodes(self) -> tuple[tuple[NDArray, NDArray], NDArray[np.float64]]:
        """Return rows and columns (px) of a grid over the field, and the polynomials there."""
        shape = self.template.shape
        rows, columns = (np.linspace(0, n - 1, min(_NODES, max(2, n // 16))) for n in shape)
        axes = rows, columns
        scaled = [2 * axis / (n - 1) - 1 for axis, n in zip(axes, shape, strict=True)]
        places = np.stack(np.meshgrid(*scaled, indexing="ij"), axis=-1)
        return axes, self.field.at(places.reshape(-1, 2))


@motion_methods.register("piecewise", default=True, revision=3)
def piecewise(
    movie: Movie,
    *,
    max_shift_um: float = 30.0,
    max_step_um: float = 15.0,
    smooth_px: float = 0.5,
    template_frames: int = 400,
    default_um_per_px: float = 1.0,
    tile_px: float = 32.0,
    degree: int = 5,
    expected_px: float = 0.3,
) -> MotionResult:
    """Estimate a displacement of every frame that varies smoothly over the field.

    The rigid shift comes first. Tiles then tell, by the slope of their likelihood, where they are
    rather than there (`Tiles`), and the polynomial that fits all tiles best is found by Newton's
    method. Even and odd rows give two estimates whose photons are independent; what they agree on
    over time is kept (`agreed_course`). Where frames do not become more alike than with the rigid
    shift, or are fewer than 200, or the field is not two tiles wide, or tiles show no structure,
    that is returned.

    Parameters
    ----------
    movie, max_shift_um, max_step_um, smooth_px, template_frames, default_um_per_px
        See `rigid`.
    tile_px : float
        Side of a tile (px).
    degree : int
        Of the polynomials in y and x.
    expected_px : float
        Standard deviation expected of what varies across the field (px); several times as much
        is found if photons show it.

    Returns
    -------
    MotionResult
        Shifts are the mean over the field, those of the blocks what differs from it.

    References
    ----------
    Pnevmatikakis and Giovannucci (2017), NoRMCorre, doi:10.1016/j.jneumeth.2017.07.031, for what
    it replaces: separate correlation peaks of overlapping patches.
    """
    movie, fixed = without_fixed(movie)
    correlator, template, y, x, outliers = rigid_shifts(
        movie, max_shift_um, max_step_um, smooth_px, template_frames, default_um_per_px
    )
    plain = judged(movie, y, x, outliers)
    if len(y) < _MIN_FRAMES or outliers.all() or min(movie.shape[1:]) < 2 * tile_px:
        return with_depth(movie, plain, fixed)
    good, every = np.flatnonzero(~outliers), np.arange(len(y))
    some = np.unique(np.linspace(0, len(good) - 1, min(template_frames, len(good))).round())
    noise = noise_image(movie, y, x, frames=good[some.astype(int)])
    estimator = FieldEstimator(
        template,
        correlator.whitening,
        noise,
        tile_px=tile_px,
        degree=degree,
        expected_px=expected_px,
    )
    try:
        halves = estimator.all_frames(movie, y, x)
        for column in np.concatenate(halves, axis=1).T if outliers.any() else ():
            column[:] = np.interp(every, good, column[good])
        terms = estimator.basis.shape[1]
        fields = agreed_course(*halves, leaping=(0, terms)).reshape(len(y), 2, terms)
    except np.linalg.LinAlgError:  # tiles without structure: nothing is known beyond the whole
        return with_depth(movie, plain, fixed)
    centers, basis = estimator.nodes()
    # the first term is the mean, which the rigid part holds
    local = (fields[:, :, 1:] @ basis[:, 1:].T).astype(np.float32)
    local = local.reshape(len(y), 2, *map(len, centers))
    warped = judged(
        movie,
        fields[:, 0, 0],
        fields[:, 1, 0],
        outliers,
        block_y_shifts=local[:, 0],
        block_x_shifts=local[:, 1],
        block_centers=centers,
    )
    better = warped if warped.correlation_after > plain.correlation_after else plain
    return with_depth(movie, better, fixed)
