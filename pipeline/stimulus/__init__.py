"""Images as the animal and the model see them, and the monitor between the two."""

from .display import Displayed, displays, to_monitor
from .images import area_matrix, image_hash, load_images, read_png, to_model, write_png
from .monitor import GammaFit, MonitorCurve

__all__ = [
    "Displayed",
    "GammaFit",
    "MonitorCurve",
    "area_matrix",
    "displays",
    "image_hash",
    "load_images",
    "read_png",
    "to_model",
    "to_monitor",
    "write_png",
]
