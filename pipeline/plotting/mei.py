"""Stimulus galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import bare, name_of, new_figure


def show_image(image: NDArray, axes: Axes | None = None, *, title: str = "") -> Axes:
    """Draw one stimulus (H, W) in grey levels 0-255; makes axes of its own if none are given."""
    if axes is None:
        axes = new_figure(3.6, 2.3).add_subplot()
    image = np.asarray(image)
    image = image.reshape(image.shape[-2:])
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    return bare(axes)


def gallery_figure(
    images: Mapping[str, NDArray],
    *,
    labels: Sequence[str],
    predicted: Mapping[str, NDArray] | None = None,
    contrast: float = 1.0,
) -> Figure:
    """Show every kind of stimulus (columns) of some units (rows), exactly as displayed.

    Parameters
    ----------
    images : mapping of kind to array, shape (units, H, W)
        8-bit images.
    labels : sequence of str
        One a unit.
    predicted : mapping of kind to array, shape (units,), optional
        Predicted response of the unit to its image, written below it.
    contrast : float
        Factor about each image's mean, for print only.
    """
    kinds = list(images)
    height, width = images[kinds[0]].shape[-2:]
    figure = new_figure(1.9 * len(kinds) + 0.7, (1.9 * height / width + 0.22) * len(labels) + 0.4)
    for row, label in enumerate(labels):
        for column, kind in enumerate(kinds):
            axes = figure.add_subplot(len(labels), len(kinds), row * len(kinds) + column + 1)
            image = images[kind][row].astype(float)
            image = np.clip(image.mean() + contrast * (image - image.mean()), 0, 255)
            show_image(image, axes, title=name_of(kind) if row == 0 else "")
            if column == 0:
                axes.set_ylabel(label, fontsize=7)
            if predicted is not None and np.isfinite(predicted[kind][row]):
                axes.set_xlabel(f"predicted {predicted[kind][row]:.2f}", fontsize=6, labelpad=1)
    return figure


def sheet_figure(images: NDArray, labels: Sequence[str], *, columns: int = 10) -> Figure:
    """Show all images of one kind as they were shown, one beside the other.

    Parameters
    ----------
    images : array of uint8, shape (n, H, W)
    labels : sequence of str, length (n,)
    columns : int
    """
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    figure = new_figure(11, max(1.0, rows * (11 / columns * height / width + 0.22)))
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes = bare(figure.add_subplot(rows, columns, place + 1))
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(label, fontsize=6, pad=1)
    return figure
