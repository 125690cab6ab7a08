"""Day 2: matched cells, confusion matrix, and MEIs against their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.imaging import draw_field
from pipeline.plotting.style import color_of, name_of, name_ticks, new_figure, tidy, whole_numbers

IN_A_ROW = 4  # panels of controls beside each other


def matches_figure(
    source: tuple[NDArray, NDArray],
    target: tuple[NDArray, NDArray],
    pairs: NDArray[np.integer],
    *,
    um_per_px: float | None = None,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Show two days side by side; a matched pair has one color and one label.

    Parameters
    ----------
    source, target : (mean image (H, W), masks (units, H, W))
    pairs : array of int, shape (pairs, 2)
        Rows of the source and of the target masks.
    labels : sequence of str, length (pairs,), optional
        Written on both cells of a pair.
    """
    figure = new_figure(10.4, 5.5)
    palette = [f"C{i % 10}" for i in range(len(pairs))]
    for column, (day, (image, masks)) in enumerate({"day 1": source, "day 2": target}.items()):
        colors = ["#7f8c8d"] * len(masks)
        for pair, color in zip(pairs, palette, strict=True):
            colors[pair[column]] = color
        axes = figure.add_subplot(1, 2, column + 1)
        draw_field(axes, image, masks, colors, um_per_px)
        written = [""] * len(pairs) if labels is None else labels
        for label, pair, color in zip(written, pairs, palette, strict=True):
            y, x = (axis.mean() for axis in np.nonzero(masks[pair[column]]))
            axes.text(x, y, label, color=color, fontsize=6, ha="center", va="center")
        axes.set_title(f"{day}: {len(masks)} units, {len(pairs)} matched", fontsize=9)
    return figure


def confusion_figure(
    matrix: NDArray, *, labels: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Show every neuron's mean responses, a row a neuron, a column an image (Fig. S6).

    Parameters
    ----------
    matrix : array, shape (neurons, neurons)
        Mean response of the row's neuron to the image of the column's neuron; every row is scaled
        to a maximum of 1. NaN, and rows without a positive response, are gray.
    labels : sequence of str, optional
        Names of the neurons, on both axes; of many neurons, of some at even steps.
    title : str
        Default: the share of neurons with their maximum on the diagonal.
    """
    matrix = np.asarray(matrix, float)
    largest = np.where(np.isfinite(matrix), matrix, -np.inf).max(1, initial=-np.inf)
    positive = largest > 0
    scaled = np.full(matrix.shape, np.nan)
    scaled[positive] = matrix[positive] / largest[positive, None]
    own = np.diag(scaled)
    known = np.isfinite(own)
    first = int((own[known] >= 1 - 1e-9).sum())
    figure = new_figure(5.8, 5)
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    picture = axes.imshow(scaled, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("image: MEI of this neuron", fontsize=9)
    axes.set_ylabel("responding neuron", fontsize=9)
    axes.tick_params(labelsize=7)
    if labels is not None:
        name_ticks(axes.xaxis, labels)
        name_ticks(axes.yaxis, labels)
    else:
        whole_numbers(axes.xaxis, axes.yaxis)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="response / largest of the neuron")
    share = 100 * first / max(1, int(known.sum()))
    axes.set_title(
        title or f"{first} of {known.sum()} neurons ({share:.0f} %) respond most to their own MEI",
        fontsize=9,
    )
    return figure


def comparison_figure(
    mei: NDArray,
    controls: Mapping[str, NDArray],
    *,
    reference: str = "mei",
    mei_sem: NDArray | None = None,
    control_sem: Mapping[str, NDArray] | None = None,
    significant: Mapping[str, NDArray] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Scatter each neuron's day-2 response to its MEI against each control.

    Parameters
    ----------
    mei : array, shape (neurons,)
        Mean response to the own MEI (in units of the neuron's sd over the scan).
    controls : mapping of kind to array, shape (neurons,)
    reference : str
        Kind that `mei` holds the responses to, should it be another.
    mei_sem, control_sem : optional
        Standard errors, drawn as bars.
    significant : mapping of kind to array of bool, optional
        Neurons with a significant difference after correction: filled dots.
    notes : mapping of kind to str, optional
        A line of statistics below the title.
    """
    across = min(len(controls), IN_A_ROW)
    down = -(-len(controls) // max(across, 1))
    figure = new_figure(3.5 * across, 4.2 * down)
    first = name_of(reference)
    for index, (kind, control) in enumerate(controls.items()):
        axes = tidy(figure.add_subplot(down, across, index + 1))
        known = np.isfinite(mei) & np.isfinite(control)
        values = np.concatenate([mei[known], control[known], [0.0]])
        low, high = values.min() - 0.1, values.max() * 1.08 + 0.1
        axes.plot([low, high], [low, high], color="0.75", linewidth=1)
        color = color_of(kind)
        if mei_sem is not None and control_sem is not None:
            axes.errorbar(
                control[known],
                mei[known],
                xerr=control_sem[kind][known],
                yerr=mei_sem[known],
                fmt="none",
                ecolor="0.8",
                elinewidth=0.7,
            )
        filled = np.ones(len(mei), bool) if significant is None else significant[kind]
        axes.plot(control[known & filled], mei[known & filled], "o", color=color, markersize=4.5)
        rest = known & ~filled
        axes.plot(control[rest], mei[rest], "o", mfc="white", mec=color, markersize=4.5)
        wins = int((mei[known] > control[known]).sum())
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel(f"response to {name_of(kind)} (sd)", fontsize=9)
        axes.set_ylabel(f"response to {first} (sd)", fontsize=9)
        note = (notes or {}).get(kind, "")
        axes.set_title(
            f"{first} above {name_of(kind)} in {wins} of {known.sum()}\n{note}", fontsize=9
        )
    return figure
