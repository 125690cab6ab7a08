"""Which neurons get images of their own.

Models are judged on validation images, never on the test tier. How reliable a unit is, is judged
on one half of the repeats; the other half is left for the report.
"""

from . import expected as _expected  # noqa: F401  registers the rule
from . import published as _published  # noqa: F401  registers the rules
from .by_hand import choose_targets
from .data import ByHand, TargetData, TargetResult, fraction_of, half_oracles, target_rules
from .evidence import Evidence, gather, regression

__all__ = [
    "ByHand",
    "Evidence",
    "TargetData",
    "TargetResult",
    "choose_targets",
    "fraction_of",
    "gather",
    "half_oracles",
    "regression",
    "target_rules",
]
