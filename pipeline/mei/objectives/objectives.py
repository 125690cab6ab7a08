"""The registry of objectives."""

from pipeline.registry import Registry

objectives = Registry("objective")
