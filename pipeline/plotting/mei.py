"""Stimulus galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import (
    COLORS,
    bare,
    evenly,
    name_of,
    new_figure,
    split,
    tidy,
    whole_numbers,
)

WIDTH = 11.0  # of a gallery (inches); more kinds make smaller images


def show_image(image: NDArray, axes: Axes | None = None, *, title: str = "") -> Axes:
    """Draw one stimulus (H, W) in gray levels 0-255; makes axes of its own if none are given."""
    if axes is None:
        axes = new_figure(3.6, 2.3).add_subplot()
    image = np.asarray(image)
    image = image.reshape(image.shape[-2:])
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    return bare(axes)


def gallery_figure(
    images: Mapping[str, Sequence[NDArray | None]],
    *,
    labels: Sequence[str],
    predicted: Mapping[str, NDArray] | None = None,
    contrast: float = 1.0,
) -> Figure:
    """Show every kind of stimulus (columns) of some units (rows), exactly as displayed.

    Parameters
    ----------
    images : mapping of kind to array, shape (units, H, W), or list of arrays
        8-bit images; None where a unit has none of that kind.
    labels : sequence of str
        One a unit.
    predicted : mapping of kind to array, shape (units,), optional
        Predicted response of the unit to its image, written below it.
    contrast : float
        Factor about each image's mean, for print only.
    """
    kinds = list(images)
    height, width = next(
        np.shape(image)[-2:] for kind in kinds for image in images[kind] if image is not None
    )
    wide = max(1.15, min(1.9, WIDTH / len(kinds)))
    figure = new_figure(wide * len(kinds) + 0.7, (wide * height / width + 0.22) * len(labels) + 0.5)
    for row, label in enumerate(labels):
        for column, kind in enumerate(kinds):
            axes = figure.add_subplot(len(labels), len(kinds), row * len(kinds) + column + 1)
            title = name_of(kind).replace(" ", "\n") if row == 0 else ""
            if images[kind][row] is None:
                bare(axes).text(0.5, 0.5, "not shown", fontsize=7, color="0.6", ha="center")
                axes.set_title(title, fontsize=8)
            else:
                image = np.asarray(images[kind][row], float)
                image = np.clip(image.mean() + contrast * (image - image.mean()), 0, 255)
                show_image(image, axes, title=title)
            if column == 0:
                axes.set_ylabel(label, fontsize=7)
            if predicted is not None and np.isfinite(predicted[kind][row]):
                axes.set_xlabel(f"predicted {predicted[kind][row]:.2f}", fontsize=6, labelpad=1)
    return figure


def day_stability_figure(
    images: NDArray,
    labels: Sequence[str],
    correlation: NDArray,
    others: NDArray,
    *,
    days: tuple[str, str] = ("day 1", "another day"),
    most: int = 10,
) -> Figure:
    """Show the MEIs of two days' models of the same cells, and how alike they are.

    Parameters
    ----------
    images : array, shape (pairs, 2, H, W)
        Gray levels.
    labels : sequence of str, length (pairs,)
    correlation, others : arrays, shape (pairs,)
        Of the two images inside of the mask; mean of the same with other cells' images.
    days : (str, str)
    most : int
        Pairs to show; the numbers are of all.
    """
    shown = min(most, len(images))
    height, width = images.shape[2:]
    tall = 0.5 + max(2.6, shown * (1.7 * height / width + 0.06))
    figure = new_figure(8.2, tall)
    left, right = split(figure, [1.15, 1.0])
    grid = left.subplots(shown, 2, squeeze=False)
    for row in range(shown):
        for column, day in enumerate(days):
            axes = show_image(images[row, column], grid[row, column])
            axes.set_title(f"MEI, model of {day}" if row == 0 else "", fontsize=7)
        grid[row, 0].set_ylabel(labels[row], fontsize=7)
        if np.isfinite(correlation[row]):
            grid[row, 1].yaxis.set_label_position("right")
            grid[row, 1].set_ylabel(f"r = {correlation[row]:.2f}", fontsize=7)
    axes = tidy(right.subplots())
    known = np.isfinite(correlation) & np.isfinite(others)
    bins = evenly(-1, 1, 21)
    axes.hist(others[known], bins, color=COLORS["truth"], alpha=0.7, label="other cells' (mean)")
    axes.hist(correlation[known], bins, color=COLORS["mei"], alpha=0.7, label="same cell")
    if known.any():
        axes.axvline(np.median(correlation[known]), color=COLORS["mei"], lw=1)
    axes.set(xlabel="correlation of both days' MEIs inside the mask", ylabel="cells", xlim=(-1, 1))
    median = np.median(correlation[known]) if known.any() else np.nan
    axes.set_title(f"n = {known.sum()} cells, median r = {median:.2f}", fontsize=8)
    axes.set_ylim(0, 1.25 * max(1.0, axes.get_ylim()[1]))  # room for the legend
    whole_numbers(axes.yaxis)
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    return figure
