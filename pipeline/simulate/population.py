"""A primary visual cortex of known receptive fields.

Four kinds of cell, all built from a pair of Gabor filters in quadrature whose outputs ``e`` (even)
and ``o`` (odd) are in units of their standard deviation over natural images:

- *simple*: ``u = e``
- *complex*: ``u = sqrt(e^2 + o^2)``, the energy
- *mixed*: ``u = a e + (1 - a) sqrt(e^2 + o^2)``
- *normalised*: ``u = k v / (s + c)`` with ``v`` as of a simple, complex or mixed cell and ``c`` the
  contrast (standard deviation of the image) around its receptive field.

The rate is ``base + scale * softplus(u - threshold)^power``, gently saturating, times a gain set by
pupil and running; gaze moves all receptive fields together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.rng import generator

from .filters import gabors, shift_receptive_fields, to_model_pixels
from .photographs import natural_images

KINDS = ("simple", "complex", "mixed", "normalised")
IMAGE_MEAN = 110.0  # (grey levels) of the packaged photographs, fixed so that filters are too
IMAGE_SD = 55.0
PUPIL_RADIUS_PX = 15.0  # reference state of the animal, at which the gain is 1
SPEED_CM_S = 2.0
SATURATION = 5.0  # (natural sd) drive at which the rate is half of the unsaturated one
SHARPNESS = 8.0  # of the softplus that stands for the threshold


@lru_cache(maxsize=4)
def _calibration_images(shape: tuple[int, int]) -> NDArray[np.float32]:
    images = natural_images(800, (2 * shape[0], 2 * shape[1]), seed=17)
    return (to_model_pixels(images, shape) - IMAGE_MEAN) / IMAGE_SD


@dataclass(frozen=True)
class CellTable:
    """What is known about every cell; arrays of shape (units,) unless said otherwise."""

    kind: NDArray[np.str_]
    y_px: NDArray[np.float64]  # centre of the receptive field at mean gaze (model pixels)
    x_px: NDArray[np.float64]
    sigma_px: NDArray[np.float64]
    aspect: NDArray[np.float64]
    wavelength_px: NDArray[np.float64]
    orientation_rad: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    phase_weight: NDArray[np.float64]  # 1 simple, 0 complex, between: mixed
    normalisation: NDArray[np.float64]  # 0 none, 1 full
    threshold: NDArray[np.float64]  # (natural sd)
    power: NDArray[np.float64]
    mean_hz: NDArray[np.float64]  # mean evoked rate over natural images
    base_hz: NDArray[np.float64]
    gain_pupil: NDArray[np.float64]  # log gain per relative change of the pupil radius
    gain_dilation: NDArray[np.float64]  # log gain per px/s
    gain_running: NDArray[np.float64]  # log gain of running fast against the reference
    noise_order: NDArray[np.int64]  # every k-th event of a Poisson process: Fano factor 1/k
    noise_gain_var: NDArray[np.float64]  # variance of the multiplicative gamma noise of a trial


def draw_cells(
    n: int, seed: int, shape: tuple[int, int], kinds: dict[str, float] | None = None
) -> CellTable:
    """Draw the properties of `n` cells; `kinds` are the fractions of the four kinds."""
    rng = generator(seed, "cells")
    fractions = kinds or {"simple": 0.25, "complex": 0.3, "mixed": 0.2, "normalised": 0.25}
    unknown = set(fractions) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of cell {sorted(unknown)}; there are {KINDS}")
    share = np.array([fractions.get(kind, 0.0) for kind in KINDS])
    # the same share in every prefix: cell i takes the kind that is most behind
    counts, kind = np.zeros(len(KINDS)), []
    for i in range(n):
        pick = int(np.argmax(share / share.sum() * (i + 1) - counts))
        counts[pick] += 1
        kind.append(KINDS[pick])
    kind = np.array(kind, dtype="<U10")
    scale = shape[0] / 36
    margin = 7.5 * scale
    sigma = np.clip(rng.lognormal(np.log(2.3), 0.22, n), 1.6, 3.6) * scale
    phase_weight = np.select(
        [kind == "simple", kind == "complex", kind == "mixed"],
        [1.0, 0.0, rng.uniform(0.4, 0.75, n)],
        default=rng.choice([1.0, 0.5, 0.0], n),
    )
    return CellTable(
        kind=kind,
        y_px=rng.uniform(margin, shape[0] - 1 - margin, n),
        x_px=rng.uniform(margin, shape[1] - 1 - margin, n),
        sigma_px=sigma,
        aspect=rng.uniform(1.0, 1.6, n),
        wavelength_px=sigma * rng.uniform(2.2, 3.6, n),
        orientation_rad=rng.uniform(0, np.pi, n),
        phase_rad=rng.uniform(0, 2 * np.pi, n),
        phase_weight=phase_weight,
        normalisation=np.where(kind == "normalised", 1.0, 0.0),
        threshold=rng.uniform(0.2, 0.8, n),
        power=rng.uniform(1.0, 1.4, n),
        mean_hz=np.clip(rng.lognormal(np.log(1.9), 0.45, n), 0.6, 6.0),
        base_hz=rng.uniform(0.02, 0.3, n),
        gain_pupil=rng.normal(1.3, 0.7, n),
        gain_dilation=rng.normal(0.06, 0.04, n),
        gain_running=rng.normal(0.8, 0.5, n),
        noise_order=rng.choice([1, 1, 1, 2, 3], n),
        noise_gain_var=rng.choice([0.0, 0.1, 0.3, 0.7], n),
    )


class TrueResponse(nn.Module):
    """The noiseless response as a differentiable module: z-scored (n, 1, h, w) to Hz (n, units).

    At mean gaze and behaviour, since only the image is an argument.
    """

    def __init__(self, cells: CellTable, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        geometry = {
            name: getattr(cells, name)
            for name in ("sigma_px", "aspect", "wavelength_px", "orientation_rad")
        }
        n = len(cells.kind)
        geometry.update(y_px=cells.y_px, x_px=cells.x_px, shape=self.shape)
        even = gabors(phase_rad=cells.phase_rad, **geometry).reshape(n, -1)
        odd = gabors(phase_rad=cells.phase_rad - np.pi / 2, **geometry).reshape(n, -1)
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        spread = 1.3 * cells.sigma_px[:, None, None] * np.sqrt(cells.aspect)[:, None, None]
        pool = np.exp(
            -((yy - cells.y_px[:, None, None]) ** 2 + (xx - cells.x_px[:, None, None]) ** 2)
            / (2 * spread**2)
        ).reshape(n, -1)
        pool /= pool.sum(1, keepdims=True)
        natural = _calibration_images(self.shape).reshape(-1, shape[0] * shape[1])
        even /= (natural @ even.T).std(0)[:, None]
        odd /= (natural @ odd.T).std(0)[:, None]
        for name, array in (
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

    def _mix(self, even, odd, contrast, units=slice(None)):
        energy = (even**2 + odd**2 + 1e-6).sqrt()
        weight = self.weight[units]
        mixed = weight * even + (1 - weight) * energy
        divisor = 0.25 + contrast
        return torch.where(self.normalisation[units] > 0, mixed / divisor, mixed)

    def _drive(self, flat: torch.Tensor) -> torch.Tensor:
        variance = (flat**2) @ self.pool.T - (flat @ self.pool.T) ** 2
        contrast = (variance.clamp(min=0) + 1e-6).sqrt()
        return self._mix(flat @ self.even.T, flat @ self.odd.T, contrast)

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
        even, odd = ((flat * bank[units]).sum(1) for bank in (self.even, self.odd))
        pool = self.pool[units]
        variance = (flat**2 * pool).sum(1) - (flat * pool).sum(1) ** 2
        contrast = (variance.clamp(min=0) + 1e-6).sqrt()
        return self._rate(self._mix(even, odd, contrast, units) * self.drive_scale[units], units)


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
        Fractions of simple, complex, mixed and normalised cells.
    """

    def __init__(
        self,
        seed: int = 0,
        n_cells: int = 200,
        shape: tuple[int, int] = (36, 64),
        kinds: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.n_cells, self.shape = int(seed), int(n_cells), tuple(shape)
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
        """Return images of any size (grey levels) as z-scored model pixels (n, h, w)."""
        return (to_model_pixels(images, self.shape) - self.image_mean) / self.image_sd

    def gaze_shift_px(self, gaze: NDArray | None, n: int) -> NDArray[np.float64]:
        """Displacement (x, y) of all receptive fields in model pixels, shape (n, 2)."""
        if gaze is None:
            return np.zeros((n, 2))
        gaze = np.broadcast_to(np.asarray(gaze, float), (n, 2))
        return (gaze - self.pupil_mean_px) @ self.gaze_map.T

    def log_gain(self, behavior: NDArray | None, n: int) -> NDArray[np.float64]:
        """Log of the gain that behaviour sets, shape (n, units); 0 at the reference state."""
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
            Grey levels, any size of the monitor's aspect ratio.
        units : int array, optional
            Which cells; default all.
        behavior : array, shape (n, 3) or (3,), optional
            Pupil radius (eye px), its derivative (px/s), running speed (cm/s); default: gain 1.
        gaze : array, shape (n, 2) or (2,), optional
            Pupil centre (x, y) in eye px; default the mean.
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
        """Return the differentiable truth at mean gaze and behaviour."""
        return self.module

    def optimal_images(
        self, norm: float, units: NDArray | None = None, steps: int = 300
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the images of a given L2 norm that drive each unit most.

        Projected ascent on the true response from three phases; exact for a simple cell, whose
        optimum is its filter.

        Parameters
        ----------
        norm : float
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
        best = torch.full((len(chosen),), -torch.inf)
        images = torch.zeros(len(chosen), self.shape[0] * self.shape[1])
        module = self.module
        for even, odd in ((1.0, 0.0), (0.0, 1.0), (0.7, -0.7)):
            z = even * module.even[chosen] + odd * module.odd[chosen]
            z = norm * z / z.norm(dim=1, keepdim=True)
            for step in range(steps + 1):
                z.requires_grad_(True)
                rate = module.forward_units(z, chosen)
                (gradient,) = torch.autograd.grad(rate.sum(), z)
                with torch.no_grad():
                    better = rate > best
                    best = torch.where(better, rate, best)
                    images[better] = z[better]
                    size = 0.2 * norm * (1 - step / (steps + 1))
                    z = z + size * gradient / (gradient.norm(dim=1, keepdim=True) + 1e-12)
                    z = norm * z / z.norm(dim=1, keepdim=True)
        return images.reshape(-1, *self.shape).detach().numpy(), best.detach().numpy()

    def best_drive(self, norm: float, units: NDArray | None = None) -> NDArray[np.float32]:
        """Return the largest possible response (Hz) to an image of that norm, shape (units,)."""
        return self.optimal_images(norm, units)[1]


def gamma_poisson(
    mean: NDArray,
    order: NDArray,
    gain_var: NDArray,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw spike counts of a given mean that are sub- to super-Poisson.

    Every `order`-th event of a Poisson process of `order` times the rate (Fano factor about
    1 / order), times a gamma gain of mean 1 and variance `gain_var` (adds ``gain_var * mean``
    to the Fano factor).

    Parameters
    ----------
    mean : array, shape (trials, units)
        Expected counts.
    order : int array, shape (units,)
    gain_var : array, shape (units,)
    rng : Generator
    """
    variance = np.broadcast_to(gain_var, mean.shape)
    gain = np.ones(mean.shape)
    noisy = variance > 0
    gain[noisy] = rng.gamma(1 / variance[noisy], variance[noisy])
    events = rng.poisson(mean * gain * order)
    offset = rng.integers(0, np.broadcast_to(order, mean.shape))  # Hermite: keeps the mean exact
    return ((events + offset) // order).astype(np.float32)
