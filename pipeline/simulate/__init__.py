"""A mouse whose brain is known: recordings to test the whole way on, and the truth behind them."""

from .mouse import Mouse
from .movie import Detector
from .photographs import natural_images
from .population import Population, TrueResponse
from .responses import SimulatedDataset, gamma_poisson, simulate_dataset

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
