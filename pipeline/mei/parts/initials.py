"""Where an ascent starts: ``f(rng, scene) -> array (C, h, w)``, z-scored.

Every (unit, start, attempt) has a random stream of its own, so that neither the order of units nor
the batch changes a start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.registry import Registry

from .scene import Scene

initials = Registry("initial image")


@initials.register("smooth_noise", default=True)
def smooth_noise(
    rng: np.random.Generator,
    scene: Scene,
    *,
    sigma_px: tuple[float, float] = (0.8, 2.5),
    local_share: float = 0.5,
    window_px: tuple[float, float] = (2.5, 8.0),
) -> NDArray[np.float32]:
    """Draw blurred white noise, half of the time in a window somewhere in the frame.

    Blur and window are drawn from ranges (log-uniform): a rectified unit that is silent for one is
    less likely to be for the next, and a localised pattern of the same norm reaches thresholds
    that noise all over the frame does not.

    Parameters
    ----------
    sigma_px : tuple of float
        Range of the blur's width (px).
    local_share : float
        Share of the starts that have a window.
    window_px : tuple of float
        Range of the window's width, one sd of a Gaussian (px).
    """
    _, h, w = scene.shape
    sigma = np.exp(rng.uniform(*np.log(sigma_px)))
    noise = gaussian_filter(rng.normal(size=scene.shape), (0, sigma, sigma), mode="wrap")
    local, width = rng.random() < local_share, np.exp(rng.uniform(*np.log(window_px)))
    y, x = rng.uniform(0, h - 1), rng.uniform(0, w - 1)
    if local:
        rows, columns = np.arange(h)[:, None], np.arange(w)
        noise *= np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return (noise * scene.norm / np.sqrt((noise**2).sum())).astype(np.float32)


@initials.register("noise_2019")
def noise_2019(
    rng: np.random.Generator, scene: Scene, *, mean_grey: float = 128.0, sd_grey: float = 8.0
) -> NDArray[np.float32]:
    """Independent normal gray levels clipped to 0-255, as Walker et al. (2019), but seeded.

    Parameters
    ----------
    mean_grey, sd_grey : float
        Mean and standard deviation of the noise (gray levels).
    """
    grey = np.clip(rng.normal(mean_grey, sd_grey, scene.shape), 0, 255)
    return ((grey - scene.mean) / scene.sd).astype(np.float32)
