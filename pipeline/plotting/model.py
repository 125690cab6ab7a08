"""How well the models predict, against what the neurons' own reliability allows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import COLORS, new_figure, tidy


def oracle_figure(oracle: NDArray, scores: Mapping[str, NDArray]) -> Figure:
    """Scatter test correlation on oracle correlation for every model, with the slope through 0.

    Parameters
    ----------
    oracle : array, shape (units,)
        Leave-one-out correlation of every unit with itself.
    scores : mapping of model name to array, shape (units,)
        Single-trial test correlation, behaviour frozen at its mean.
    """
    figure = new_figure(4.6 * len(scores), 4.4)
    values = np.concatenate([oracle, *scores.values()])
    low = min(0.0, float(np.nanmin(values, initial=0))) - 0.03
    high = max(0.3, float(np.nanmax(values, initial=0))) + 0.05
    for index, (name, score) in enumerate(scores.items()):
        axes = tidy(figure.add_subplot(1, len(scores), index + 1))
        known = np.isfinite(oracle) & np.isfinite(score)
        slope = (oracle[known] @ score[known]) / max(oracle[known] @ oracle[known], 1e-12)
        axes.plot([low, high], [low, high], color="0.75", linewidth=1)
        axes.plot([0, high], [0, slope * high], color=COLORS["mei"], linewidth=1.2)
        axes.plot(oracle[known], score[known], "o", color="#2c3e50", markersize=3.5, alpha=0.7)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel("oracle correlation", fontsize=9)
        axes.set_ylabel("test correlation, behaviour frozen", fontsize=9)
        axes.set_title(f"{name}: fraction oracle {slope:.2f} ({known.sum()} units)", fontsize=10)
    return figure
