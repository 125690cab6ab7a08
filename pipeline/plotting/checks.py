"""Is the verdict to be believed: matches confirmed, trials shown, power, and other thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from pipeline.plotting.style import (
    COLORS,
    bare,
    color_of,
    evenly,
    name_of,
    name_ticks,
    new_figure,
    tidy,
    whole_numbers,
)


def confirmation_figure(
    matrix: NDArray, rank: ArrayLike, *, labels: Sequence[str] | None = None
) -> Figure:
    """Show how source and matched units correlate over shared natural images.

    Parameters
    ----------
    matrix : array, shape (pairs, pairs)
        Correlation of the row's source unit with the column's matched unit.
    rank : array, shape (pairs,)
        Share of the other matched units that the own one exceeds.
    labels : sequence of str, optional
        Names of the pairs' neurons.
    """
    figure = new_figure(9, 4)
    axes = figure.add_subplot(1, 2, 1)
    picture = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_xlabel("matched unit", fontsize=9)
    axes.set_ylabel("source unit", fontsize=9)
    axes.tick_params(labelsize=7)
    if labels is not None:
        name_ticks(axes.xaxis, labels)
        name_ticks(axes.yaxis, labels)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="correlation over images")
    axes = tidy(figure.add_subplot(1, 2, 2))
    own = np.diag(matrix)
    other = matrix[~np.eye(len(matrix), dtype=bool)]
    edges = evenly(-1, 1, 25)
    for values, color, label in ((other, "0.7", "other pairs"), (own, COLORS["mei"], "matches")):
        known = values[np.isfinite(values)]
        if len(known):
            share = np.full(len(known), 1 / len(known))
            axes.hist(known, edges, weights=share, color=color, alpha=0.7, label=label)
    axes.set_xlabel("correlation over images", fontsize=9)
    axes.set_ylabel("share", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    known = np.asarray(rank, float)
    middle = np.nanmedian(known) if np.isfinite(known).any() else np.nan
    axes.set_title(
        f"{len(matrix)} matches exceed {100 * middle:.0f} % of other pairs (median)", fontsize=9
    )
    return figure


def audit_figure(counts: Mapping[str, int], histogram: Mapping[str, Sequence[float]]) -> Figure:
    """Show how many trials were as planned, and how long images were on.

    Parameters
    ----------
    counts : mapping of status to number of trials
    histogram : {"edges_s": ..., "counts": ...}
    """
    figure = new_figure(9, 3.2)
    axes = tidy(figure.add_subplot(1, 2, 1))
    names, values = list(counts), [counts[name] for name in counts]
    bars = axes.barh(names, values, color=["#1e8449" if n == "ok" else "#c0392b" for n in names])
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.invert_yaxis()
    axes.set_xlabel("trials", fontsize=9)
    axes = tidy(figure.add_subplot(1, 2, 2))
    edges = 1e3 * np.asarray(histogram["edges_s"], float)
    axes.bar(edges[:-1], histogram["counts"], np.diff(edges), align="edge", color="#2471a3")
    axes.set_yscale("symlog")
    axes.set_xlabel("image on (ms)", fontsize=9)
    axes.set_ylabel("trials", fontsize=9)
    return figure


def power_figure(
    curve: Mapping[str, Sequence[float]], designs: pd.DataFrame, found: Mapping[str, float]
) -> Figure:
    """Show what was planned to be detectable, and what was found.

    Parameters
    ----------
    curve : {"ratio", "per_neuron", "population"}
        Power at every ratio of MEI to control for the plan as it was.
    designs : DataFrame
        `n_neurons, repeats, detectable_per_neuron`.
    found : mapping of kind to median ratio of the mean responses
        Drawn as lines.
    """
    known = sorted((ratio, kind) for kind, ratio in found.items() if np.isfinite(ratio))
    lines = 3 if len(known) < 6 else len(known)  # neighbors stand on lines of their own
    figure = new_figure(9, 3.4 + 0.15 * (lines - 3))
    axes = tidy(figure.add_subplot(1, 2, 1))
    low, high = min(curve["ratio"]), max(curve["ratio"])
    edge = 0.1 * (high - low)  # ratios beyond it are written instead
    for name, label in (("per_neuron", "neurons significant"), ("population", "Wilcoxon")):
        axes.plot(curve["ratio"], curve[name], "o-", markersize=3, label=label)
    for place, (ratio, kind) in enumerate(known):
        color = color_of(kind)
        inside = float(np.clip(ratio, low - edge / 2, high + edge / 2))
        name = name_of(kind) if inside == ratio else f"{name_of(kind)} {ratio:.3g}"
        axes.axvline(inside, color=color, linestyle=":", linewidth=1)
        height = 1.03 + 0.06 * (place % lines)
        axes.text(inside, height, name, fontsize=7, ha="center", color=color)
    axes.set_xlim(low - edge, high + edge)
    axes.axhline(0.8, color="0.85", linewidth=1, zorder=0)
    axes.set_xlabel("true MEI / control (dotted: found on day 2)", fontsize=9)
    axes.set_ylabel("power", fontsize=9)
    axes.set_ylim(-0.03, 1.04 + 0.06 * lines)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes = tidy(figure.add_subplot(1, 2, 2))
    for count, rows in designs.groupby("n_neurons"):
        rows = rows.sort_values("repeats")
        detectable = rows.detectable_per_neuron.astype(float)
        axes.plot(rows.repeats, detectable, "o-", markersize=3, label=f"{count} neurons")
    largest = max(curve["ratio"])
    axes.set(xlim=(0, 1.05 * designs.repeats.max()), ylim=(1, 1.03 * largest))
    axes.set_title(f"no point: not even a ratio of {largest:g}", fontsize=8)
    axes.set_xlabel("repeats of every image", fontsize=9)
    axes.set_ylabel("MEI / control found in 80 % of neurons", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return figure


def sensitivity_figure(table: pd.DataFrame, *, reference: str = "mei") -> Figure:
    """Show the fraction of neurons that prefer their MEI as matches get surer.

    Parameters
    ----------
    table : DataFrame
        `kind, percent, n_neurons, fraction`.
    reference : str
        Kind that the others are compared with, should it be another.
    """
    figure = new_figure(10, 3.2)
    left, right = (tidy(figure.add_subplot(1, 2, k)) for k in (1, 2))
    for kind, rows in table.groupby("kind", sort=False):
        rows = rows.sort_values("percent")
        left.plot(
            rows.percent / 100,
            rows.fraction.astype(float),
            "o-",
            markersize=3,
            color=color_of(kind),
            label=name_of(kind),
        )
        right.plot(rows.percent / 100, rows.n_neurons, "o-", markersize=3, color=color_of(kind))
    left.axhline(0.5, color="0.85", linewidth=1, zorder=0)
    left.set(ylim=(0, 1.05))
    left.set_ylabel(f"neurons with {name_of(reference)} > control", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    right.set_ylabel("neurons scored", fontsize=9)
    right.set_ylim(0, 1.1 * max(1, table.n_neurons.max()))
    whole_numbers(right.yaxis)
    for axes in (left, right):
        axes.set_xlabel("least probability of the match", fontsize=9)
    return figure


def selection_figure(
    cnn: ArrayLike, ln: ArrayLike, kept: ArrayLike, reasons: Mapping[str, int]
) -> Figure:
    """Show which units were chosen, and why others were not.

    Parameters
    ----------
    cnn, ln : arrays, shape (units,)
        Validation correlation of both models.
    kept : array of bool, shape (units,)
    reasons : mapping of reason to number of units
    """
    cnn, ln, kept = np.asarray(cnn, float), np.asarray(ln, float), np.asarray(kept, bool)
    figure = new_figure(9.5, 3.8)
    axes = tidy(figure.add_subplot(1, 2, 1))
    axes.plot(ln[~kept], cnn[~kept], "o", color="0.75", markersize=3, label="left out")
    axes.plot(ln[kept], cnn[kept], "o", color=COLORS["mei"], markersize=4, label="targets")
    known = np.concatenate([cnn, ln])
    known = known[np.isfinite(known)]
    if len(known):
        axes.plot([known.min(), known.max()], [known.min(), known.max()], color="0.85", zorder=0)
    axes.set_xlabel("LN model, validation correlation", fontsize=9)
    axes.set_ylabel("CNN, validation correlation", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes = tidy(figure.add_subplot(1, 2, 2))
    if not reasons:
        bare(axes).set_title("no unit was left out", fontsize=9)
        return figure
    names = sorted(reasons, key=lambda name: -reasons[name])
    bars = axes.barh([name[:46] for name in names], [reasons[name] for name in names], color="0.6")
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("units", fontsize=9)
    return figure


def prediction_figure(
    predicted: Mapping[str, ArrayLike], measured: Mapping[str, ArrayLike]
) -> Figure:
    """Scatter measured against predicted responses, one color a kind."""
    figure = new_figure(6.2, 4)
    axes = tidy(figure.add_subplot())
    for kind, values in predicted.items():
        n = int((np.isfinite(values) & np.isfinite(measured[kind])).sum())
        axes.plot(
            values,
            measured[kind],
            "o",
            markersize=3,
            alpha=0.7,
            color=color_of(kind),
            label=f"{name_of(kind)} (n = {n})",
        )
    axes.set_xlabel("predicted response (a.u. of day 1)", fontsize=9)
    axes.set_ylabel("measured mean response (a.u.)", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    return figure
