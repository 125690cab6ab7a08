"""Figures of analyses that show images beside numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import COLORS, bare, new_figure, tidy, whole_numbers

Arrays = Mapping[str, NDArray]
ROWS = 6


def stability_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show the MEIs of some units from every start, and how alike they are in all units."""
    images, rates = arrays["images"], arrays["activations"]
    rows = _spread(units["median_r"])
    notes = rates[rows] / np.maximum(rates[rows].max(1, keepdims=True), 1e-12)
    figure, numbers = _sheet(
        images[rows], [f"r = {units['median_r'].iloc[row]:.2f}" for row in rows], notes
    )
    left, right = (tidy(axes) for axes in numbers)
    left.hist(units["median_r"].dropna(), np.linspace(-1, 1, 41), color=COLORS["mei"])
    left.set_title(f"{len(units)} neurons, median {units['median_r'].median():.3f}", fontsize=9)
    left.set_xlabel("correlation between starts, inside the mask", fontsize=9)
    left.set_ylabel("units", fontsize=9)
    whole_numbers(left.yaxis)
    ratio = units["activation_ratio"].dropna()
    right.hist(ratio, np.linspace(min(0.9, float(ratio.min())), 1, 26), color=COLORS["rf"])
    right.set_title(f"median {units['activation_ratio'].median():.3f}", fontsize=9)
    right.set_xlabel("lowest over highest response", fontsize=9)
    return figure


def linearised_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show the linear filters in the CNN beside the LN model's RF, and their correlation."""
    rows = _spread(units["natural_r"])
    titles = {"grey": "CNN at grey", "natural": "CNN, natural images", "rf": "RF of the LN"}
    images = np.stack([arrays[name][rows] for name in titles], axis=1)
    labels = [f"r = {units['natural_r'].iloc[row]:.2f}" for row in rows]
    figure, numbers = _sheet(images, labels, None, list(titles.values()))
    for axes, name, where in zip(
        numbers, ("grey", "natural"), ("grey", "natural images"), strict=True
    ):
        values = units[f"{name}_r"].dropna()
        tidy(axes).hist(values, np.linspace(-1, 1, 33), color=COLORS["rf"])
        axes.set_xlabel(f"correlation with the RF, at {where}", fontsize=9)
        axes.set_title(f"median {values.median():.2f}", fontsize=9)
    numbers[0].set_ylabel("units", fontsize=9)
    whole_numbers(numbers[0].yaxis)
    return figure


def gabor_similarity_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show MEIs beside the Gabors fitted to them, how good the fit is, and how well it drives."""
    rows = _spread(units["fit_r"])
    images = np.stack([arrays["meis"][rows], arrays["fits"][rows]], axis=1)
    labels = [f"r = {units['fit_r'].iloc[row]:.2f}" for row in rows]
    figure, (left, right) = _sheet(images, labels, None, ["MEI", "Gabor fitted to it"])
    tidy(left).hist(units["fit_r"].dropna(), np.linspace(0, 1, 26), color=COLORS["gabor"])
    left.set_xlabel("correlation of MEI and its Gabor", fontsize=9)
    left.set_ylabel("units", fontsize=9)
    whole_numbers(left.yaxis)
    left.set_title(f"median {units['fit_r'].median():.2f}", fontsize=9)
    tidy(right).plot(
        units["fit_r"], units["best_response"], "o", color=COLORS["gabor"], ms=3, alpha=0.6
    )
    right.set_xlabel("correlation of MEI and its Gabor", fontsize=9)
    right.set_ylabel("best Gabor's response, MEI = 1", fontsize=9)
    return figure


def natural_patches_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show MEIs beside the natural patches most like them, and how often such patches occur."""
    rows = _spread(units["best_r"])
    images = np.concatenate([arrays["meis"][rows][:, None], arrays["patches"][rows]], axis=1)
    notes = np.concatenate([np.full((len(rows), 1), np.nan), arrays["r"][rows]], axis=1)
    titles = ["MEI", "most alike in natural images"] + [""] * (images.shape[1] - 2)
    numbers = units.index.get_level_values(-1)
    labels = [str(numbers[row]) for row in rows]
    figure, (left, right) = _sheet(images, labels, notes, titles)
    tidy(left).hist(units["best_r"].dropna(), np.linspace(0, 1, 26), color=COLORS["mni"])
    left.set_xlabel("highest correlation inside the mask", fontsize=9)
    left.set_ylabel("units", fontsize=9)
    whole_numbers(left.yaxis)
    tidy(right).hist(units["share_similar"].dropna(), np.linspace(0, 1, 26), color=COLORS["fni"])
    right.set_xlabel("share of images with such a patch", fontsize=9)
    return figure


def _spread(values: pd.Series) -> NDArray[np.int64]:
    """Return rows from the highest to the lowest value, evenly in rank, at most `ROWS`."""
    order = np.argsort(-values.to_numpy(float), kind="stable")
    return order[
        np.unique(np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int))
    ]


def _sheet(
    images: NDArray, labels: list[str], notes: NDArray | None, titles: list[str] | None = None
):
    """Draw images (rows, columns, h, w) beside two axes for numbers; returns figure and axes.

    Every image is stretched to its own range, so that faint ones can be seen.
    """
    n_rows, n_columns, h, w = images.shape
    width = 1.45 * n_columns
    figure = new_figure(width + 3.4, max(1.45 * h / w * n_rows + 0.5, 4.6))
    left, right = figure.subfigures(1, 2, width_ratios=[width, 3.2])
    places = left.subplots(n_rows, n_columns, squeeze=False)
    for row in range(n_rows):
        for column in range(n_columns):
            axes, image = bare(places[row, column]), images[row, column]
            middle = float(np.median(image))
            reach = max(float(np.abs(image - middle).max()), 1e-6)
            axes.imshow(image, cmap="gray", vmin=middle - reach, vmax=middle + reach)
            if column == 0:
                axes.set_ylabel(labels[row], fontsize=7)
            if row == 0 and titles is not None:
                axes.set_title(titles[column], fontsize=8)
            if notes is not None and np.isfinite(notes[row, column]):
                axes.set_xlabel(f"{notes[row, column]:.2f}", fontsize=7, labelpad=1)
    return figure, right.subplots(2, 1)
