"""Stimulus synthesis: most exciting inputs and their controls, for all neurons at once."""

from .ascent import AscentParameters, ascent_methods
from .synthesize import Synthesis, default_norm, synthesize

__all__ = ["AscentParameters", "Synthesis", "ascent_methods", "default_norm", "synthesize"]
