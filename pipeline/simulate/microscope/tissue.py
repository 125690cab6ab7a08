"""The piece of cortex under the microscope: cells, vessels, neuropil, and how a day sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from pipeline.rng import generator

MARGIN_UM = 40.0  # tissue around the field, for motion and for the other day's offset
MIN_DISTANCE_UM = 12.0
TEXTURE_UM = 1.0


@dataclass(frozen=True)
class Placement:
    """Where a day's field lies in the tissue: rotate about the center, then shift."""

    shift_um: tuple[float, float] = (0.0, 0.0)  # content moves by this (y, x) in the image
    rotation_deg: float = 0.0

    def to_pixels(
        self, yx_um: NDArray, shape: tuple[int, int], um_per_px: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Map tissue positions (n, 2) in um from the center to pixels (y, x) of the image."""
        moved = np.asarray(yx_um) @ self._rotation().T + np.asarray(self.shift_um)
        return moved / np.asarray(um_per_px) + (np.asarray(shape) - 1) / 2

    def to_tissue(
        self, yx_px: NDArray, shape: tuple[int, int], um_per_px: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Map pixels (n, 2) of the image to tissue positions in um."""
        moved = (np.asarray(yx_px) - (np.asarray(shape) - 1) / 2) * np.asarray(um_per_px)
        return (moved - np.asarray(self.shift_um)) @ self._rotation()

    def _rotation(self) -> NDArray[np.float64]:
        angle = np.deg2rad(self.rotation_deg)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@dataclass(frozen=True)
class Somata:
    """Shapes of all cells; arrays of shape (cells,) unless said otherwise."""

    yx_um: NDArray[np.float64]  # (cells, 2) from the center of the first day's field
    radius_um: NDArray[np.float64]
    elongation: NDArray[np.float64]
    axis_rad: NDArray[np.float64]
    bumps: NDArray[np.float64]  # (cells, 2) of third order: cosine and sine part
    nucleus: NDArray[np.float64]  # radius of the dark nucleus relative to the cell; 0: filled
    brightness: NDArray[np.float64]  # baseline relative to the neuropil
    responsive: NDArray[np.bool_]
    on_day: NDArray[np.bool_]  # (cells, days)


def place(
    n_inside: int,
    half_um: NDArray,
    rng: np.random.Generator,
    taken: NDArray,
    *,
    keep_out_um: NDArray | None = None,
    allowed: Callable[[NDArray], bool] | None = None,
) -> NDArray[np.float64]:
    """Draw positions (n, 2) in a rectangle, apart from each other and from `taken`.

    A position is redrawn inside of `keep_out_um` and where it is not `allowed`.

    Raises
    ------
    ValueError
        If the cells do not fit.
    """
    points = [*taken]
    start = len(points)
    for _ in range(n_inside):
        for _ in range(4000):
            point = rng.uniform(-half_um, half_um)
            if keep_out_um is not None and (np.abs(point) < keep_out_um).all():
                continue
            if allowed is not None and not allowed(point):
                continue
            if not points or np.min(np.sum((np.array(points) - point) ** 2, 1)) > (
                MIN_DISTANCE_UM**2
            ):
                points.append(point)
                break
        else:
            raise ValueError(
                f"cells do not fit: {len(points)} placed in {2 * half_um} um; "
                "ask for fewer cells or a larger field"
            )
    return np.array(points[start:]).reshape(-1, 2)


class Tissue:
    """Anatomy of one animal.

    Parameters
    ----------
    seed : int
    n_cells : int
        Responsive cells inside the field of the first day.
    field_um : (float, float)
        Height and width of the field.
    silent_fraction : float
        Cells that never fire, relative to `n_cells`.
    lost_fraction : float
        Share of the cells of one day that the other does not see (and as many new ones).
    """

    def __init__(
        self,
        seed: int,
        n_cells: int,
        field_um: tuple[float, float],
        *,
        silent_fraction: float = 0.35,
        lost_fraction: float = 0.12,
    ) -> None:
        rng = generator(seed, "tissue")
        half = np.asarray(field_um) / 2
        inner, outer = half - 8.0, half + MARGIN_UM
        self._draw_background(outer, seed)
        ring = np.prod(outer) / np.prod(inner) - 1
        n_new = round(lost_fraction * n_cells)
        # (responsive, inside, day 1, day 2): lost cells are drawn among those of day 1 below
        groups = [
            (True, True, n_cells),
            (True, True, n_new),
            (True, False, round(n_cells * ring)),
            (False, True, round(silent_fraction * n_cells)),
            (False, False, round(silent_fraction * n_cells * ring)),
        ]
        points = np.empty((0, 2))
        for _, inside, count in groups:
            box = inner if inside else outer
            new = place(
                count,
                box,
                rng,
                points,
                keep_out_um=None if inside else inner,
                allowed=lambda p: self.sample("vessels", p[None, None])[0, 0] > 0.7,
            )
            points = np.concatenate([points, new])
        # responsive cells come first, so that their index is that of the population
        responsive = np.repeat([g[0] for g in groups], [g[2] for g in groups])
        group = np.repeat(np.arange(len(groups)), [g[2] for g in groups])
        n = len(points)
        on_day = np.ones((n, 2), bool)
        lost = rng.choice(n_cells, n_new, replace=False)
        on_day[lost, 1] = False
        on_day[group == 1, 0] = False
        for which in (group == 2, group == 3, group == 4):
            index = np.flatnonzero(which)
            on_day[rng.permutation(index)[: round(lost_fraction * len(index))], 1] = False
        angle = rng.uniform(0, 2 * np.pi, n)
        self.somata = Somata(
            yx_um=points,
            radius_um=np.clip(rng.normal(6.3, 0.6, n), 5.0, 7.6),
            elongation=rng.uniform(0.0, 0.12, n),
            axis_rad=rng.uniform(0, np.pi, n),
            bumps=rng.uniform(0, 0.06, n)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1),
            nucleus=np.where(rng.random(n) < 0.85, rng.uniform(0.45, 0.62, n), 0.0),
            brightness=np.clip(rng.lognormal(np.log(1.5), 0.35, n), 0.7, 4.0)
            * np.where(responsive, 1.0, rng.uniform(0.6, 1.1, n)),
            responsive=responsive,
            on_day=on_day,
        )
        self.n_responsive = int(responsive.sum())

    def _draw_background(self, half_um: NDArray, seed: int) -> None:
        """Draw neuropil texture and vessels on a raster of `TEXTURE_UM` pixels."""
        rng = generator(seed, "background")
        shape = tuple(np.ceil(2 * (half_um + 20) / TEXTURE_UM).astype(int))
        self._texture_half_um = np.array(shape) * TEXTURE_UM / 2
        coarse, fine, dots = (
            gaussian_filter(rng.normal(size=shape), sigma / TEXTURE_UM) for sigma in (22, 3.0, 1.2)
        )
        texture = 0.16 * coarse / coarse.std() + 0.13 * fine / fine.std()
        texture = np.exp(texture + 0.13 * dots / dots.std())  # dendrites and boutons
        dark = np.ones(shape)
        yy, xx = np.mgrid[: shape[0], : shape[1]] * TEXTURE_UM
        area = np.prod(shape) * TEXTURE_UM**2
        for _ in range(max(2, round(area / 22_000))):
            y, x = rng.uniform(0, shape[0]) * TEXTURE_UM, rng.uniform(0, shape[1]) * TEXTURE_UM
            heading, radius = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 5.5)
            distance = np.full(shape, np.inf)
            for _ in range(int(rng.uniform(10, 28))):
                near = np.maximum(np.abs(yy[:, :1] - y), 0) < 30
                rows = np.flatnonzero(near[:, 0])
                if len(rows):
                    part = slice(rows[0], rows[-1] + 1)
                    distance[part] = np.minimum(
                        distance[part], np.hypot(yy[part] - y, xx[part] - x)
                    )
                heading += rng.normal(0, 0.22)
                y, x = y + 4 * np.sin(heading), x + 4 * np.cos(heading)
            # far away the exponential would overflow
            dark *= 1 - 0.85 / (1 + np.exp(np.minimum(distance - radius, 50) / 0.8))
        self._texture, self._vessels = texture, dark
        step = 55.0
        grid = [np.arange(-h - 10, h + 10 + step, step) for h in half_um]
        self.neuropil_yx_um = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
        self.neuropil_sigma_um = 42.0

    def sample(self, image: str, yx_um: NDArray) -> NDArray[np.float64]:
        """Read the `texture` or the transmission of `vessels` at tissue positions (..., 2)."""
        raster = {"texture": self._texture, "vessels": self._vessels}[image]
        index = (np.moveaxis(yx_um, -1, 0) + self._texture_half_um[:, None, None]) / TEXTURE_UM
        return map_coordinates(raster, index - 0.5, order=1, mode="nearest")


