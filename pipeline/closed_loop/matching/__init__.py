"""The same cell on another day."""

from pipeline.closed_loop.matching import field_to_field  # noqa: F401  registers its method
from pipeline.closed_loop.matching.base import FieldView, MatchResult, match_methods

__all__ = ["FieldView", "MatchResult", "match_methods"]
