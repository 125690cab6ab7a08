"""A primary visual cortex of known receptive fields.

What a cell looks for is drawn by one of `POPULATIONS`: *bends* are two Gabor patches side by side
at an angle; *v1* are the forms of mouse layer 2/3 (`layer23`). How it sums, from the output ``l``
of a linear filter and ``e``, ``o`` of a pair in quadrature, each in units of its standard deviation
over natural images:

- *simple*: ``u = l``, all of the form in one filter
- *complex*: ``u = sqrt(e^2 + o^2)``, the energy of the whole form
- *mixed*: ``u = a l + (1 - a) sqrt(e^2 + o^2)``, linear in one part and energy of the other
- *normalized*: ``u = k v / (s + c)`` with ``v`` as of a complex or mixed cell and ``c`` the
  contrast (standard deviation of the image) around its receptive field.

No linear filter finds what a mixed or complex cell wants most.

The rate is ``base + scale * softplus(u - threshold)^power``, gently saturating, times a gain set by
pupil and running; gaze moves all receptive fields together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.rng import generator
from pipeline.simulate.photographs import natural_images

from .bends import draw_bends
from .cells import Banks, CellTable
from .filters import shift_receptive_fields, to_model_pixels
from .layer23 import draw_v1, gain_variance

IMAGE_MEAN = 110.0  # (gray levels) of the packaged photographs, fixed so that filters are too
IMAGE_SD = 55.0
PUPIL_RADIUS_PX = 15.0  # reference state of the animal, at which the gain is 1
SPEED_CM_S = 2.0
FORM_NORM = 12.0  # of the image of a form, as MEIs have
SHARPNESS = 8.0  # of the softplus that stands for the threshold


@lru_cache(maxsize=4)
def _calibration_images(shape: tuple[int, int]) -> NDArray[np.float32]:
    images = natural_images(800, (2 * shape[0], 2 * shape[1]), seed=17)
    return (to_model_pixels(images, shape) - IMAGE_MEAN) / IMAGE_SD


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
    inhibition: torch.Tensor
    threshold: torch.Tensor
    power: torch.Tensor
    saturation: torch.Tensor
    base: torch.Tensor
    drive_scale: torch.Tensor
    scale: torch.Tensor

    def __init__(self, cells: CellTable, banks: Banks, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (shape[0], shape[1])
        n = len(cells.kind)
        linear, even, odd = banks.linear, banks.even, banks.odd
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        spread = 1.3 * cells.sigma_px[:, None, None] * np.sqrt(cells.aspect)[:, None, None]
        pool = np.exp(
            -((yy - cells.y_px[:, None, None]) ** 2 + (xx - cells.x_px[:, None, None]) ** 2)
            / (2 * spread**2)
        ).reshape(n, -1)
        pool /= pool.sum(1, keepdims=True)
        natural = _calibration_images(self.shape).reshape(-1, shape[0] * shape[1])
        for bank in (linear, even, odd):
            sd = (natural @ bank.T).std(0)[:, None]
            bank /= np.where(sd > 0, sd, 1)  # a form without a partner has an empty filter
        for name, array in (
            ("linear", linear),
            ("even", even),
            ("odd", odd),
            ("pool", pool),
            ("weight", cells.phase_weight),
            ("normalisation", cells.normalisation),
            ("threshold", cells.threshold),
            ("power", cells.power),
            ("saturation", cells.saturation),
            ("base", cells.base_hz),
            ("drive_scale", np.ones(n)),
            ("scale", np.ones(n)),
        ):
            self.register_buffer(name, torch.as_tensor(np.asarray(array, np.float32)))
        self.register_buffer("inhibition", torch.zeros(n))
        with torch.no_grad():
            self.inhibition.copy_(self._inhibition(cells))
            drive = self._drive(torch.as_tensor(natural))
            if cells.threshold_from_mean:
                self.threshold += drive.mean(0) / drive.std(0)
            self.drive_scale.copy_(1 / drive.std(0))
            evoked = self._rate(drive * self.drive_scale) - self.base
            self.scale.copy_(torch.as_tensor(cells.mean_hz, dtype=torch.float32) / evoked.mean(0))

    def _inhibition(self, cells: CellTable) -> torch.Tensor:
        """Return the weight of contrast with which the form keeps its share of the drive."""
        share = torch.as_tensor(cells.inhibition, dtype=torch.float32)
        if not share.any():
            return share
        weight = self.weight[:, None]
        form = weight * self.linear + (1 - weight) * self.even
        form = FORM_NORM * form / form.norm(dim=1, keepdim=True)
        linear, even, odd = ((form * b).sum(1) for b in (self.linear, self.even, self.odd))
        drive = self.weight * linear + (1 - self.weight) * (even**2 + odd**2).sqrt()
        contrast = ((form**2 * self.pool).sum(1) - (form * self.pool).sum(1) ** 2).sqrt()
        return share * drive / contrast

    def _mix(self, linear, even, odd, contrast, units=slice(None)):
        energy = (even**2 + odd**2 + 1e-6).sqrt()
        weight = self.weight[units]
        mixed = weight * linear + (1 - weight) * energy - self.inhibition[units] * contrast
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
        raised = above ** self.power[units] / (1 + above / self.saturation[units])
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


POPULATIONS: dict[str, Callable[..., tuple[CellTable, Banks]]] = {
    "bends": draw_bends,
    "v1": draw_v1,
}
"""What a population may be like. A changed draw gets a new name: the old one can be drawn again."""


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
    like : str
        What the cells look for, and how noisy they are: one of `POPULATIONS`.
    oracle : float, optional
        Median oracle correlation that the noise of *v1* cells is made for; see `layer23`.

    Raises
    ------
    ValueError
        If there is no such population, or it has no oracle to choose.
    """

    def __init__(
        self,
        seed: int = 0,
        n_cells: int = 200,
        shape: tuple[int, int] = (36, 64),
        kinds: dict[str, float] | None = None,
        *,
        like: str = "bends",
        oracle: float | None = None,
    ) -> None:
        if like not in POPULATIONS:
            raise ValueError(f"no population {like!r}; there are {sorted(POPULATIONS)}")
        self.seed, self.n_cells, self.shape = int(seed), int(n_cells), (shape[0], shape[1])
        self.image_mean, self.image_sd = IMAGE_MEAN, IMAGE_SD
        given = {} if oracle is None else {"oracle": oracle}
        if given and like == "bends":
            raise ValueError("the noise of 'bends' is drawn, not made for an oracle; like='v1' is")
        self.cells, banks = POPULATIONS[like](n_cells, seed, self.shape, kinds, **given)
        self.module = TrueResponse(self.cells, banks, self.shape).eval()
        if np.isfinite(self.cells.oracle).all():
            natural = torch.as_tensor(_calibration_images(self.shape))
            with torch.no_grad():
                rates = self.module(natural).numpy()
            self.cells = replace(self.cells, noise_gain_var=gain_variance(rates, self.cells))
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
            z = size * z / z.norm(dim=1, keepdim=True).clamp_min(1e-12)
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
