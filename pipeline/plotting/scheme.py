"""The loop as a drawing, with what one loop was made of."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from pipeline.plotting.style import COLORS, bare, new_figure

STEPS = {
    "images": ("Natural images", 0, 0),
    "scan": ("Two-photon scan", 1, 0),
    "responses": ("Responses of neurons", 2, 0),
    "models": ("Models of every neuron", 3, 0),
    "stimuli": ("MEIs and controls", 3, 1),
    "display": ("Shown as 8-bit images", 2, 1),
    "match": ("The same neurons", 1, 1),
    "verdict": ("MEI against control", 0, 1),
}
"""Step of the loop -> title, place from the left, place from the top; in the order of the loop."""

DAYS = ("day 1", "day 2")
COLUMN, ROW, WIDTH, HEIGHT = 2.6, 1.35, 2.05, 0.85  # inches


def scheme_figure(notes: Mapping[str, str] | None = None) -> Figure:
    """Draw the closed loop: day 1 from left to right, day 2 back (Fig. 1).

    Parameters
    ----------
    notes : mapping of step to str, optional
        A line below the step's title, for example how many images there were. Steps as in `STEPS`.

    Raises
    ------
    ValueError
        If there is no such step.
    """
    notes = notes or {}
    unknown = sorted(set(notes) - set(STEPS))
    if unknown:
        raise ValueError(f"no step {unknown}; there are {list(STEPS)}")
    figure = new_figure(4 * COLUMN + 0.6, 2 * ROW + 0.3)
    axes = bare(figure.add_subplot())
    colors = ("#eaf0f6", "#f9ebea")
    middles = []
    for name, (title, across, down) in STEPS.items():
        x, y = 0.6 + across * COLUMN, -down * ROW
        middles.append((x + WIDTH / 2, y - HEIGHT / 2))
        axes.add_patch(
            FancyBboxPatch(
                (x, y - HEIGHT),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0.02,rounding_size=0.08",
                facecolor=colors[down],
                edgecolor="0.55",
                linewidth=0.8,
            )
        )
        note = notes.get(name, "")
        axes.text(
            x + WIDTH / 2, y - 0.25, title, fontsize=9, weight="bold", ha="center", va="center"
        )
        axes.text(x + WIDTH / 2, y - 0.58, note, fontsize=8, ha="center", va="center")
    for (x0, y0), (x1, y1) in zip(middles, [*middles[1:], middles[0]], strict=True):
        back = (x1, y1) == middles[0]  # what day 2 shows leads to the next experiment
        level = y0 == y1
        reach = 0.5 * (WIDTH if level else HEIGHT) + 0.06
        side = reach * (1 if (x1 - x0 if level else y1 - y0) > 0 else -1)
        begin, end = (
            ((x0 + side, y0), (x1 - side, y1)) if level else ((x0, y0 + side), (x1, y1 - side))
        )
        axes.add_patch(
            FancyArrowPatch(
                begin,
                end,
                arrowstyle="-|>",
                mutation_scale=11,
                linewidth=1.2,
                color="0.7" if back else COLORS["mei"],
                linestyle=":" if back else "-",
            )
        )
    for down, day in enumerate(DAYS):
        axes.text(
            0.15,
            -down * ROW - HEIGHT / 2,
            day,
            rotation=90,
            fontsize=9,
            ha="center",
            va="center",
            color="0.35",
        )
    axes.set(xlim=(0, 0.6 + 4 * COLUMN), ylim=(-ROW - HEIGHT - 0.1, 0.1), aspect="equal")
    return figure
