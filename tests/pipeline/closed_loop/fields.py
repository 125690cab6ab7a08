"""Two days of one piece of cortex, with known cells: truth for the matching tests.

Cells lie in three dimensions; a day images a plane at some depth, offset and rotation. Nothing
here uses the code under test.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree


@dataclass
class Day:
    mean_image: np.ndarray
    correlation_image: np.ndarray
    masks: np.ndarray  # (units, H, W) bool
    cell: np.ndarray  # (units,) identity, -1: a false unit
    um_per_px: float


class Cortex:
    def __init__(self, seed, half_um, per_mm3=110_000, depth_um=22.0):
        rng = np.random.default_rng(seed)
        self.half = np.asarray(half_um) + 65.0
        volume = np.prod(2 * self.half) * 2 * depth_um * 1e-9
        n = round(volume * per_mm3 * 1.6)
        box = np.array([depth_um, *self.half])
        points = rng.uniform(-box, box, (n, 3))
        keep = np.ones(n, bool)
        for i, j in sorted(cKDTree(points).query_pairs(11.0)):
            if keep[i] and keep[j]:
                keep[j] = False
        self.zyx = points[keep]
        n = len(self.zyx)
        self.radius = np.clip(rng.normal(6.2, 0.7, n), 4.8, 8)
        self.stretch = rng.uniform(0, 0.15, n)
        self.axis = rng.uniform(0, np.pi, n)
        self.bright = rng.lognormal(0, 0.45, n)
        self.donut = rng.random(n) < 0.8
        shape = tuple(np.ceil(2 * self.half / 2).astype(int))  # 2 um raster
        self.texture = [gaussian_filter(rng.normal(size=shape), s / 2) for s in (20, 4, 4)]
        self.texture = [t / t.std() for t in self.texture]
        self.vessel = np.zeros(shape)
        yy, xx = np.mgrid[: shape[0], : shape[1]] * 2.0
        for _ in range(max(2, int(np.prod(self.half) / 9000))):
            p, heading = rng.uniform(0, 2 * self.half), rng.uniform(0, 2 * np.pi)
            radius = rng.uniform(2, 6)
            for _ in range(25):
                self.vessel = np.maximum(
                    self.vessel, np.exp(-((np.hypot(yy - p[0], xx - p[1]) / radius) ** 4))
                )
                heading += rng.normal(0, 0.25)
                p = p + 4 * np.array([np.sin(heading), np.cos(heading)])

    def view(self, shape, um_per_px, seed, *, shift=(0.0, 0.0), rotation=0.0, z=0.0, scale=1.0,
             missing=(), detect=0.85, false=0.05):  # fmt: skip
        """Image the plane at depth z; content is rotated (deg), scaled, then shifted (um)."""
        rng = np.random.default_rng(seed)
        angle = np.deg2rad(rotation)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        center = (np.array(shape) - 1) / 2
        grid = np.stack(np.mgrid[: shape[0], : shape[1]], -1).astype(float)
        tissue = ((grid - center) * um_per_px - shift) @ np.linalg.inv(turn).T
        raster = np.moveaxis(tissue + self.half, -1, 0) / 2

        def sample(a):
            return map_coordinates(a, raster, order=1, mode="reflect")

        mix = np.exp(-((z / 8.0) ** 2))  # fine neuropil changes with depth
        fine = mix * self.texture[1] + np.sqrt(1 - mix**2) * self.texture[2]
        neuropil = np.exp(0.2 * sample(self.texture[0]) + 0.2 * sample(fine))
        dark = 1 - 0.8 * sample(self.vessel)
        image = neuropil * dark
        correlation = 0.12 + 0.03 * sample(fine)
        place = (self.zyx[:, 1:] @ turn.T + shift) / um_per_px + center
        dz = self.zyx[:, 0] - z
        day_bright = self.bright * rng.lognormal(0, 0.3, len(dz))
        active = rng.lognormal(0, 0.6, len(dz))
        gone = np.zeros(len(dz), bool)
        gone[list(missing)] = True
        masks, cells = [], []
        reach = int(np.ceil(12 / um_per_px))
        inside = ((place > -reach) & (place < np.array(shape) + reach)).all(1)
        for i in np.flatnonzero(inside & (np.abs(dz) < 14)):
            low = np.maximum(np.round(place[i]).astype(int) - reach, 0)
            high = np.minimum(np.round(place[i]).astype(int) + reach + 1, shape)
            if (high - low < 2).any():
                continue
            box = (slice(low[0], high[0]), slice(low[1], high[1]))
            d = tissue[box] - self.zyx[i, 1:]
            r = np.hypot(d[..., 0], d[..., 1])
            theta = np.arctan2(d[..., 0], d[..., 1])
            edge = self.radius[i] * (1 + self.stretch[i] * np.cos(2 * (theta - self.axis[i])))
            axial = np.exp(-0.5 * (dz[i] / 5.0) ** 2)
            body = 1 / (1 + np.exp((r - edge) / 0.7))
            hole = 0.6 / (1 + np.exp((r - 0.5 * edge) / 0.8)) if self.donut[i] else 0
            image[box] += axial * body * ((1 - hole) * day_bright[i] - 0.3) * dark[box]
            correlation[box] = np.maximum(
                correlation[box], axial * body * min(0.7, 0.25 * active[i]) * dark[box]
            )
            found = np.abs(dz[i]) < 7 and not gone[i] and rng.random() < detect
            if found and (place[i] > 3).all() and (place[i] < np.array(shape) - 4).all():
                grow = 1 + rng.normal(0, 0.12)
                shift_um = rng.normal(0, 0.7, 2)
                wobble = 5 * gaussian_filter(rng.normal(size=r.shape), 2.5)
                moved = np.hypot(*(np.moveaxis(d, -1, 0) - shift_um[:, None, None]))
                mask = np.zeros(shape, bool)
                mask[box] = moved < edge * grow + 0.8 * wobble
                if mask.sum() * um_per_px**2 > 25:
                    masks.append(mask)
                    cells.append(i)
        for _ in range(rng.poisson(false * len(masks))):
            p = rng.uniform(5, np.array(shape) - 5)
            mask = np.hypot(*(np.moveaxis(grid, -1, 0) - p[:, None, None])) < 5 / um_per_px
            masks.append(mask)
            cells.append(-1)
        gradient = 1 + 0.3 * (grid - center) @ rng.normal(0, 1, 2) / max(shape)
        image = gaussian_filter(image * gradient, 0.6 / um_per_px)
        image = image * 100 + rng.normal(0, 4, shape) * np.sqrt(np.maximum(image, 0.1))
        correlation = gaussian_filter(correlation, 0.5) + rng.normal(0, 0.015, shape)
        stack = np.array(masks).reshape(-1, *shape)
        images = (image.astype(np.float32), correlation.astype(np.float32))
        return Day(*images, stack, np.array(cells, int), um_per_px)


def two_days(seed, shape=(144, 144), um_per_px=1.5, *, offset=30.0, rotation=3.0, lost=0.15,
             z_error=5.0, scale=0.01):  # fmt: skip
    """Day 1, day 2 and their true offset; `lost` of the cells lost and as many new."""
    rng = np.random.default_rng((seed, 1))
    cortex = Cortex(seed, np.array(shape) * um_per_px / 2)
    n = len(cortex.zyx)
    draw = rng.permutation(n)
    k = round(lost * n)
    angle, length = rng.uniform(0, 2 * np.pi), offset * np.sqrt(rng.uniform(0.2, 1))
    view = {
        "shift": length * np.array([np.sin(angle), np.cos(angle)]),
        "rotation": rng.uniform(-rotation, rotation),
        "z": rng.uniform(-z_error, z_error),
        "scale": 1 + rng.normal(0, scale),
    }
    one = cortex.view(shape, um_per_px, (seed, 2), missing=draw[:k])
    two = cortex.view(shape, um_per_px, (seed, 3), missing=draw[k : 2 * k], **view)
    return one, two, view
