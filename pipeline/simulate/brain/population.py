"""A primary visual cortex of known receptive fields.

A cell looks for a corner or a bend: two Gabor patches side by side at an angle, so that its best
image is no Gabor patch, as in mouse cortex (Walker et al. 2019). Four kinds, from the output ``l``
of a linear filter and ``e``, ``o`` of a pair in quadrature, each in units of its standard deviation
over natural images:

- *simple*: ``u = l``, both patches in one filter
- *complex*: ``u = sqrt(e^2 + o^2)``, the energy of both patches together
- *mixed*: ``u = a l + (1 - a) sqrt(e^2 + o^2)``, linear in one patch and energy of the other
- *normalized*: ``u = k v / (s + c)`` with ``v`` as of a complex or mixed cell and ``c`` the
  contrast (standard deviation of the image) around its receptive field.

No linear filter finds what a mixed or complex cell wants most.

The rate is ``base + scale * softplus(u - threshold)^power``, gently saturating, times a gain set by
pupil and running; gaze moves all receptive fields together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.rng import generator
from pipeline.simulate.photographs import natural_images

from .cells import CellTable, draw_cells
from .filters import gabors, shift_receptive_fields, to_model_pixels

IMAGE_MEAN = 110.0  # (gray levels) of the packaged photographs, fixed so that filters are too
IMAGE_SD = 55.0
PUPIL_RADIUS_PX = 15.0  # reference state of the animal, at which the gain is 1
SPEED_CM_S = 2.0
SATURATION = 5.0  # (natural sd) drive at which the rate is half of the unsaturated one
SHARPNESS = 8.0  # of the softplus that stands for the threshold


@lru_cache(maxsize=4)
def _calibration_images(shape: tuple[int, int]) -> NDArray[np.float32]:
    images = natural_images(800, (2 * shape[0], 2 * shape[1]), seed=17)
    return (to_model_pixels(images, shape) - IMAGE_MEAN) / IMAGE_SD


def _filters(cells: CellTable, shape: tuple[int, int]) -> tuple[NDArray, NDArray, NDArray]:
    """Draw the linear filters and the pairs in quadrature, each (units, height * width)."""
    n = len(cells.kind)
    # the second patch continues the stripes of the first and bends away
    along_y = np.cos(cells.orientation_rad) * cells.reach_px / 2
    along_x = -np.sin(cells.orientation_rad) * cells.reach_px / 2
    size: dict[str, Any] = {
        "sigma_px": cells.sigma_px,
        "aspect": cells.aspect,
        "wavelength_px": cells.wavelength_px,
        "shape": shape,
    }

    def patch(which: int, quadrature: float) -> NDArray:
        sign = 2 * which - 1
        phase = (cells.phase_rad, cells.second_phase_rad)[which]
        return gabors(
            y_px=cells.y_px + sign * along_y,
            x_px=cells.x_px + sign * along_x,
            orientation_rad=cells.orientation_rad + which * cells.bend_rad,
            phase_rad=phase + quadrature,
            **size,
        ).reshape(n, -1)

    weight = cells.second_weight[:, None].astype(np.float32)
    apart = ((cells.phase_weight > 0) & (cells.phase_weight < 1))[:, None]
    linear = np.zeros(0)
    banks = []
    for quadrature in (0.0, -np.pi / 2):
        first, second = patch(0, quadrature), patch(1, quadrature)
        both = first + weight * second
        banks.append(np.where(apart, second, both))
        if quadrature == 0:
            linear = np.where(apart, first, both)
    even, odd = banks
    return linear, even, odd


class TrueResponse(nn.Module):
    """The noiseless response as a differentiable module: z-scored (n, 1, h, w) to Hz (n, units).

    At mean gaze and behavior, since only the image is an argument.
    """

    linear: torch.Tensor
    even: torch.Tensor
    odd: torch.Tensor
    pool: torch.Tensor
    weight: torch.Tensor
    normalisation: torch.Tensor
    threshold: torch.Tensor
    power: torch.Tensor
    base: torch.Tensor
    drive_scale: torch.Tensor
    scale: torch.Tensor

    def __init__(self, cells: CellTable, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (shape[0], shape[1])
        n = len(cells.kind)
        linear, even, odd = _filters(cells, self.shape)
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        spread = 1.3 * cells.sigma_px[:, None, None] * np.sqrt(cells.aspect)[:, None, None]
        pool = np.exp(
            -((yy - cells.y_px[:, None, None]) ** 2 + (xx - cells.x_px[:, None, None]) ** 2)
            / (2 * spread**2)
        ).reshape(n, -1)
        pool /= pool.sum(1, keepdims=True)
        natural = _calibration_images(self.shape).reshape(-1, shape[0] * shape[1])
        for bank in (linear, even, odd):
            bank /= (natural @ bank.T).std(0)[:, None]
        for name, array in (
            ("linear", linear),
            ("even", even),
            ("odd", odd),
            ("pool", pool),
            ("weight", cells.phase_weight),
            ("normalisation", cells.normalisation),
            ("threshold", cells.threshold),
            ("power", cells.power),
            ("base", cells.base_hz),
            ("drive_scale", np.ones(n)),
            ("scale", np.ones(n)),
        ):
            self.register_buffer(name, torch.as_tensor(np.asarray(array, np.float32)))
        with torch.no_grad():
            drive = self._drive(torch.as_tensor(natural))
            self.drive_scale.copy_(1 / drive.std(0))
            evoked = self._rate(drive * self.drive_scale) - self.base
            self.scale.copy_(torch.as_tensor(cells.mean_hz, dtype=torch.float32) / evoked.mean(0))

    def _mix(self, linear, even, odd, contrast, units=slice(None)):
        energy = (even**2 + odd**2 + 1e-6).sqrt()
        weight = self.weight[units]
        mixed = weight * linear + (1 - weight) * energy
        divisor = 0.25 + contrast
        return torch.where(self.normalisation[units] > 0, mixed / divisor, mixed)

    def _drive(self, flat: torch.Tensor) -> torch.Tensor:
        variance = (flat**2) @ self.pool.T - (flat @ self.pool.T) ** 2
        contrast = (variance.clamp(min=0) + 1e-6).sqrt()
        linear, even, odd = (flat @ bank.T for bank in (self.linear, self.even, self.odd))
        return self._mix(linear, even, odd, contrast)

    def _rate(self, drive: torch.Tensor, units=slice(None)) -> torch.Tensor:
        above = drive - self.threshold[units]
        above = nn.functional.softplus(above * SHARPNESS) / SHARPNESS
        raised = above ** self.power[units] / (1 + above / SATURATION)
        return self.base[units] + self.scale[units] * raised

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return rates (Hz) of every unit, shape (n, units)."""
        return self._rate(self._drive(images.reshape(len(images), -1)) * self.drive_scale)

    def forward_units(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the rate of unit ``units[i]`` to image i, shape (n,)."""
        flat = images.reshape(len(images), -1)
        banks = (self.linear, self.even, self.odd)
        linear, even, odd = ((flat * bank[units]).sum(1) for bank in banks)
        pool = self.pool[units]
        variance = (flat**2 * pool).sum(1) - (flat * pool).sum(1) ** 2
        contrast = (variance.clamp(min=0) + 1e-6).sqrt()
        drive = self._mix(linear, even, odd, contrast, units) * self.drive_scale[units]
        return self._rate(drive, units)


class Population:
    """Cells of known tuning, gain and noise, without any movie around them.

    Parameters
    ----------
    seed : int
        The animal. The first cells of a larger population are not those of a smaller one.
    n_cells : int
        Number of cells that respond to images.
    shape : (int, int)
        Model pixels, height and width.
    kinds : dict, optional
        Fractions of simple, complex, mixed and normalized cells.
    """

    def __init__(
        self,
        seed: int = 0,
        n_cells: int = 200,
        shape: tuple[int, int] = (36, 64),
        kinds: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.n_cells, self.shape = int(seed), int(n_cells), (shape[0], shape[1])
        self.image_mean, self.image_sd = IMAGE_MEAN, IMAGE_SD
        self.cells = draw_cells(n_cells, seed, self.shape, kinds)
        self.module = TrueResponse(self.cells, self.shape).eval()
        rng = generator(seed, "gaze map")
        scale = shape[0] / 36
        self.gaze_map = scale * (
            np.array([[-0.55, 0.06], [0.05, 0.5]]) + rng.normal(0, 0.03, (2, 2))
        )  # model px (x, y) of the receptive fields per eye px (x, y) of the pupil
        self.pupil_mean_px = np.array([80.0, 60.0]) + rng.uniform(-6, 6, 2)

    def zscore(self, images: NDArray) -> NDArray[np.float32]:
        """Return images of any size (gray levels) as z-scored model pixels (n, h, w)."""
        return (to_model_pixels(images, self.shape) - self.image_mean) / self.image_sd

    def gaze_shift_px(self, gaze: NDArray | None, n: int) -> NDArray[np.float64]:
        """Displacement (x, y) of all receptive fields in model pixels, shape (n, 2)."""
        if gaze is None:
            return np.zeros((n, 2))
        gaze = np.broadcast_to(np.asarray(gaze, float), (n, 2))
        return (gaze - self.pupil_mean_px) @ self.gaze_map.T

    def log_gain(self, behavior: NDArray | None, n: int) -> NDArray[np.float64]:
        """Log of the gain that behavior sets, shape (n, units); 0 at the reference state."""
        if behavior is None:
            return np.zeros((n, self.n_cells))
        radius, dilation, speed = np.broadcast_to(np.asarray(behavior, float), (n, 3)).T
        cells = self.cells

        def running(cm_s: NDArray | float) -> NDArray:
            return np.abs(cm_s) / (np.abs(cm_s) + 5.0)

        gain = (
            np.outer(radius / PUPIL_RADIUS_PX - 1, cells.gain_pupil)
            + np.outer(dilation, cells.gain_dilation)
            + np.outer(running(speed) - running(SPEED_CM_S), cells.gain_running)
        )
        return np.clip(gain, -2.0, 1.6)

    def drive(
        self,
        images: NDArray,
        units: NDArray | None = None,
        behavior: NDArray | None = None,
        gaze: NDArray | None = None,
    ) -> NDArray[np.float32]:
        """Return the true noiseless response (Hz), shape (n, units).

        Parameters
        ----------
        images : array, shape (n, height, width)
            Gray levels, any size of the monitor's aspect ratio.
        units : int array, optional
            Which cells; default all.
        behavior : array, shape (n, 3) or (3,), optional
            Pupil radius (eye px), its derivative (px/s), running speed (cm/s); default: gain 1.
        gaze : array, shape (n, 2) or (2,), optional
            Pupil center (x, y) in eye px; default the mean.
        """
        z = torch.as_tensor(self.zscore(images))
        n = len(z)
        shift = self.gaze_shift_px(gaze, n)
        rates = np.empty((n, self.n_cells), np.float32)
        with torch.no_grad():
            for start in range(0, n, 512):
                part = z[start : start + 512]
                if gaze is not None:
                    move = torch.as_tensor(shift[start : start + 512], dtype=torch.float32)
                    part = shift_receptive_fields(part, move)
                rates[start : start + 512] = self.module(part).numpy()
        if behavior is not None:
            rates *= np.exp(self.log_gain(behavior, n)).astype(np.float32)
        return rates if units is None else rates[:, np.asarray(units)]

    def torch_module(self) -> TrueResponse:
        """Return the differentiable truth at mean gaze and behavior."""
        return self.module

    def optimal_images(
        self, norm: float | NDArray, units: NDArray | None = None, steps: int = 120
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the images of a given L2 norm that drive each unit most.

        Projected ascent on the true response from four starts; exact for a simple cell, whose
        optimum is its filter.

        Parameters
        ----------
        norm : float or array, shape (units,)
            L2 norm in z-scored model pixels.
        units : int array, optional
            Which cells; default all.
        steps : int
            Ascent steps.

        Returns
        -------
        images : array, shape (units, height, width)
            Z-scored.
        rates : array, shape (units,)
            Response to them (Hz).
        """
        chosen = torch.as_tensor(np.arange(self.n_cells) if units is None else np.asarray(units))
        size = torch.as_tensor(np.broadcast_to(norm, (len(chosen),)).astype(np.float32))[:, None]
        best = torch.full((len(chosen),), -torch.inf)
        images = torch.zeros(len(chosen), self.shape[0] * self.shape[1])
        module = self.module
        for even, odd in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            z = module.weight[chosen, None] * module.linear[chosen]
            z = z + even * module.even[chosen] + odd * module.odd[chosen]
            z = size * z / z.norm(dim=1, keepdim=True)
            for step in range(steps + 1):
                z.requires_grad_(True)
                rate = module.forward_units(z, chosen)
                (gradient,) = torch.autograd.grad(rate.sum(), z)
                with torch.no_grad():
                    better = rate > best
                    best = torch.where(better, rate, best)
                    images[better] = z[better]
                    stride = 0.2 * size * (1 - step / (steps + 1))
                    z = z + stride * gradient / (gradient.norm(dim=1, keepdim=True) + 1e-12)
                    z = size * z / z.norm(dim=1, keepdim=True)
        return images.reshape(-1, *self.shape).detach().numpy(), best.detach().numpy()

    def best_drive(self, norm: float | NDArray, units: NDArray | None = None) -> NDArray:
        """Return the largest possible response (Hz) to an image of that norm, shape (units,)."""
        return self.optimal_images(norm, units)[1]

    def relative_drive(
        self, images: NDArray, units: NDArray, norm: float | NDArray | None = None
    ) -> NDArray[np.float64]:
        """Return the drive of image i on unit i, relative to the best image of the same contrast.

        Parameters
        ----------
        images : array, shape (units, height, width)
            Gray levels, any size of the monitor's aspect ratio.
        units : int array, shape (units,)
        norm : float or array, optional
            L2 norm that the best image may have (z-scored model pixels); default that of each
            image about its mean, since the cells do not see the mean.
        """
        z = self.zscore(images)
        if norm is None:
            norm = np.sqrt(((z - z.mean((1, 2), keepdims=True)) ** 2).sum((1, 2)))
        units = np.asarray(units)
        with torch.no_grad():
            rate = self.module.forward_units(torch.as_tensor(z), torch.as_tensor(units)).numpy()
        return rate.astype(np.float64) / self.best_drive(norm, units)
