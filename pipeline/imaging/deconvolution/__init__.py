"""From fluorescence to activity: one function a method, all in `deconvolvers`."""

from .derivative import derivative
from .oasis import oasis_ar1, oasis_ar2
from .result import DeconvolutionResult, deconvolvers
from .rise import rise

__all__ = ["DeconvolutionResult", "deconvolvers", "derivative", "oasis_ar1", "oasis_ar2", "rise"]