@dataclass(frozen=True)
class FieldImage:
    """What a day's field looks like at rest, on a canvas `margin_px` wider than the field.

    Footprints are sparse: cell i covers ``pixel[start[i]:start[i + 1]]`` of the flat canvas with
    ``weight`` (brightness at rest in units of neuropil).
    """

    shape: tuple[int, int]  # of the field
    margin_px: int
    static: NDArray[np.float32]  # (canvas height, canvas width) neuropil at rest
    modes: NDArray[np.float32]  # (modes, canvas pixels) where neuropil varies together
    cell: NDArray[np.int64]  # (cells on the canvas,) index into `Somata`
    start: NDArray[np.int64]
    pixel: NDArray[np.int32]
    weight: NDArray[np.float32]
    masks: NDArray[np.bool_]  # (cells on the canvas, H, W) true outlines, without motion
    centroid_yx_px: NDArray[np.float64]  # (cells on the canvas, 2)


def draw_field(
    tissue: Tissue,
    placement: Placement,
    shape: tuple[int, int],
    um_per_px: tuple[float, float],
    margin_px: int,
    *,
    day: int,
    brightness: NDArray,
    scale: float = 1.0,
) -> FieldImage:
    """Render the tissue as one day's field sees it.

    Parameters
    ----------
    brightness : array, shape (cells,)
        Expression on that day relative to the tissue's.
    scale : float
        Size of the cells on that day relative to the tissue's (another depth).
    """
    canvas = (shape[0] + 2 * margin_px, shape[1] + 2 * margin_px)
    um = np.asarray(um_per_px)
    grid = np.moveaxis(np.mgrid[: canvas[0], : canvas[1]], 0, -1).astype(float) - margin_px
    where = placement.to_tissue(grid.reshape(-1, 2), shape, um_per_px).reshape(*canvas, 2)
    vessels = tissue.sample("vessels", where)
    static = tissue.sample("texture", where) * vessels
    center = placement.to_pixels(tissue.somata.yx_um, shape, um_per_px)
    reach = np.array([-margin_px + 2.0, -margin_px + 2.0])
    on_canvas = (center > reach).all(1) & (center < np.array(shape) - 1 - reach).all(1)
    cells = np.flatnonzero(on_canvas & tissue.somata.on_day[:, day - 1])
    start, pixels, weights, masks = [0], [], [], []
    somata = tissue.somata
    for i in cells:
        half = np.ceil(9.5 * scale / um).astype(int) + 1
        low = np.maximum(np.floor(center[i]).astype(int) - half + margin_px, 0)
        high = np.minimum(np.floor(center[i]).astype(int) + half + 2 + margin_px, canvas)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offset = where[box] - somata.yx_um[i]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        angle = np.arctan2(offset[..., 0], offset[..., 1])
        edge = (
            scale
            * somata.radius_um[i]
            * (
                1
                + somata.elongation[i] * np.cos(2 * (angle - somata.axis_rad[i]))
                + somata.bumps[i, 0] * np.cos(3 * angle)
                + somata.bumps[i, 1] * np.sin(3 * angle)
            )
        )
        inside = 1 / (1 + np.exp((distance - edge) / 0.55))
        hole = 1 / (1 + np.exp((distance - somata.nucleus[i] * edge) / 0.7))
        profile = inside * (1 - 0.65 * hole * (somata.nucleus[i] > 0))
        static[box] *= 1 - 0.35 * inside  # a cell body displaces neuropil
        light = profile * somata.brightness[i] * brightness[i] * vessels[box]
        flat = np.ravel_multi_index(tuple(np.mgrid[box]), canvas)
        used = profile > 0.01
        pixels.append(flat[used])
        weights.append(light[used])
        start.append(start[-1] + int(used.sum()))
        mask = np.zeros(canvas, bool)
        mask[box] = distance < edge
        masks.append(mask[margin_px:-margin_px, margin_px:-margin_px])
    spread = where[None] - tissue.neuropil_yx_um[:, None, None]
    modes = np.exp(-(spread**2).sum(-1) / (2 * tissue.neuropil_sigma_um**2))
    modes /= modes.sum(0).mean()
    modes *= static
    return FieldImage(
        shape=(shape[0], shape[1]),
        margin_px=margin_px,
        static=static.astype(np.float32),
        modes=modes.reshape(len(modes), -1).astype(np.float32),
        cell=cells,
        start=np.array(start, np.int64),
        pixel=np.concatenate(pixels).astype(np.int32),
        weight=np.concatenate(weights).astype(np.float32),
        masks=np.array(masks).reshape(-1, *shape),
        centroid_yx_px=center[cells],
    )
