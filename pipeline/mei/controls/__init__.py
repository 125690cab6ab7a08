"""What an MEI is compared with: stimuli of every kind for all target neurons at once.

All kinds have the norm of the MEI (and thereby its contrast) about mean gray, so that only the
pattern differs; `images` are what is shown, windows included, so that `masks` is None unless a kind
leaves the blending to the display. A new kind is one file here.
"""

from . import (  # noqa: F401  registers the kinds
    accentuated,
    altered,
    gabor,
    metamer,
    natural,
    rf,
    surround,
)
from .base import ControlContext, Controls, control_kinds, finished
from .order import in_order

__all__ = ["ControlContext", "Controls", "control_kinds", "finished", "in_order"]
