"""Cells in three dimensions, imaged in planes and stacks: truth for matching across days.

Only pictures and masks, no movies: what motion correction and segmentation would leave of a
recording. Cells lie at their own depth; a day images a plane at some offset, rotation, tilt and
depth, finds most of the cells that the plane cuts, and finds a few that are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from pipeline.rng import generator

MARGIN_UM = 65.0  # tissue around the field, for offset and rotation
RASTER_UM = 2.0
LAYER_UM = 12.0  # depth over which the neuropil changes
APART_UM = 11.0  # least distance of two cells
SEEN_UM = 7.0  # a cell farther from the plane gives no unit
AXIAL_UM = 5.0  # sd of the light of a cell out of the plane


@dataclass(frozen=True)
class Day:
    """What one day shows of a field.

    Attributes
    ----------
    mean_image, correlation_image : arrays, shape (H, W)
    masks : array of bool, shape (units, H, W)
    cell : array of int, shape (units,)
        True cell of every unit, -1 for a false one.
    um_per_px : float
    """

    mean_image: NDArray[np.float32]
    correlation_image: NDArray[np.float32]
    masks: NDArray[np.bool_]
    cell: NDArray[np.int64]
    um_per_px: float


@dataclass(frozen=True)
class StructuralStack:
    """A structural volume.

    Attributes
    ----------
    volume : array, shape (slices, H, W)
    um_per_voxel : (float, float, float)
        z, y, x.
    center_um : array, shape (cells, 3)
        Segmented cells, (z, y, x) from the first voxel.
    cell : array of int, shape (cells,)
        True cell of each, -1 for a false one.
    """

    volume: NDArray[np.float32]
    um_per_voxel: tuple[float, float, float]
    center_um: NDArray[np.float64]
    cell: NDArray[np.int64]


class Cortex:
    """A piece of cortex.

    Parameters
    ----------
    seed : int
    half_um : (float, float)
        Half of the height and width of what will be imaged; there is tissue around it.
    depth_um : float
        Half of the thickness.
    per_mm3 : float
        Density of cells; a layer 2/3 has about 110,000 labeled ones.
    """

    def __init__(
        self,
        seed: int,
        half_um: Sequence[float],
        *,
        depth_um: float = 22.0,
        per_mm3: float = 110_000,
    ) -> None:
        rng = generator(seed, "cortex")
        self.half = np.asarray(half_um, float) + MARGIN_UM
        box = np.array([depth_um, *self.half])
        n = round(float(np.prod(2 * box)) * 1e-9 * per_mm3 * 1.6)  # thinned out below
        points = rng.uniform(-box, box, (n, 3))
        keep = np.ones(n, bool)
        for i, j in sorted(cKDTree(points).query_pairs(APART_UM)):
            if keep[i] and keep[j]:
                keep[j] = False
        self.zyx = points[keep]
        n = len(self.zyx)
        self.radius = np.clip(rng.normal(6.2, 0.7, n), 4.8, 8)
        self.stretch = rng.uniform(0, 0.15, n)
        self.axis = rng.uniform(0, np.pi, n)
        self.bright = rng.lognormal(0, 0.45, n)
        self.donut = rng.random(n) < 0.8
        shape = tuple(np.ceil(2 * self.half / RASTER_UM).astype(int))
        n_layers = int(np.ceil(2 * (depth_um + 30) / LAYER_UM)) + 2
        self.coarse = _texture(rng, shape, 20.0)
        self.fine = np.array([_texture(rng, shape, 4.0) for _ in range(n_layers)])
        self.top_um = -(n_layers - 1) / 2 * LAYER_UM
        self.vessels = self._draw_vessels(rng, depth_um)

    def _draw_vessels(self, rng: np.random.Generator, depth_um: float) -> NDArray[np.float64]:
        """Return points of vessels, columns z, y, x, radius (um)."""
        points = []
        for _ in range(max(2, int(np.prod(self.half) / 9000 * max(1.0, depth_um / 22)))):
            place = np.array([rng.uniform(-depth_um, depth_um), *rng.uniform(-1, 1, 2) * self.half])
            heading, slope = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.5)
            radius = rng.uniform(2, 6)
            for _ in range(25):
                points.append([*place, radius])
                heading += rng.normal(0, 0.25)
                place = place + 4 * np.array([slope, np.sin(heading), np.cos(heading)])
        return np.array(points)

    def view(
        self,
        shape: tuple[int, int],
        um_per_px: float,
        seed: int | Sequence[int],
        *,
        shift: Sequence[float] = (0.0, 0.0),
        rotation: float = 0.0,
        z: float = 0.0,
        tilt: Sequence[float] = (0.0, 0.0),
        scale: float = 1.0,
        missing: Sequence[int] = (),
        detect: float = 0.85,
        false: float = 0.05,
    ) -> Day:
        """Image a plane.

        Parameters
        ----------
        shape : (int, int)
        um_per_px : float
        seed : int or sequence of int
            Of everything that differs from day to day.
        shift : (float, float)
            Displacement of the content (y, x; um).
        rotation : float
            Of the content (degrees), before the shift.
        z : float
            Depth of the middle of the plane (um).
        tilt : (float, float)
            Depth gained per um of tissue along y and x.
        scale : float
            Size of the content relative to day 1.
        missing : sequence of int
            Cells that are not found whatever they do.
        detect, false : float
            Share of the cells in the plane that are found, and of false units beside them.
        """
        rng = np.random.default_rng(seed)
        turn = scale * _rotation(rotation)
        center = (np.array(shape) - 1) / 2
        grid = np.moveaxis(np.mgrid[: shape[0], : shape[1]], 0, -1).astype(float)
        tissue = ((grid - center) * um_per_px - np.asarray(shift)) @ np.linalg.inv(turn).T
        depth = z + tissue @ np.asarray(tilt, float)
        image, correlation, dark = self._background(tissue, depth)
        place = (self.zyx[:, 1:] @ turn.T + shift) / um_per_px + center
        dz = self.zyx[:, 0] - (z + self.zyx[:, 1:] @ np.asarray(tilt, float))
        light = self.bright * rng.lognormal(0, 0.3, len(dz))
        active = rng.lognormal(0, 0.6, len(dz))
        gone = np.zeros(len(dz), bool)
        gone[list(missing)] = True
        masks, cells = [], []
        for i, box in self._boxes(place, dz, shape, um_per_px):
            offset = tissue[box] - self.zyx[i, 1:]
            body, profile, edge = self._soma(i, offset)
            axial = np.exp(-0.5 * (dz[i] / AXIAL_UM) ** 2)
            image[box] += axial * (profile * light[i] - 0.3 * body) * dark[box]
            correlation[box] = np.maximum(
                correlation[box], axial * body * min(0.7, 0.25 * active[i]) * dark[box]
            )
            found = abs(dz[i]) < SEEN_UM and not gone[i] and rng.random() < detect
            if found and (place[i] > 3).all() and (place[i] < np.array(shape) - 4).all():
                mask = np.zeros(shape, bool)
                mask[box] = _drawn_mask(rng, offset, edge)
                if mask.sum() * um_per_px**2 > 25:
                    masks.append(mask)
                    cells.append(i)
        for _ in range(rng.poisson(false * len(masks))):
            point = rng.uniform(5, np.array(shape) - 5)
            masks.append(np.hypot(*np.moveaxis(grid - point, -1, 0)) < 5 / um_per_px)
            cells.append(-1)
        uneven = 1 + 0.3 * (grid - center) @ rng.normal(0, 1, 2) / max(shape)
        image = gaussian_filter(image * uneven, 0.6 / um_per_px)
        image = image * 100 + rng.normal(0, 4, shape) * np.sqrt(np.maximum(image, 0.1))
        correlation = gaussian_filter(correlation, 0.5) + rng.normal(0, 0.015, shape)
        return Day(
            image.astype(np.float32),
            correlation.astype(np.float32),
            np.array(masks, bool).reshape(-1, *shape),
            np.array(cells, int),
            um_per_px,
        )

    def stack(
        self,
        z_um: Sequence[float],
        um_per_px: float,
        seed: int | Sequence[int],
        *,
        shift: Sequence[float] = (0.0, 0.0),
        rotation: float = 0.0,
        margin_um: float = 40.0,
        detect: float = 0.92,
        false: float = 0.04,
        jitter_um: float = 0.8,
    ) -> StructuralStack:
        """Image evenly spaced planes, wider than the fields by `margin_um`.

        Parameters as `view`; `detect`, `false` and `jitter_um` (sd along each axis) say how well
        the cells of the volume were segmented.
        """
        rng = np.random.default_rng(seed)
        size = 2 * (self.half - MARGIN_UM + margin_um)
        shape = tuple(np.round(size / um_per_px).astype(int))
        center = (np.array(shape) - 1) / 2
        turn = _rotation(rotation)
        grid = np.moveaxis(np.mgrid[: shape[0], : shape[1]], 0, -1).astype(float)
        tissue = ((grid - center) * um_per_px - np.asarray(shift)) @ turn
        place = (self.zyx[:, 1:] @ turn.T + shift) / um_per_px + center
        light = self.bright * rng.lognormal(0, 0.3, len(self.zyx))
        slices = []
        for z in z_um:
            image, _, dark = self._background(tissue, np.full(shape, float(z)))
            dz = self.zyx[:, 0] - z
            for i, box in self._boxes(place, dz, shape, um_per_px):
                body, profile, _ = self._soma(i, tissue[box] - self.zyx[i, 1:])
                axial = np.exp(-0.5 * (dz[i] / AXIAL_UM) ** 2)
                image[box] += axial * (profile * light[i] - 0.3 * body) * dark[box]
            image = gaussian_filter(image, 0.6 / um_per_px) * 100
            slices.append(image + rng.normal(0, 4, shape) * np.sqrt(np.maximum(image / 100, 0.1)))
        step = float(z_um[1] - z_um[0])
        inside = ((place > 2) & (place < np.array(shape) - 3)).all(1)
        inside &= (self.zyx[:, 0] > z_um[0]) & (self.zyx[:, 0] < z_um[-1])
        found = np.flatnonzero(inside & (rng.random(len(inside)) < detect))
        centers = np.column_stack([self.zyx[found, 0] - z_um[0], place[found] * um_per_px])
        centers += rng.normal(0, jitter_um, centers.shape)
        n_false = rng.poisson(false * len(found))
        limit = [z_um[-1] - z_um[0], *(np.array(shape) * um_per_px)]
        return StructuralStack(
            np.array(slices, np.float32),
            (step, um_per_px, um_per_px),
            np.concatenate([centers, rng.uniform(0, limit, (n_false, 3))]),
            np.concatenate([found, np.full(n_false, -1)]),
        )

    def _background(self, tissue: NDArray, depth: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return neuropil in the light, its correlation, and the transmission of vessels."""
        raster = np.moveaxis(tissue + self.half, -1, 0) / RASTER_UM
        layer = np.clip((depth - self.top_um) / LAYER_UM, 0, len(self.fine) - 1.001)
        part = layer - np.floor(layer)
        # two layers mixed by cosine and sine: the same variance at every depth
        above, below = (
            map_coordinates(self.fine, [np.floor(layer) + k, *raster], order=1, mode="reflect")
            for k in (0, 1)
        )
        fine = np.cos(np.pi / 2 * part) * above + np.sin(np.pi / 2 * part) * below
        coarse = map_coordinates(self.coarse, raster, order=1, mode="reflect")
        dark = np.ones(depth.shape)
        step = np.abs(np.diff(tissue, axis=0)).sum(-1).max()
        tree = cKDTree(np.column_stack([depth.ravel(), tissue.reshape(-1, 2)])[:, [1, 2]])
        low, high = depth.min() - 12, depth.max() + 12
        flat_tissue, flat_depth, flat_dark = tissue.reshape(-1, 2), depth.ravel(), dark.ravel()
        for z, y, x, radius in self.vessels:
            if low < z < high:
                near = tree.query_ball_point((y, x), 1.6 * radius + step)
                far = np.hypot(*(flat_tissue[near] - (y, x)).T)
                r = np.hypot(far, flat_depth[near] - z) / radius
                flat_dark[near] = np.minimum(flat_dark[near], 1 - 0.8 * np.exp(-(r**4)))
        image = np.exp(0.2 * coarse + 0.2 * fine) * dark
        return image, 0.12 + 0.03 * fine, dark

    def _boxes(self, place: NDArray, dz: NDArray, shape: tuple[int, int], um_per_px: float):
        """Yield every cell near the plane with the box of pixels around it."""
        reach = int(np.ceil(12 / um_per_px))
        inside = ((place > -reach) & (place < np.array(shape) + reach)).all(1)
        for i in np.flatnonzero(inside & (np.abs(dz) < 2 * SEEN_UM)):
            low = np.maximum(np.round(place[i]).astype(int) - reach, 0)
            high = np.minimum(np.round(place[i]).astype(int) + reach + 1, shape)
            if (high - low >= 2).all():
                yield i, (slice(low[0], high[0]), slice(low[1], high[1]))

    def _soma(self, i: int, offset: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return the body, the light (darker in a nucleus) and the radius in each direction."""
        r = np.hypot(offset[..., 0], offset[..., 1])
        theta = np.arctan2(offset[..., 0], offset[..., 1])
        edge = self.radius[i] * (1 + self.stretch[i] * np.cos(2 * (theta - self.axis[i])))
        body = 1 / (1 + np.exp((r - edge) / 0.7))
        hole = 0.6 / (1 + np.exp((r - 0.5 * edge) / 0.8)) if self.donut[i] else 0.0
        return body, body * (1 - hole), edge


def two_days(
    seed: int,
    shape: tuple[int, int] = (144, 144),
    um_per_px: float = 1.5,
    *,
    offset: float = 30.0,
    rotation: float = 3.0,
    lost: float = 0.15,
    z_error: float = 5.0,
    scale: float = 0.01,
) -> tuple[Day, Day, dict]:
    """Return day 1, day 2 and the true view of day 2.

    Parameters
    ----------
    offset, rotation, z_error : float
        Largest offset (um), rotation (degrees) and error of depth (um) of day 2.
    lost : float
        Share of the cells that day 2 does not find, and as many that only it finds.
    scale : float
        Standard deviation of day 2's magnification.
    """
    rng = generator(seed, "two days")
    cortex = Cortex(seed, [n * um_per_px / 2 for n in shape])
    draw = rng.permutation(len(cortex.zyx)).tolist()
    k = round(lost * len(draw))
    angle, length = rng.uniform(0, 2 * np.pi), offset * np.sqrt(rng.uniform(0.2, 1))
    view: dict[str, Any] = {
        "shift": length * np.array([np.sin(angle), np.cos(angle)]),
        "rotation": rng.uniform(-rotation, rotation),
        "z": rng.uniform(-z_error, z_error),
        "scale": 1 + rng.normal(0, scale),
    }
    one = cortex.view(shape, um_per_px, (seed, 2), missing=draw[:k])
    two = cortex.view(shape, um_per_px, (seed, 3), missing=draw[k : 2 * k], **view)
    return one, two, view


def _drawn_mask(rng: np.random.Generator, offset: NDArray, edge: NDArray) -> NDArray[np.bool_]:
    """Return the outline that a segmentation would draw: displaced, resized, ragged."""
    grow = 1 + rng.normal(0, 0.12)
    moved = np.hypot(*np.moveaxis(offset - rng.normal(0, 0.7, 2), -1, 0))
    ragged = 4 * gaussian_filter(rng.normal(size=edge.shape), 2.5)
    return moved < edge * grow + ragged


def _rotation(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _texture(
    rng: np.random.Generator, shape: tuple[int, ...], sigma_um: float
) -> NDArray[np.float64]:
    smooth = gaussian_filter(rng.normal(size=shape), sigma_um / RASTER_UM)
    return smooth / smooth.std()
