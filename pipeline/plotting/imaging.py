"""The field with its masks, and traces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import COLORS, bare, new_figure, robust_range, tidy


def draw_field(axes, mean_image, masks, colors, um_per_px=None) -> None:
    """Draw a mean image, the outline of every mask, and a 50-um bar if the scale is known."""
    low, high = robust_range(mean_image)
    axes.imshow(mean_image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    for mask, color in zip(masks, colors, strict=True):
        if np.any(mask):
            axes.contour(mask, levels=[0.5], colors=[color], linewidths=0.9)
    if um_per_px:
        height = mean_image.shape[0]
        length = 50 / um_per_px
        axes.plot([4, 4 + length], [height - 5] * 2, color="white", linewidth=2.5)
        axes.text(4, height - 8, "50 µm", color="white", fontsize=7, va="bottom")
    bare(axes)


def field_figure(
    mean_image: NDArray,
    masks: NDArray[np.bool_],
    *,
    correlation_image: NDArray | None = None,
    highlighted: NDArray[np.bool_] | None = None,
    um_per_px: float | None = None,
    title: str = "",
) -> Figure:
    """Show a field and its masks.

    Parameters
    ----------
    mean_image, correlation_image : array, shape (H, W)
        Summary images; the second is optional.
    masks : array of bool, shape (units, H, W)
        Outlined on every image.
    highlighted : array of bool, shape (units,), optional
        Units drawn in red (targets); the others are yellow.
    um_per_px : float, optional
        For the scale bar (um / pixel).
    """
    images = [("mean", mean_image)]
    if correlation_image is not None:
        images.append(("correlation with neighbours", correlation_image))
    figure = new_figure(5.2 * len(images), 5.4)
    if highlighted is None:
        highlighted = np.zeros(len(masks), bool)
    colors = [COLORS["mei"] if mark else "#f4d03f" for mark in highlighted]
    for index, (name, image) in enumerate(images):
        axes = figure.add_subplot(1, len(images), index + 1)
        draw_field(axes, image, masks, colors, um_per_px)
        axes.set_title(name, fontsize=9)
    figure.suptitle(title or f"{len(masks)} units, {int(highlighted.sum())} targets in red")
    return figure


def traces_figure(
    time_s: NDArray,
    traces: Mapping[str, NDArray],
    *,
    labels: list[str],
    spikes: NDArray | None = None,
    truth: NDArray | None = None,
) -> Figure:
    """Show fluorescence and activity of some units, with the truth where it is known.

    Parameters
    ----------
    time_s : array, shape (frames,)
    traces : mapping of name to array, shape (units, frames)
        Drawn from top to bottom for every unit: "fluorescence" and "activity".
    labels : list of str
        One a unit.
    spikes, truth : array, shape (units, frames), optional
        True spike counts (ticks) and true calcium (grey line).
    """
    units = len(labels)
    figure = new_figure(11, 1.25 * units + 0.6)
    for unit, label in enumerate(labels):
        axes = tidy(figure.add_subplot(units, 1, unit + 1))
        fluorescence = _scaled(traces["fluorescence"][unit])
        if truth is not None:
            axes.plot(time_s, _scaled(truth[unit]), color=COLORS["truth"], linewidth=2.2)
        axes.plot(time_s, fluorescence, color="#2c3e50", linewidth=0.7)
        activity = traces["activity"][unit]
        top = np.nanpercentile(activity, 99.9) or 1
        axes.plot(time_s, activity / top - 1.3, color=COLORS["mei"], linewidth=0.7)
        if spikes is not None:
            when = time_s[spikes[unit] > 0]
            axes.plot(when, np.full(len(when), -1.5), "|", color="black", markersize=4)
        axes.set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
        axes.set_yticks([])
        axes.set_xlim(time_s[0], time_s[-1])
        if unit < units - 1:
            axes.set_xticklabels([])
    axes.set_xlabel("time (s)", fontsize=8)
    legend = "black: fluorescence (neuropil-corrected); red: deconvolved activity"
    if truth is not None:
        legend += "; grey: true calcium; ticks: true spikes"
    figure.suptitle(legend, fontsize=9)
    return figure


def _scaled(trace: NDArray) -> NDArray:
    low, high = np.nanpercentile(trace, [5, 99.8])
    return (trace - low) / (high - low if high > low else 1)
