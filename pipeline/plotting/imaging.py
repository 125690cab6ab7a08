"""The field with its masks, how it moved, and traces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from contourpy import contour_generator
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.style import COLORS, bare, new_figure, robust_range, tidy


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outlines of a mask, (points, 2) as x and y, halfway between its pixels and others.

    Only around the mask: contours of whole fields take 6 MB a unit and image, and seconds.
    """
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(y):
        return []
    top, left = max(0, y[0] - 1), max(0, x[0] - 1)
    part = mask[top : y[-1] + 2, left : x[-1] + 2].astype(np.float64)
    if min(part.shape) < 2:
        return []
    corner = np.array([left, top])
    return [corner + line for line in contour_generator(z=part).lines(0.5)]


def draw_field(axes, mean_image, masks, colors, um_per_px=None) -> None:
    """Draw a mean image, the outline of every mask, and a 50-um bar if the scale is known."""
    low, high = robust_range(mean_image)
    axes.imshow(mean_image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    lines, inks = [], []
    for mask, color in zip(masks, colors, strict=True):
        found = outlines(mask)
        lines += found
        inks += [color] * len(found)
    axes.add_collection(LineCollection(lines, colors=inks, linewidths=0.9), autolim=False)
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
        images.append(("correlation with neighbors", correlation_image))
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


def summary_figure(
    images: Mapping[str, NDArray],
    masks: NDArray[np.bool_],
    *,
    um_per_px: float | None = None,
    findings: list[str] | None = None,
) -> Figure:
    """Show every summary image twice: bare, and with the outlines of the masks.

    Parameters
    ----------
    images : mapping of name to array, shape (H, W)
        For example mean, correlation, maximum and L6, each on its own gray scale.
    masks : array of bool, shape (units, H, W)
    um_per_px : float, optional
        For the scale bar (um / pixel).
    findings : list of str, optional
        What is wrong with the scan, written above; an empty list: it is fit.
    """
    figure = new_figure(2.9 * len(images), 6.4)
    nothing = np.zeros((0, *np.shape(next(iter(images.values())))), bool)
    for column, (name, image) in enumerate(images.items()):
        for row, shown in enumerate((nothing, masks)):
            axes = figure.add_subplot(2, len(images), row * len(images) + column + 1)
            draw_field(axes, image, shown, ["#f4d03f"] * len(shown), um_per_px)
            if row == 0:
                axes.set_title(name, fontsize=9)
    title = f"{len(masks)} units"
    if findings is not None:
        title += "; not fit: " + "; ".join(findings) if findings else "; fit for use"
    figure.suptitle(title, fontsize=9)
    return figure


def motion_figure(
    time_s: NDArray,
    y_um: NDArray,
    x_um: NDArray,
    *,
    outliers: NDArray[np.bool_] | None = None,
    correlation: tuple[float, float] | None = None,
    intensity: NDArray | None = None,
    unit: str = "µm",
) -> Figure:
    """Show how the field moved over a scan.

    Parameters
    ----------
    time_s : array, shape (frames,)
    y_um, x_um : array, shape (frames,)
        Displacement of the content, down and right positive.
    outliers : array of bool, shape (frames,), optional
        Frames whose shift was not believed, marked below.
    correlation : tuple (before, after), optional
        Of frames with the template.
    intensity : array, shape (frames,), optional
        Mean of every frame (gray levels): bleaching and lost focus show here.
    unit : str
        Of the displacement.
    """
    rows = 2 if intensity is None else 3
    figure = new_figure(9, 1.7 * rows + 0.5)
    for row, (name, values) in enumerate((("down", y_um), ("right", x_um))):
        axes = tidy(figure.add_subplot(rows, 1, row + 1))
        axes.axhline(0, color=COLORS["truth"], linewidth=0.6)
        axes.plot(time_s, values, color="#2c3e50", linewidth=0.6)
        if outliers is not None and np.any(outliers):
            low = np.full(int(np.sum(outliers)), np.min(values))
            axes.plot(time_s[outliers], low, "|", color=COLORS["mei"], markersize=5)
        axes.set_ylabel(f"{name} ({unit})", fontsize=8)
        axes.set_xlim(time_s[0], time_s[-1])
        if row < rows - 1:
            axes.set_xticklabels([])
    if intensity is not None:
        axes = tidy(figure.add_subplot(rows, 1, 3))
        axes.plot(time_s, intensity, color=COLORS["fni"], linewidth=0.6)
        axes.set_ylabel("intensity (gray)", fontsize=8)
        axes.set_xlim(time_s[0], time_s[-1])
    axes.set_xlabel("time (s)", fontsize=8)
    rms = float(np.sqrt(np.mean(np.square(y_um) + np.square(x_um))))
    title = f"rms displacement {rms:.2f} {unit}"
    if outliers is not None:
        title += f", {int(np.sum(outliers))} outliers (red)"
    if correlation is not None:
        title += f"; correlation with the template {correlation[0]:.3f} to {correlation[1]:.3f}"
    figure.suptitle(title, fontsize=9)
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
        True spike counts (ticks) and true calcium (gray line).
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
        legend += "; gray: true calcium; ticks: true spikes"
    figure.suptitle(legend, fontsize=9)
    return figure


def _scaled(trace: NDArray) -> NDArray:
    low, high = np.nanpercentile(trace, [5, 99.8])
    return (trace - low) / (high - low if high > low else 1)
