"""The most exciting input for an eye that does not rest."""

from __future__ import annotations

import torch

from pipeline.mei.view import View

from .activation import activation
from .objectives import objectives


@objectives.register("over_gaze")
def over_gaze(view: View, images: torch.Tensor) -> torch.Tensor:
    """Response of the unit, the mean over where the animal looked while the data were recorded.

    The eye moves on day 2 as it did on day 1, and every receptive field with it. An image made for
    the mean gaze loses more then than a broader one. The mean is taken over five gazes that have
    the mean and variance of the recorded ones (a cubature rule, exact to the third order); an
    ensemble that knows of no gaze gives its plain response. Five times the work of `activation`,
    which the scouts of an ascent climb instead.
    """
    spread = view.gaze_spread()
    if spread is None:
        return view.rates(images)
    shifts, weights = spread
    return view.shifted_rates(images, shifts) @ weights


over_gaze.rough = activation  # type: ignore[attr-defined]  # functions have attributes
over_gaze.own_unit = True  # type: ignore[attr-defined]
