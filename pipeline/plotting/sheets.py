"""Sheets of many small images: every neuron has a row of them, and neurons stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import bare, name_of, new_figure

ACROSS, DOWN = 10, 10  # images beside and below one another on a sheet
WIDTH = 11.0  # inches
GAP = 0.06  # between images, in widths of an image
LINE = 0.16  # height of a line of text (inches)

Row = Sequence[NDArray | None]


def neurons_a_sheet(columns: int) -> int:
    """Return how many neurons of so many images each fit on one sheet."""
    return DOWN * max(1, ACROSS // columns)


def sheet_figure(images: NDArray, labels: Sequence[str], *, columns: int = ACROSS) -> Figure:
    """Show all images of one kind as they were shown, one beside the other.

    Parameters
    ----------
    images : array of uint8, shape (n, H, W)
    labels : sequence of str, length (n,)
    columns : int
    """
    return _sheet([[image] for image in images], labels, across=columns)


def stimuli_sheet_figure(
    images: Mapping[str, Row], *, labels: Sequence[str], predicted: Mapping[str, NDArray]
) -> Figure:
    """Show the images of every kind, neuron by neuron, exactly as displayed (Fig. S11).

    Parameters
    ----------
    images : mapping of kind to sequence of (H, W) arrays, one a neuron
        8-bit images; None where a neuron has none of the kind.
    labels : sequence of str, length (neurons,)
    predicted : mapping of kind to array, shape (neurons,)
        Predicted response of the neuron to its image, written below it; NaN is not.
    """
    rows = [list(row) for row in zip(*images.values(), strict=True)]
    notes = np.stack([np.asarray(predicted[kind], float) for kind in images], axis=1)
    titles = [name_of(kind).replace(" ", "\n") for kind in images]
    return _sheet(rows, labels, titles=titles, notes=notes)


def filters_sheet_figure(
    filters: Mapping[str, NDArray], labels: Sequence[str], *, notes: Mapping[str, NDArray]
) -> Figure:
    """Show filters of every neuron side by side, each on a gray scale of its own (Fig. S10).

    Parameters
    ----------
    filters : mapping of title to array, shape (neurons, H, W)
        Zero is the middle gray.
    labels : sequence of str, length (neurons,)
    notes : mapping of title to array, shape (neurons,)
        A number written below each filter of that title; others have none.
    """
    rows = [list(row) for row in zip(*filters.values(), strict=True)]
    none = np.full(len(labels), np.nan)
    numbers = np.stack([np.asarray(notes.get(title, none), float) for title in filters], axis=1)
    return _sheet(rows, labels, titles=list(filters), notes=numbers, stretched=True)


def _sheet(
    rows: Sequence[Row],
    labels: Sequence[str],
    *,
    titles: Sequence[str] = (),
    notes: NDArray | None = None,
    stretched: bool = False,
    across: int = ACROSS,
) -> Figure:
    """Draw everything in one axes: axes of their own would cost seconds and memory each."""
    columns = len(rows[0]) if rows else 1
    blocks = max(1, min(across // columns, max(1, len(rows))))
    down = -(-len(rows) // blocks)
    full = blocks if columns > 1 else max(1, across)  # single images keep their size
    wide = full * (columns + 0.25 * (columns > 1)) + GAP * full * columns
    inches = WIDTH / (wide + GAP)  # of an image
    line = LINE / inches
    shape = next((i.shape for row in rows for i in row if i is not None), (9, 16))
    height = shape[0] / shape[1]
    step = height + line * (1.8 if notes is not None else 1) + GAP
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    head = (1.2 + lines) * line if titles else line
    tall = head + down * step
    figure = new_figure(WIDTH, max(1.0, tall * inches))
    figure.set_layout_engine("none")
    axes = bare(figure.add_axes((0, 0, 1, 1)))
    for place, (row, label) in enumerate(zip(rows, labels, strict=True)):
        left = (place % blocks) * (columns * (1 + GAP) + 0.25 * (columns > 1))
        top = head + (place // blocks) * step
        axes.text(left, top - 0.1 * line, label, fontsize=6, va="bottom")
        for column, image in enumerate(row):
            x = left + column * (1 + GAP)
            if titles and place < blocks:
                axes.text(x + 0.5, 0.3 * line, titles[column], fontsize=7, ha="center", va="top")
            if image is None:
                text = "not shown"
                axes.text(x + 0.5, top + height / 2, text, fontsize=5, color="0.6", ha="center")
                continue
            low, high = _range(image) if stretched else (0, 255)
            box = (x, x + 1, top + height, top)
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=box)
            if notes is not None and np.isfinite(notes[place, column]):
                text = f"{notes[place, column]:.2f}"
                axes.text(
                    x + 0.5, top + height + 0.1 * line, text, fontsize=5.5, ha="center", va="top"
                )
    axes.set(xlim=(-GAP, wide), ylim=(tall, 0), aspect="auto")
    return figure


def _range(image: NDArray) -> tuple[float, float]:
    """Return gray limits that lie evenly about zero."""
    reach = max(float(np.abs(image).max(initial=0.0)), 1e-6)
    return -reach, reach
