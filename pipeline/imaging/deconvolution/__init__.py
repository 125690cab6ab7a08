"""From fluorescence to activity: every module registers its methods in `deconvolvers`."""

from . import derivative, learned, oasis, rise
from .result import DeconvolutionResult, deconvolvers

__all__ = ["DeconvolutionResult", "deconvolvers", "derivative", "learned", "oasis", "rise"]
