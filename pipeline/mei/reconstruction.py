"""Images that a population cannot tell from given ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from pipeline.rng import generator, normal_rows

from .climb import climb, on_sphere
from .parts import Scene
from .view import frame_shape

FRAMES_AT_ONCE = 64


def reconstruct(
    model: nn.Module,
    images: torch.Tensor,
    units: NDArray[np.integer],
    *,
    norm: float,
    names: NDArray[np.integer],
    seed: int = 0,
    steps: int = 200,
    step_start: float = 0.5,
    step_end: float = 0.003,
    start_blur_px: float = 1.5,
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Make, from noise, images to which all `units` respond as to the given ones.

    What the responses determine is found again, which is a reconstruction; what they do not is
    left as the noise had it, which makes metamers.

    Parameters
    ----------
    model : Module
        Z-scored (n, C, h, w) to (n, units).
    images : tensor, shape (n, C, h, w)
        Z-scored.
    units : int array
        Columns whose responses count, each by its sd over white noise of the norm.
    norm : float
        Of the results.
    names : int array, shape (n,)
        Name the random streams, one an image.
    seed, steps, step_start, step_end
        Of the ascent; lengths in shares of the norm.
    start_blur_px : float
        Of the noise at the start.

    Returns
    -------
    images : tensor, shape (n, C, h, w)
    unlike : array, shape (n,)
        Root mean squared difference of the responses, in sd; 1 or more is chance.
    """
    pick = torch.as_tensor(np.asarray(units, np.int64), device=images.device)
    shape = frame_shape(images)
    if not len(images):
        return images, np.zeros(0)
    blur = (0, 0, start_blur_px, start_blur_px)
    noise = gaussian_filter(normal_rows(seed, "metamer", names, shape), blur, mode="wrap")
    project = on_sphere(norm)
    start = project(torch.as_tensor(noise.astype(np.float32), device=images.device))
    with torch.no_grad():
        # one scale for all images: that of the noise, which does not depend on the company
        drawn = generator(seed, "probe").normal(size=(32, *shape)).astype(np.float32)
        probe = project(torch.as_tensor(drawn, device=images.device))
        wanted = torch.cat([model(part)[:, pick] for part in images.split(FRAMES_AT_ONCE)])
        sd = model(probe)[:, pick].std(0)
        sd = sd + 0.1 * sd.mean() + 1e-6
    scene = Scene(shape, 0.0, 1.0, norm)
    found, unlike = [], []
    for first in range(0, len(images), FRAMES_AT_ONCE):
        part = slice(first, first + FRAMES_AT_ONCE)

        def objective(x, goal=wanted[part]):
            return -(((model(x)[:, pick] - goal) / sd) ** 2).mean(1)

        made = climb(
            start[part],
            objective,
            project,
            scene,
            steps=steps,
            step_start=step_start,
            step_end=step_end,
        )
        found.append(made)
        with torch.no_grad():
            unlike.append((-objective(made)).sqrt().double().cpu().numpy())
    return torch.cat(found), np.concatenate(unlike)
