"""How well the models predict, against what the neurons' own reliability allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.dataset.moments import correlate
from pipeline.plotting.style import COLORS, new_figure, tidy, whole_numbers


def oracle_figure(oracle: NDArray, scores: Mapping[str, NDArray]) -> Figure:
    """Scatter test correlation on oracle correlation for every model, with the slope through 0.

    Parameters
    ----------
    oracle : array, shape (units,)
        Leave-one-out correlation of every unit with itself.
    scores : mapping of model name to array, shape (units,)
        Single-trial test correlation, behavior frozen at its mean.
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
        axes.set_ylabel("test correlation, behavior frozen", fontsize=9)
        axes.set_title(f"{name}: fraction oracle {slope:.2f} ({known.sum()} units)", fontsize=10)
    return figure


def held_out_responses_figure(
    measured: NDArray,
    predicted: NDArray,
    *,
    labels: Sequence[str],
    sem: NDArray | None = None,
    most: int = 100,
) -> Figure:
    """Draw predicted over measured mean responses to held-out images, a row a neuron (Fig. 1).

    Parameters
    ----------
    measured, predicted : array, shape (images, neurons)
        In the same units.
    labels : sequence of str, length (neurons,)
    sem : array, shape (images, neurons), optional
        Standard error of the measured means, shaded; NaN where an image was shown once.
    most : int
        Images to draw; correlations are over all of them.
    """
    shown = min(most, len(measured))
    place = np.arange(1, shown + 1)
    figure = new_figure(10, 1.15 * len(labels) + 0.7)
    grid = figure.subplots(len(labels), 1, sharex=True, squeeze=False)[:, 0]
    for neuron, (axes, label) in enumerate(zip(grid, labels, strict=True)):
        tidy(axes)
        mean, model = measured[:, neuron], predicted[:, neuron]
        if sem is not None:
            error = np.nan_to_num(sem[:shown, neuron])
            axes.fill_between(place, mean[:shown] - error, mean[:shown] + error, color="0.8", lw=0)
        axes.plot(place, mean[:shown], color="#2c3e50", linewidth=0.9, label="measured")
        axes.plot(place, model[:shown], color=COLORS["mei"], linewidth=0.9, label="predicted")
        r = correlate(mean[:, None], model[:, None])[0]
        axes.set_title(f"{label}: r = {r:.2f}", fontsize=8, loc="left", pad=2)
    grid[0].legend(fontsize=7, frameon=False, loc="lower right", ncols=2, bbox_to_anchor=(1, 0.95))
    grid[-1].set_xlim(1, max(2, shown))
    grid[-1].set_xlabel(f"held-out test image (of {len(measured)})", fontsize=9)
    whole_numbers(grid[-1].xaxis)
    figure.supylabel("mean response (a.u.)", fontsize=9)
    return figure
