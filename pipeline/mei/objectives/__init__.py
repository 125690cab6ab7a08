"""What an ascent maximizes: ``f(view, images (n, C, h, w)) -> (n,)``, one file an objective.

`view` reads image i by its own unit: `view.rates(images)` (n,), `view.members(images)`
(members, n), `view.all_units(images)` (n, units). The attribute `rough` of an objective is a
cheaper one without parameters, which candidates and scouts follow in its place. The attribute
`own_unit` = True says that an objective reads no other unit than the image's own, so that only the
receptive field of that unit need be ascended; without it `images` are whole frames.
"""

from .activation import activation
from .cautious import cautious
from .contrast import contrast
from .inhibition import inhibition
from .objectives import objectives
from .over_gaze import over_gaze
from .target import target

__all__ = ["activation", "cautious", "contrast", "inhibition", "objectives", "over_gaze", "target"]
