"""Where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.plotting.style import new_figure, tidy


def timing_figure(stages: Sequence[tuple[str, int, float]]) -> Figure:
    """Draw a bar a table.

    Parameters
    ----------
    stages : sequence of (table, jobs, seconds)
        In the order of the pipeline; seconds are summed over jobs.
    """
    figure = new_figure(7.5, 0.24 * len(stages) + 1)
    axes = tidy(figure.add_subplot())
    seconds = [s for _, _, s in stages]
    axes.barh(range(len(stages)), seconds, color="#2471a3")
    axes.set_yticks(range(len(stages)), [name for name, _, _ in stages], fontsize=7)
    axes.set_ylim(len(stages) - 0.4, -0.6)  # first stage on top, no empty rows
    longest = max(seconds, default=1) or 1
    for row, (_, jobs, value) in enumerate(stages):
        text = f"{value:.1f} s, {jobs} job{'s' if jobs != 1 else ''}"
        axes.text(value + 0.01 * longest, row, text, va="center", fontsize=6.5)
    axes.set_xlim(0, 1.25 * longest)
    axes.set_xlabel("seconds of work, summed over jobs", fontsize=8)
    return figure
