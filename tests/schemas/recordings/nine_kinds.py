"""A recipe of nine kinds of stimulus, one of which the program does not know."""

import numpy as np
from known_neurons import trained_for

STRANGER = "checkerboard"
KINDS = (
    "mei",
    "rf",
    "gabor",
    "mni",
    "fni",
    "accentuated",
    "phase_scrambled",
    "surround_excite",
    STRANGER,
)
SMALL = {
    "gabor": {"orientations": 2, "n_dy": 2, "n_dx": 2, "refine": 0},
    "surround_excite": {"steps": 5},
}
RECIPE_OF_NINE = {
    **trained_for(5),
    "controls": [{"method": kind, "params": SMALL.get(kind, {})} for kind in KINDS],
    "analyses": [{"method": name, "params": {}} for name in ("natural_patches", "linear_filter")],
    "outcome": {"method": None, "params": {"n_bootstrap": 100}},
    "display": {"method": None, "params": {"mean_cd_m2": 4000.0, "sd_cd_m2": 1000.0}},
}


def checkerboard(context, *, size_px: int = 6):
    """A kind of control that this file alone knows."""
    import torch

    from pipeline.mei.controls import finished
    from pipeline.mei.search import match_full

    y, x = np.indices(context.shape)
    board = 2.0 * ((y // size_px + x // size_px) % 2) - 1
    images = torch.as_tensor(np.stack([board] * len(context.units)), dtype=torch.float32)[:, None]
    return finished(context, match_full(images, context.length), [{}] * len(context.units))
