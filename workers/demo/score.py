"""The demo's figures: what the tables say, against what the simulator knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import plotting
from pipeline.closed_loop.verdict.direction import above
from pipeline.dataset.names import unit_name
from pipeline.simulate import score
from pipeline.stimulus.kinds import name_of
from schemas import closed_loop, dataset, experiment, imaging, mei, model
from workers.queue import tables
from workers.report import Picture, Section

RADIUS_UM = 8.0  # a found centroid this close to a true one is that cell (about a soma's radius)
TRACE_UNITS, TRACE_S = 6, 100.0


class Day:
    """One simulated recording: its tables and its truth.

    Parameters
    ----------
    bundle : Path
        Recording bundle with `truth/`.
    scan : dict
        `animal_id, session, scan_idx`.
    """

    def __init__(self, bundle: Path, scan: dict[str, int]) -> None:
        self.scan = scan
        with np.load(bundle / "truth" / "truth.npz") as file:
            self.truth = {name: file[name] for name in file.files}
        self.motion = (imaging.Motion & scan).fetch1("shifts").load()
        units = (imaging.Segmentation.Unit & scan).to_dicts(order_by="unit_id")
        self.unit_id = np.array([unit["unit_id"] for unit in units])
        several = (imaging.ScanInfo & scan).fetch1("n_fields") > 1
        self.names = [
            unit_name(unit["unit_id"], unit["field"] if several else None) for unit in units
        ]
        yx = np.array([(unit["y_px"], unit["x_px"]) for unit in units]).reshape(-1, 2)
        kept = (dataset.Responses.Unit & scan).to_arrays("unit_id")
        self.kept = np.isin(self.unit_id, kept)
        um = (experiment.Scan & scan).fetch1("um_per_px_y")
        inside = np.flatnonzero(self.truth["in_field"])
        active = (self.truth["active"] & self.truth["responsive"])[inside]
        arguments = (self.truth["centroid_yx_px"][inside], active)
        self.cells = score.cell_score(yx[self.kept], *arguments, radius_px=RADIUS_UM / um)
        every = score.cell_score(yx, *arguments, radius_px=RADIUS_UM / um)
        self.cell_of = _identity(every.true_index, self.truth["cell_id"][inside])
        self.n_active = int(active.sum())

    def motion_rms(self) -> float:
        """Return the motion error (px rms)."""
        n = self.motion.shape[1]
        true = (self.truth["shifts_y"][:n], self.truth["shifts_x"][:n])
        return score.motion_rms((self.motion[0], self.motion[1]), true)

    def traces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return corrected traces, activity, and the row of the true trace (-1: none) of units."""
        corrected = (imaging.Fluorescence & self.scan).fetch1("corrected").load()
        activity = (imaging.Activity & self.scan).fetch1("activity").load()
        row_of = {int(cell): row for row, cell in enumerate(self.truth["activity_cell_id"])}
        rows = np.array([row_of.get(int(cell), -1) for cell in self.cell_of])
        return corrected, activity, rows


def _identity(true_index: np.ndarray, cell_id: np.ndarray) -> np.ndarray:
    """Return the identity of every unit, -1 where it is no true cell."""
    return np.where(true_index >= 0, cell_id[true_index], -1)


