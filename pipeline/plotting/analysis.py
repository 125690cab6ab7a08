"""Figures of the analyses of target neurons: one a name in `pipeline.mei.analysis`.

Every function takes what the query of its table returns, one row a unit and the arrays in the same
order, and returns a Figure. A neuron is called as the last level of the rows' index says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from pipeline.closed_loop.verdict.direction import above
from pipeline.plotting.analysis_images import (
    gabor_similarity_figure,
    linearised_figure,
    natural_patches_figure,
    stability_figure,
)
from pipeline.plotting.style import (
    COLORS,
    color_of,
    evenly,
    name_of,
    new_figure,
    tidy,
    whole_numbers,
)

Arrays = Mapping[str, NDArray]


def gradient_spectrum_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw normalized eigenvalue spectra of CNN and LN, and how many directions each cell has."""
    figure = new_figure(8, 3.4)
    left, right = (tidy(axes) for axes in figure.subplots(1, 2))
    for name, color in (("cnn", COLORS["mei"]), ("ln", COLORS["rf"])):
        values = arrays[name]
        order = np.arange(1, values.shape[1] + 1)
        left.plot(order, values.T, color=color, alpha=0.12, linewidth=0.7)
        left.plot(order, values.mean(0), "o-", color=color, markersize=3, label=name.upper())
    left.set_title(f"{len(units)} neurons, thin, and their means", fontsize=9)
    left.set_xlabel("eigenvalue of the gradients' covariance", fontsize=9)
    left.set_ylabel("relative to the largest", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    top = max(2.0, float(np.nanmax(units["cnn_dimensions"], initial=1)))
    right.hist(units["cnn_dimensions"].dropna(), evenly(1, top, 25), color=COLORS["mei"])
    right.axvline(units["ln_dimensions"].median(), color=COLORS["rf"], linestyle="--")
    right.set_xlabel("effective directions (LN dashed)", fontsize=9)
    right.set_ylabel("units", fontsize=9)
    whole_numbers(right.yaxis)
    return figure


def spectrum_difference_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw the mean difference of amplitude spectra, radial means, and frequency per unit."""
    figure = new_figure(11, 3.4)
    first, second, third = figure.subplots(1, 3)
    difference = arrays["difference"].mean(0)
    limit = max(float(np.abs(difference).max()), 1e-9)
    picture = first.imshow(
        difference, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-0.5, 0.5, 0.5, -0.5)
    )
    first.set_title("MEI minus RF, mean amplitude", fontsize=9)
    first.set_xlabel("cycles/px", fontsize=9)
    first.set_ylabel("cycles/px", fontsize=9)
    first.tick_params(labelsize=8)
    figure.colorbar(picture, ax=first, shrink=0.8).ax.tick_params(labelsize=7)
    for name, label in (("mei", "MEI"), ("rf", "RF")):
        radial = arrays[f"{name}_radial"]
        mean = radial.mean(0)
        error = radial.std(0, ddof=1) / np.sqrt(len(radial)) if len(radial) > 1 else 0 * mean
        second.plot(arrays["frequency"], mean, color=COLORS[name], label=label)
        second.fill_between(
            arrays["frequency"], mean - error, mean + error, color=COLORS[name], alpha=0.25, lw=0
        )
    tidy(second).set_xlabel("spatial frequency (cycles/px)", fontsize=9)
    second.set_ylabel("mean amplitude (s.e.m. shaded)", fontsize=9)
    second.legend(frameon=False, fontsize=8)
    higher = (units["mei_frequency"] > units["rf_frequency"]).sum()
    _pairs(third, units["rf_frequency"], units["mei_frequency"])
    third.set_xlabel("RF: mean frequency (cycles/px)", fontsize=9)
    third.set_ylabel("MEI", fontsize=9)
    third.set_title(f"MEI higher in {higher} of {len(units)}", fontsize=9)
    return figure


def linear_filter_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Scatter how well MEI and RF predict measured responses as linear filters."""
    figure = new_figure(3.9, 3.9)
    axes = figure.add_subplot()
    known = units[["mei_rho", "rf_rho"]].dropna()
    _pairs(axes, known["mei_rho"], known["rf_rho"])
    axes.set_xlabel("MEI as filter: rank correlation", fontsize=9)
    axes.set_ylabel("RF as filter", fontsize=9)
    title = f"RF better in {(known['rf_rho'] > known['mei_rho']).sum()} of {len(known)}"
    if len(known) >= 6 and (known["rf_rho"] != known["mei_rho"]).any():
        test = wilcoxon(known["rf_rho"], known["mei_rho"])
        better = above((known["rf_rho"] - known["mei_rho"]).median(), "RF", "MEI")
        title += (
            f"\nWilcoxon W = {test.statistic:.0f}, p = {test.pvalue:.2g} (two-sided):\n{better}"
        )
    axes.set_title(title, fontsize=8)
    return figure


def jitter_tuning_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw mean maps of the response over shifts, and the width of every unit's."""
    figure = new_figure(11.5, 3.1)
    axes = figure.subplots(1, 4)
    titles = {"mei": "MEI in the CNN", "rf_in_ln": "RF in the LN", "rf_in_cnn": "RF in the CNN"}
    most = arrays["mei"].shape[1] // 2
    for place, (name, title) in zip(axes, titles.items(), strict=False):
        maps = arrays[name]
        peak = np.maximum(maps.reshape(len(maps), -1).max(1), 1e-12)[:, None, None]
        edge = most + 0.5
        picture = place.imshow(
            (maps / peak).mean(0), cmap="magma", vmin=0, vmax=1, extent=(-edge, edge, edge, -edge)
        )
        place.set_title(title, fontsize=9)
        place.set_xlabel("shift (px)", fontsize=9)
        place.tick_params(labelsize=8)
    bar = figure.colorbar(picture, ax=axes[:3], shrink=0.8)
    bar.set_label("of the largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _pairs(axes[3], units["rf_width_px"], units["mei_width_px"])
    axes[3].set_xlabel("RF: width at half (px)", fontsize=9)
    axes[3].set_ylabel("MEI", fontsize=9)
    return figure


def contrast_tuning_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw the response of every unit over the contrast of its MEI, and where it saturates."""
    figure = new_figure(7.5, 3.3)
    left, right = (tidy(axes) for axes in figure.subplots(1, 2))
    rates = arrays["activations"]
    peak = np.maximum(rates.max(1), 1e-12)[:, None]
    left.plot(arrays["rms"].T, (rates / peak).T, color=COLORS["mei"], alpha=0.25, linewidth=0.8)
    left.set_xlabel("rms contrast of the MEI (sd of the training images)", fontsize=9)
    left.set_ylabel("response, of the largest", fontsize=9)
    right.hist(units["saturation_rms"].dropna(), 25, color=COLORS["mei"])
    right.set_xlabel("contrast at nine tenths of the response", fontsize=9)
    right.set_ylabel("units", fontsize=9)
    whole_numbers(right.yaxis)
    share = float(units["monotonic"].mean())
    right.set_title(f"never falling in {100 * share:.0f} % of the units", fontsize=9)
    return figure


def orientation_tuning_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw orientation curves about each unit's preference, selectivity, and phase modulation."""
    figure = new_figure(11, 3.2)
    first, second, third = (tidy(axes) for axes in figure.subplots(1, 3))
    curves = arrays["curve"]
    half = curves.shape[1] // 2
    turned = np.array([np.roll(curve, half - curve.argmax()) for curve in curves])
    turned = turned / np.maximum(turned.max(1, keepdims=True), 1e-12)
    step = float(np.diff(arrays["orientation_deg"][:2])[0])
    away = (np.arange(curves.shape[1]) - half) * step
    first.plot(away, turned.T, color="0.6", alpha=0.25, linewidth=0.7)
    first.plot(away, turned.mean(0), color=COLORS["mei"], linewidth=2)
    first.set_xlabel("orientation from the preferred (deg)", fontsize=9)
    first.set_ylabel("response, of the largest", fontsize=9)
    second.hist(units["selectivity"].dropna(), evenly(0, 1, 25), color=COLORS["mei"])
    second.set_xlabel("orientation selectivity (1 - circular variance)", fontsize=9)
    second.set_ylabel("units", fontsize=9)
    whole_numbers(second.yaxis)
    third.hist(units["modulation"].dropna(), evenly(0, 2, 25), color=COLORS["rf"])
    third.axvline(1, color="0.4", linestyle=":")
    third.set_xlabel("phase modulation F1/F0 (simple cells above 1)", fontsize=9)
    third.set_ylabel("units", fontsize=9)
    whole_numbers(third.yaxis)
    return figure


def size_tuning_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Draw the response over the radius of a grating, and how much surrounds suppress."""
    figure = new_figure(7.5, 3.2)
    left, right = (tidy(axes) for axes in figure.subplots(1, 2))
    curves = arrays["curve"] / np.maximum(arrays["curve"].max(1, keepdims=True), 1e-12)
    left.plot(arrays["radius_px"], curves.T, color="0.6", alpha=0.25, linewidth=0.7)
    left.plot(arrays["radius_px"], curves.mean(0), "o-", color=COLORS["mei"], markersize=3)
    left.set_xlabel("radius of the grating (px)", fontsize=9)
    left.set_ylabel("response, of the largest", fontsize=9)
    right.hist(units["suppression"].dropna(), evenly(0, 1, 25), color=COLORS["mei"])
    right.set_xlabel("suppression by the largest grating", fontsize=9)
    right.set_ylabel("units", fontsize=9)
    whole_numbers(right.yaxis)
    return figure


def held_out_figure(units: pd.DataFrame, arrays: Arrays) -> Figure:
    """Scatter the response of a member that took no part on that of those that made the MEI."""
    figure = new_figure(7.6, 3.6)
    left, right = figure.subplots(1, 2)
    _pairs(left, units["makers"], units["held_out"])
    left.set_xlabel("members that made the MEI (mean response)", fontsize=9)
    left.set_ylabel("member left out", fontsize=9)
    left.set_title(f"median ratio {units['ratio'].median():.2f}", fontsize=9)
    tidy(right).hist(units["member_cv"].dropna(), 25, color=COLORS["mei"])
    right.set_xlabel("disagreement of members (sd over mean)", fontsize=9)
    right.set_ylabel("units", fontsize=9)
    whole_numbers(right.yaxis)
    return figure


def predicted_activation_figure(units: pd.DataFrame, arrays: Arrays | None = None) -> Figure:
    """Draw the predicted response to every kind, as a share of that to the MEI (Fig. 3).

    Parameters
    ----------
    units : DataFrame
        Rows are units, columns kinds (`mei` among them), values predicted responses.
    arrays : mapping, optional
        Not used.
    """
    kinds = [kind for kind in units.columns if kind != "mei"]
    share = units[kinds].div(units["mei"].where(units["mei"] > 0), axis=0)
    order = list(share.median().sort_values(ascending=False).index)
    figure = new_figure(0.75 * len(order) + 2.2, 3.4)
    axes = tidy(figure.add_subplot())
    rng = np.random.default_rng(0)
    for place, kind in enumerate(order):
        values = share[kind].dropna().to_numpy()
        color = color_of(kind)
        across = place + rng.uniform(-0.22, 0.22, len(values))
        axes.plot(across, values, "o", color=color, markersize=2.5, alpha=0.45)
        if len(values):
            axes.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color="k", linewidth=1.6)
    axes.axhline(1, color=COLORS["mei"], linewidth=1)
    names = [name_of(kind).replace(" ", "\n") + f"\nn = {share[kind].count()}" for kind in order]
    axes.set_xticks(range(len(order)), names, fontsize=8)
    axes.set_ylabel("predicted response, MEI = 1", fontsize=9)
    axes.set_ylim(0, max(1.1, float(np.nanmax(share.to_numpy(), initial=0)) * 1.05))
    return figure


def _pairs(axes, x, y) -> None:
    """Scatter pairs in a square with the diagonal."""
    values = np.concatenate([np.asarray(x, float), np.asarray(y, float)])
    low, high = np.nanmin(values, initial=0), np.nanmax(values, initial=1e-9)
    edge = 0.05 * max(high - low, 1e-9)
    tidy(axes).plot([low - edge, high + edge], [low - edge, high + edge], color="0.75", linewidth=1)
    axes.plot(x, y, "o", color="#2c3e50", markersize=3, alpha=0.6)
    axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")


ANALYSIS_FIGURES: dict[str, Callable[[pd.DataFrame, Arrays], Figure]] = {
    "stability": stability_figure,
    "gradient_spectrum": gradient_spectrum_figure,
    "spectrum_difference": spectrum_difference_figure,
    "linear_filter": linear_filter_figure,
    "linearised": linearised_figure,
    "jitter_tuning": jitter_tuning_figure,
    "contrast_tuning": contrast_tuning_figure,
    "gabor_similarity": gabor_similarity_figure,
    "natural_patches": natural_patches_figure,
    "orientation_tuning": orientation_tuning_figure,
    "size_tuning": size_tuning_figure,
    "held_out": held_out_figure,
}
"""Figure of every analysis: ``ANALYSIS_FIGURES[name](units, arrays)``."""
