"""One look for all figures, independent of the caller's matplotlib state."""

from __future__ import annotations

from os import PathLike

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

COLORS = {
    "mei": "#c0392b",
    "rf": "#2471a3",
    "gabor": "#7d3c98",
    "mni": "#1e8449",
    "fni": "#b7950b",
    "natural": "#566573",
    "truth": "#909497",
}
NAMES = {"mei": "MEI", "rf": "RF", "gabor": "Gabor", "mni": "mNI", "fni": "fNI"}


def name_of(kind: str) -> str:
    """Return how a stimulus kind is written in a figure."""
    return NAMES.get(kind, kind)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that no window system knows of."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> Axes:
    """Drop the upper and right frame and shrink the ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return axes


def bare(axes: Axes) -> Axes:
    """Drop ticks and frame, for an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def whole_numbers(*axis: Axis) -> None:
    """Tick axes that count at whole numbers only."""
    for one in axis:
        one.set_major_locator(MaxNLocator(integer=True))


def robust_range(image: NDArray, low: float = 1, high: float = 99.7) -> tuple[float, float]:
    """Return grey limits that a few hot pixels cannot move."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    a, b = np.percentile(finite, [low, high])
    return float(a), float(b if b > a else a + 1)


def save(figure: Figure, path: str | PathLike) -> None:
    """Write a figure as PNG on white."""
    figure.savefig(path, facecolor="white")
