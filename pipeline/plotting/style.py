"""One look for all figures, independent of the caller's matplotlib state."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hls_to_rgb
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.stimulus.kinds import kind_and_variant

COLORS = {
    "mei": "#c0392b",
    "rf": "#2471a3",
    "gabor": "#7d3c98",
    "mni": "#1e8449",
    "fni": "#b7950b",
    "natural": "#566573",
    "truth": "#909497",
}
FURTHER = ("#e67e22", "#17a2a2", "#d63384", "#6e4b1f", "#1b2a6b", "#86b817", "#5dade2", "#f1948a")
"""Colors of further kinds, in the order in which they are shown; then hues between them."""

NAMES = {"mei": "MEI", "rf": "RF", "gabor": "Gabor", "mni": "mNI", "fni": "fNI"}
_GOLDEN = (5**0.5 - 1) / 2
_strangers: dict[str, int] = {}  # kinds that nothing registers, as they come


def name_of(stimulus: str) -> str:
    """Return how a stimulus is written in a figure: the second image of a kind is `Gabor (2)`."""
    kind, variant = kind_and_variant(stimulus)
    name = NAMES.get(kind, kind.replace("_", " "))
    return name if variant == 0 else f"{name} ({variant + 1})"


def color_of(stimulus: str) -> str:
    """Return the color of a stimulus, the same in all figures and no other stimulus's.

    A registered kind's color follows from its place among the others. Further images of one kind
    are paler and paler.
    """
    from pipeline.mei.controls import control_kinds, in_order

    kind, variant = kind_and_variant(stimulus)
    color = COLORS.get(kind)
    if color is None:
        others = [name for name in in_order(control_kinds) if name not in COLORS]
        if kind in others:
            color = _further(others.index(kind))
        else:
            color = _further(len(others) + _strangers.setdefault(kind, len(_strangers)))
    white = 1 - 1 / (1 + 0.6 * variant)
    red, green, blue = (part + white * (1 - part) for part in to_rgb(color))
    return to_hex((red, green, blue))


def _further(place: int) -> str:
    if place < len(FURTHER):
        return FURTHER[place]
    turn = place - len(FURTHER)
    return to_hex(hls_to_rgb((0.03 + turn * _GOLDEN) % 1, (0.45, 0.6, 0.3)[turn % 3], 0.6))


def name_ticks(axis: Axis, names: Sequence[str], *, most: int = 40) -> None:
    """Label an axis of rows or columns with the names of neurons, `most` of them at most."""
    step = -(-len(names) // most) if len(names) else 1
    places = range(0, len(names), step)
    upright: dict[str, Any] = {"rotation": 90} if isinstance(axis, XAxis) else {}
    axis.set_ticks(places, [names[place] for place in places], fontsize=6, **upright)


def evenly(first: float, last: float, n: int) -> list[float]:
    """Return n edges of bins from `first` to `last`."""
    return np.linspace(first, last, n).tolist()


def split(figure: Figure, widths: Sequence[float]) -> tuple[SubFigure, SubFigure]:
    """Return the left and the right part of a figure, of relative widths."""
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    return left, right


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
    """Return gray limits that a few hot pixels cannot move."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    a, b = np.percentile(finite, [low, high])
    return float(a), float(b if b > a else a + 1)


def save(figure: Figure, path: str | PathLike) -> None:
    """Write a figure as PNG on white."""
    figure.savefig(path, facecolor="white")
