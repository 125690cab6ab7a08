"""Readouts: from shared features to one number per unit."""

from . import cortical, factorised, point, pyramid  # noqa: F401  registers the readouts
from .base import Readout, readouts

__all__ = ["Readout", "readouts"]
