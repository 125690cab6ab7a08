"""A mouse whose brain is known: recordings to test the whole way on, and the truth behind them."""

from .brain.population import Population, TrueResponse
from .brain.responses import SimulatedDataset, gamma_poisson, simulate_dataset
from .microscope.movie import Detector
from .mouse import Mouse
from .photographs import natural_images

__all__ = [
    "Detector",
    "Mouse",
    "Population",
    "SimulatedDataset",
    "TrueResponse",
    "gamma_poisson",
    "natural_images",
    "simulate_dataset",
]
