"""Checks of a verdict: would it be another with other matches, states, days or a drifting field."""

from schemas.closed_loop.checks.confirmation import CellMatchOracleCorrelation, Prediction
from schemas.closed_loop.checks.drift import Drift
from schemas.closed_loop.checks.rescoring import ArousalControl, PooledOutcome, Sensitivity

__all__ = [
    "ArousalControl",
    "CellMatchOracleCorrelation",
    "Drift",
    "PooledOutcome",
    "Prediction",
    "Sensitivity",
]
