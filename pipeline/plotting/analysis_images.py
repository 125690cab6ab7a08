"""Figures of analyses that show images beside numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pipeline.plotting.sheets import filters_sheet_figure, neurons_a_sheet
from pipeline.plotting.style import COLORS, bare, evenly, new_figure, split, tidy, whole_numbers

Arrays = Mapping[str, NDArray]
ROWS = 6
LINEARISED = {"grey": "CNN at gray", "natural": "CNN, natural images", "rf": "RF of the LN"}
"""Array of the analysis `linearised` -> title of its column."""


def stability_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show MEIs of some units from every start, how alike they are, and their responses (S1a, S5).

    Numbers are of all units: correlations between starts, and the lowest of a unit's responses
    over its starts on the highest.
    """
    images, rates = arrays["images"], arrays["activations"]
    rows = _spread(units["median_r"])
    notes = rates[rows] / np.maximum(rates[rows].max(1, keepdims=True), 1e-12)
    labels = _labels(units, rows, "r", units["median_r"])
    figure, numbers = _sheet(images[rows], labels, notes)
    left, right = (tidy(axes) for axes in numbers)
    left.hist(units["median_r"].dropna(), evenly(-1, 1, 41), color=COLORS["mei"])
    left.set_title(f"{len(units)} neurons, median {units['median_r'].median():.3f}", fontsize=9)
    left.set_xlabel("correlation between starts, inside the mask", fontsize=9)
    left.set_ylabel("neurons", fontsize=9)
    whole_numbers(left.yaxis)
    highest, lowest = rates.max(1), rates.min(1)
    top = 1.05 * max(float(np.nanmax(highest, initial=0)), 1e-9)
    right.plot([0, top], [0, top], color="0.75", linewidth=1)
    right.plot(highest, lowest, "o", color=COLORS["mei"], markersize=3, alpha=0.6)
    right.set(xlim=(0, top), ylim=(min(0.0, 1.05 * float(np.nanmin(lowest, initial=0))), top))
    right.set_xlabel("highest response over the starts", fontsize=9)
    right.set_ylabel("lowest", fontsize=9)
    right.set_title(
        f"{_rho(highest, lowest)}\nmedian ratio {units['activation_ratio'].median():.3f}",
        fontsize=9,
    )
    return figure


def linearised_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show the linear filters in the CNN beside the LN model's RF, and their correlation."""
    rows = _spread(units["natural_r"])
    images = np.stack([arrays[name][rows] for name in LINEARISED], axis=1)
    labels = _labels(units, rows, "r", units["natural_r"])
    figure, numbers = _sheet(images, labels, None, list(LINEARISED.values()))
    for axes, name, where in zip(
        numbers, ("grey", "natural"), ("grey", "natural images"), strict=True
    ):
        values = units[f"{name}_r"].dropna()
        tidy(axes).hist(values, evenly(-1, 1, 33), color=COLORS["rf"])
        axes.set_xlabel(f"correlation with the RF, at {where}", fontsize=9)
        axes.set_title(f"median {values.median():.2f}", fontsize=9)
    numbers[0].set_ylabel("neurons", fontsize=9)
    whole_numbers(numbers[0].yaxis)
    return figure


def linearised_sheets(units: pd.DataFrame, arrays: Arrays) -> Iterator[Figure]:
    """Yield sheets of the linear filters of all units, one after the other (Fig. S10).

    Below both filters of the CNN stands their correlation with the RF.
    """
    size = neurons_a_sheet(len(LINEARISED))
    for start in range(0, len(units), size):
        part = units.iloc[start : start + size]
        yield filters_sheet_figure(
            {title: arrays[name][start : start + size] for name, title in LINEARISED.items()},
            names_of(part),
            notes={LINEARISED[name]: part[f"{name}_r"] for name in ("grey", "natural")},
        )


def gabor_similarity_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Show MEIs beside the Gabors fitted to them, how good the fit is, and how well it drives."""
    rows = _spread(units["fit_r"])
    images = np.stack([arrays["meis"][rows], arrays["fits"][rows]], axis=1)
    labels = _labels(units, rows, "r", units["fit_r"])
    figure, (left, right) = _sheet(images, labels, None, ["MEI", "Gabor fitted to it"])
    tidy(left).hist(units["fit_r"].dropna(), evenly(0, 1, 26), color=COLORS["gabor"])
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
    labels = [names_of(units)[row] for row in rows]
    figure, (left, right) = _sheet(images, labels, notes, titles)
    tidy(left).hist(units["best_r"].dropna(), evenly(0, 1, 26), color=COLORS["mni"])
    left.set_xlabel("highest correlation inside the mask", fontsize=9)
    left.set_ylabel("units", fontsize=9)
    whole_numbers(left.yaxis)
    tidy(right).hist(units["share_similar"].dropna(), evenly(0, 1, 26), color=COLORS["fni"])
    right.set_xlabel("share of images with such a patch", fontsize=9)
    return figure


def names_of(units: pd.DataFrame) -> list[str]:
    """Return what the neurons are called: the last level of the index, as the caller set it."""
    return [str(name) for name in units.index.get_level_values(-1)]


def _labels(units: pd.DataFrame, rows: NDArray, what: str, values: pd.Series) -> list[str]:
    """Return name and value of some units, one below the other."""
    names = names_of(units)
    return [f"{names[row]}\n{what} = {values.iloc[row]:.2f}" for row in rows]


def _rho(x: NDArray, y: NDArray) -> str:
    """Return Spearman's rank correlation as text."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return f"n = {known.sum()}"
    return f"Spearman rho = {spearmanr(x[known], y[known]).statistic:.3f}, n = {known.sum()}"


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
    left, right = split(figure, [width, 3.2])
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