def score_demo(bundles: dict[int, Path], mouse: Any, *, seconds: float) -> dict[str, Any]:
    """Score a finished demo.

    Parameters
    ----------
    bundles : dict of day to Path
        Both recordings.
    mouse : pipeline.simulate.Mouse
        The animal.
    seconds : float
        Time that the demo took.

    Returns
    -------
    dict
        The figures of `report/result.json`; keys as in the documentation of `inception demo`.
    """
    days = {day: Day(path, _scan(day)) for day, path in bundles.items()}
    corrected, _, rows = days[1].traces()
    kept = days[1].kept
    r = score.trace_correlations(corrected[kept], days[1].truth["dff"], rows[kept])
    match = (closed_loop.MatchTask & _scan(2)).fetch1()
    made = closed_loop.matched_pairs(match, match["min_match_probability"])
    places = [{int(u): row for row, u in enumerate(days[day].unit_id)} for day in (1, 2)]
    index = [(places[0][p["source_unit_id"]], places[1][p["unit_id"]]) for p in made]
    precision, recall = score.match_score(
        np.array(index, int).reshape(-1, 2), days[1].cell_of, days[2].cell_of
    )
    fractions = {
        row["ensemble_kind"]: row["fraction_oracle_frozen"]
        for row in (
            model.EnsembleSpec * model.Evaluation & (dataset.DatasetSpec.Scan & _scan(1)).proj()
        ).to_dicts()
    }
    population = (closed_loop.Population.Kind & _scan(2)).to_dicts(order_by=["kind", "variant"])
    return {
        "n_cells": days[1].n_active,
        "n_units": int(kept.sum()),
        "n_targets": int((closed_loop.Plan & closed_loop.Presentation).fetch1("n_targets")),
        "n_scored": int((closed_loop.Outcome & _scan(2)).fetch1("n_scored")),
        "jobs_error": len(tables.Job & "status = 'error'"),
        "seconds": round(seconds, 1),
        "motion_rms_px": max(day.motion_rms() for day in days.values()),
        "cell_precision": days[1].cells.precision,
        "cell_recall": days[1].cells.recall,
        "trace_r": float(np.nanmedian(r)),
        "match_precision": precision,
        "match_recall": recall,
        "cnn_fraction_oracle": fractions["cnn"],
        "ln_fraction_oracle": fractions["ln"],
        "mei_true_drive": _true_drive(days[1], mouse),
        "mei_wins": {name_of(row): row["fraction"] for row in population},
        "mei_wilcoxon_p": {name_of(row): row["wilcoxon_p"] for row in population},
        "above": {
            name_of(row): above(row["median_difference"], "mei", name_of(row)) for row in population
        },
    }


def _scan(day: int) -> dict[str, int]:
    return {"animal_id": 1, "session": day, "scan_idx": 1}


def _true_drive(day: Day, mouse: Any) -> float:
    """Return the median share of the best possible drive that the targets' MEIs reach in truth.

    The best possible is that of an image of the same contrast, as synthesized (not as displayed).
    """
    cell_of = dict(zip(day.unit_id.tolist(), day.cell_of.tolist(), strict=True))
    shares = []
    for batch in (mei.MEI & "n_units > 0").to_dicts():
        key = {name: batch[name] for name in mei.MEI.primary_key}
        rows = (mei.MEI.Unit * dataset.Dataset.Unit & key).to_dicts(order_by="image_row")
        cells = np.array([cell_of.get(row["label"], -1) for row in rows])
        known = cells >= 0
        if known.any():
            shares.append(mouse.relative_drive(batch["images"].load()[known], cells[known]))
    return float(np.median(np.concatenate(shares))) if shares else float("nan")


def truth_section(bundle: Path, out: Path) -> Section:
    """Draw traces of day 1 over the truth; return the report's chapter."""
    day = Day(bundle, _scan(1))
    corrected, activity, rows = day.traces()
    units = np.flatnonzero(day.kept & (rows >= 0))
    r = score.trace_correlations(corrected[units], day.truth["dff"], rows[units])
    order = units[np.argsort(-r)]
    chosen = order[np.linspace(0, len(order) - 1, min(TRACE_UNITS, len(order))).astype(int)]
    time_s = day.truth["frame_times_s"][: corrected.shape[1]]
    start = len(time_s) // 3
    stop = start + int(TRACE_S / np.median(np.diff(time_s)))
    part = slice(start, stop)
    figure = plotting.traces_figure(
        time_s[part],
        {"fluorescence": corrected[chosen, part], "activity": activity[chosen, part]},
        labels=[f"{day.names[u]}\nr = {r[units == u][0]:.2f}" for u in chosen],
        spikes=day.truth["spikes"][rows[chosen], part],
        truth=day.truth["dff"][rows[chosen], part],
    )
    plotting.save(figure, out / "truth_traces.png")
    caption = "From the best to the worst trace; r with the true calcium over the whole scan."
    return Section("Against the truth", [Picture("Traces", "truth_traces.png", caption)])
