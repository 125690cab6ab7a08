"""What is done to the image after a step: ``f(images (n, C, h, w), fraction)``."""

from __future__ import annotations

import torch

from pipeline.registry import Registry

from .gradients import blur

regularisers = Registry("image regulariser")


@regularisers.register("none", default=True)
def none(images: torch.Tensor, fraction: float) -> torch.Tensor:
    """Leave the image alone."""
    return images


@regularisers.register("blur_schedule")
def blur_schedule(
    images: torch.Tensor,
    fraction: float,
    *,
    sigma_start_px: float = 1.5,
    sigma_end_px: float = 0.01,
) -> torch.Tensor:
    """Blur by a Gaussian whose width falls linearly, as Walker et al. (2019).

    Parameters
    ----------
    sigma_start_px, sigma_end_px : float
        Width of the Gaussian at the first and at the last step (px).
    """
    sigma = sigma_start_px + (sigma_end_px - sigma_start_px) * fraction
    return images if sigma < 0.1 else blur(images, sigma, "replicate")  # below 0.1 px: identity


@regularisers.register("decay")
def decay(images: torch.Tensor, fraction: float, *, rate: float = 0.01) -> torch.Tensor:
    """Shrink toward mean gray: what nothing drives fades away.

    Parameters
    ----------
    rate : float
        Share of the contrast that is lost in a step.
    """
    return images * (1 - rate)
