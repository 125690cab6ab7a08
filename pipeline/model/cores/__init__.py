"""Cores: from z-scored images to features that all units share."""

from . import linear, pooled, separable, stacked, strided  # noqa: F401  registers the cores
from .base import ConvBlock, Core, PlainCore, cores

__all__ = ["ConvBlock", "Core", "PlainCore", "cores"]
