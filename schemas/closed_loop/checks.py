"""Checks of a verdict: would it be another with other matches, states, days or a drifting field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import datajoint as dj
import numpy as np
import pandas as pd

from pipeline.closed_loop.checks.arousal import arousal_matched
from pipeline.closed_loop.checks.confirmation import confirm, day_gain, predicted_measured
from pipeline.closed_loop.checks.drift import slow_drift
from pipeline.closed_loop.verdict.outcome import outcome_methods, sensitivity
from pipeline.closed_loop.verdict.outcome_file import load_outcome
from pipeline.stimulus.kinds import stimulus_columns
from schemas import dataset, imaging, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.matching import UnitMatch, source_of
from schemas.closed_loop.planning import PlanTask
from schemas.closed_loop.presentation import Presentation
from schemas.closed_loop.stacks import (
    CombinedMatch,  # noqa: F401  in a foreign key
    asks_for_stack,
    matched_pairs,
    without_pairs,
)
from schemas.closed_loop.verdict import Outcome, OutcomeMethod, fetch_scored, own_images
from schemas.store import local_file, number

PERCENT = (50, 60, 70, 80, 90, 95, 99)
MEASURES = ("fraction", "fraction_significant", "median_difference", "wilcoxon_p")


def _day(scan: Mapping[str, Any], units: list[int]) -> dict[str, Any]:
    """Return reference, columns and images of the responses of some units of a scan."""
    rows = dataset.Responses.Unit & scan & [{"unit_id": unit} for unit in units]
    columns = {row["unit_id"]: row["response_column"] for row in rows.to_dicts()}
    return {
        "responses": (dataset.Responses & scan).fetch1("responses"),
        "columns": columns,
        "images": (stimulus.Trial & scan).to_arrays("image_hash", order_by="trial_idx").tolist(),
    }


@schema
class CellMatchOracleCorrelation(dj.Computed):
    definition = """
    # Do matched cells like the same natural images on both days (a check, never the criterion)
    -> UnitMatch
    -> dataset.Responses
    ---
    n_images        : int32          # natural images that both days repeat; 0: no check possible
    median_correlation=null : float64  # (1) of matched pairs
    median_rank=null : float64       # (1) share of other units a match correlates better than
    fraction_first=null : float64    # (1) share of matches that correlate best of all
    median_gain=null : float64       # (1) response of this day over the source's, same images
    correlation     : <npy@main>     # float64 (source unit, matched unit), by pair
    """

    class Unit(dj.Part):
        definition = """
        # One matched pair
        -> master
        unit_id     : int32          # unit of the presentation
        ---
        pair        : int32          # row and column of the matrix
        source_unit_id : int32       # unit of the source scan
        pair_correlation=null : float64  # (1) Pearson, over images
        pair_rank=null : float64     # (1) share of other matched units it exceeds
        gain=null   : float64        # (1) response of this day over the source's, same images
        """

    class Joined(dj.Part):
        definition = """
        # Match through stacks that the pairs are of; no row where they are field to field
        -> master
        -> CombinedMatch
        """

    @property
    def key_source(self):
        """Matches with responses whose pairs are there: one that asks for a stack waits for it."""
        return UnitMatch.proj() * dataset.Responses.proj() - without_pairs()

    def make_fetch(self, key):
        pairs = matched_pairs(key)
        source = {**source_of(key), "response_hash": key["response_hash"]}
        days = [
            _day(source, [row["source_unit_id"] for row in pairs]),
            _day(key, [row["unit_id"] for row in pairs]),
        ]
        joined = (asks_for_stack() & key).keys()
        return [(row["source_unit_id"], row["unit_id"]) for row in pairs], days, joined

    def make_compute(self, key, pairs, days, joined):
        pairs = [p for p in pairs if all(u in d["columns"] for u, d in zip(p, days, strict=True))]
        values = [
            day["responses"].load()[:, [day["columns"][pair[side]] for pair in pairs]]
            for side, day in enumerate(days)
        ]
        given = values[0], days[0]["images"], values[1], days[1]["images"]
        gain = day_gain(*given)
        try:
            found = confirm(*given)
        except ValueError:  # too few images are repeated on both days: say so, with n_images 0
            return pairs, joined, None, gain
        return pairs, joined, found, gain

    def make_insert(self, key, pairs, joined, found, gain):
        known = gain[np.isfinite(gain)]
        row = {"n_images": 0, "correlation": np.zeros((0, 0))}
        if found is not None:
            row = {
                "n_images": found.n_images,
                "correlation": found.matrix,
                **{
                    name: number(getattr(found, name))
                    for name in ("median_correlation", "median_rank", "fraction_first")
                },
            }
        self.insert1(
            {**key, **row, "median_gain": number(np.median(known)) if len(known) else None}
        )
        self.Joined.insert({**key, **match} for match in joined)
        self.Unit.insert(
            {
                **key,
                "unit_id": target,
                "pair": place,
                "source_unit_id": source,
                "pair_correlation": None if found is None else number(found.correlation[place]),
                "pair_rank": None if found is None else number(found.rank[place]),
                "gain": number(gain[place]),
            }
            for place, (source, target) in enumerate(pairs)
        )


@schema
class Prediction(dj.Computed):
    definition = """
    # Predicted against measured responses, without and with the gain of the same day
    -> Outcome
    -> CellMatchOracleCorrelation
    """

    class Kind(dj.Part):
        definition = """
        # One kind of image, over neurons
        -> master
        kind        : varchar(64)    # mei rf gabor mni fni ...
        variant     : int16          # which of a unit's images of this kind, from 0
        ---
        n_neurons   : int32          # neurons
        correlation=null : float64   # (1) Spearman of predicted and measured
        correlation_normalized=null : float64  # (1) the same, measured over the day's gain
        ratio=null  : float64        # (1) median of measured over predicted
        ratio_normalized=null : float64  # (1) the same, measured over the day's gain
        """

    def make(self, key):
        rows = (Outcome.Unit & key).to_dicts(order_by=["unit_index", "kind", "variant"])
        found = (CellMatchOracleCorrelation.Unit & key).to_dicts()
        gain = {row["unit_id"]: row["gain"] for row in found}
        self.insert1(key)
        for kind, variant in sorted({(row["kind"], row["variant"]) for row in rows}):
            mine = [row for row in rows if (row["kind"], row["variant"]) == (kind, variant)]
            columns = [
                [row["predicted"] for row in mine],
                [row["raw_mean"] for row in mine],
                [gain.get(row["matched_unit_id"]) for row in mine],
            ]
            result = predicted_measured(*(np.array(c, float) for c in columns))
            numbers = {
                "correlation": result.correlation,
                "correlation_normalized": result.correlation_normalized,
                "ratio": result.ratio,
                "ratio_normalized": result.ratio_normalized,
            }
            values = {name: number(value) for name, value in numbers.items()}
            named = {"kind": kind, "variant": variant}
            self.Kind.insert1({**key, **named, "n_neurons": result.n, **values})


@schema
class Sensitivity(dj.Computed):
    definition = """
    # The verdict on better and better matched neurons
    -> Outcome
    """

    class Threshold(dj.Part):
        definition = """
        # One control, neurons matched at least this surely
        -> master
        kind        : varchar(64)    # rf gabor mni fni ...
        variant     : int16          # which of a unit's images of this kind, from 0
        percent     : int16          # least probability of the match, in hundredths
        ---
        n_neurons   : int32          # neurons scored
        fraction=null : float64      # (1) share that responds more to the reference
        fraction_significant=null : float64  # (1) share significantly above
        median_difference=null : float64  # median over neurons (unit of the method)
        wilcoxon_p=null : float64    # (1) two-sided
        """

    @classmethod
    def at(cls, key: Mapping[str, Any], thresholds: Sequence[float]) -> pd.DataFrame:
        """Score an outcome again with the pairs of at least a probability.

        Parameters
        ----------
        key : mapping
            Names one `Outcome`.
        thresholds : sequence of float
            From the task's `min_match_probability` on: less likely pairs were not scored.

        Returns
        -------
        DataFrame
            `kind, threshold, n` and the measures of `Threshold`.
        """
        neurons = (Outcome.Neuron & key).to_dicts(order_by="neuron")
        sure = {row["unit_id"]: row["probability"] for row in matched_pairs(key)}
        score = np.array([sure.get(row["matched_unit_id"], 0.0) for row in neurons])
        with local_file((Outcome & key).fetch1("verdict")) as path:
            return sensitivity(load_outcome(path), score, list(thresholds))

    def make(self, key):
        table = self.at(key, [p / 100 for p in PERCENT])
        self.insert1(key)
        self.Threshold.insert(
            {
                **key,
                **stimulus_columns(row["kind"]),
                "percent": round(100 * row["threshold"]),
                "n_neurons": int(row["n"]),
                **{name: number(row[name]) for name in MEASURES},
            }
            for row in table.to_dict("records")
        )


def _kind_rows(key: Mapping[str, Any], populations: Any) -> list[dict[str, Any]]:
    return [
        {
            **key,
            **stimulus_columns(row["kind"]),
            "n_neurons": int(row["n"]),
            **{name: number(row[name]) for name in MEASURES},
        }
        for row in populations.to_dict("records")
    ]


KIND = """
        -> master
        kind        : varchar(64)    # rf gabor mni fni ...
        variant     : int16          # which of a unit's images of this kind, from 0
        ---
        n_neurons   : int32          # neurons scored
        fraction=null : float64      # (1) share that responds more to the reference
        fraction_significant=null : float64  # (1) share significantly above
        median_difference=null : float64  # median over neurons (unit of the method)
        wilcoxon_p=null : float64    # (1) two-sided
"""


@schema
class ArousalControl(dj.Computed):
    definition = """
    # The verdict on trials with the same distribution of arousal for every kind
    -> Outcome
    -> dataset.TrialBehavior
    ---
    arousal         : varchar(16)    # pupil, running, or none if neither was recorded
    n_trials        : int32          # trials kept
    """

    class Kind(dj.Part):
        definition = "# One control" + KIND

    def make_fetch(self, key):
        state = (dataset.TrialBehavior & key).fetch1("behavior")
        return fetch_scored(key), state, *OutcomeMethod.fetch_method(key)

    def make_compute(self, key, scored, state, method, params):
        responses, own = own_images(scored)
        rows, images = np.array(scored["rows"]), np.array(scored["images"])
        behavior = state.load()[rows]
        kind_of = {image: kind for kind, names in own.items() for image in names if image}
        kinds = np.array([kind_of.get(image, "") for image in images])
        named = kinds != ""
        recorded = [
            (column, name)
            for column, name in ((0, "pupil"), (2, "running"))
            if np.isfinite(behavior[named, column]).mean() > 0.5
        ]
        if not recorded:
            return "none", 0, None
        column, name = recorded[0]
        keep = ~named  # natural images stay: the sd is over the scan
        keep[named] = arousal_matched(kinds[named], behavior[named, column])
        result = outcome_methods[method](responses[keep], images[keep], own, **params)
        return name, int(keep[named].sum()), result

    def make_insert(self, key, name, n_trials, result):
        self.insert1({**key, "arousal": name, "n_trials": n_trials})
        if result is not None:
            self.Kind.insert(_kind_rows(key, result.populations))


@schema
class PooledOutcome(dj.Computed):
    definition = """
    # The verdict over this and all earlier presentations of the same loop, by summed moments
    -> Outcome
    ---
    n_days          : int32          # presentations pooled
    days            : json           # their session and scan_idx
    """

    class Kind(dj.Part):
        definition = "# One control" + KIND

    def make_fetch(self, key):
        loop = (PlanTask & {"plan_id": (Presentation & key).fetch1("plan_id")}).fetch1()
        plans = PlanTask & {
            name: loop[name] for name in ("animal_id", "session", "scan_idx", "recipe_hash")
        }
        shown = Presentation & [{"plan_id": row["plan_id"]} for row in plans.to_dicts()]
        same = (
            Outcome.proj()
            & shown
            & {name: key[name] for name in ("match_hash", "response_hash", "outcome_hash")}
        )
        here = (key["session"], key["scan_idx"])
        earlier = [
            row
            for row in same.keys(order_by=["session", "scan_idx"])
            if (row["session"], row["scan_idx"]) <= here
        ]
        days = [(row["session"], row["scan_idx"]) for row in earlier]
        return [fetch_scored(row) for row in earlier], days, *OutcomeMethod.fetch_method(key)

    def make_compute(self, key, scored, days, method, params):
        neurons = sorted({unit for day in scored for unit in day["neurons"]})
        kinds = list(dict.fromkeys(kind for day in scored for kind in day["kinds"]))
        own = {kind: [None] * len(neurons) for kind in kinds}
        values = []
        for day in scored:
            responses, images = own_images(day)
            whole = np.full((len(responses), len(neurons)), np.nan)
            for column, unit in enumerate(day["neurons"]):
                place = neurons.index(unit)
                whole[:, place] = responses[:, column]
                for kind, names in images.items():
                    own[kind][place] = own[kind][place] or names[column]
            values.append(whole)
        shown = [np.array(day["images"]) for day in scored]
        return days, outcome_methods[method](values, shown, own, **params)

    def make_insert(self, key, days, result):
        self.insert1({**key, "n_days": len(days), "days": days})
        self.Kind.insert(_kind_rows(key, result.populations))


@schema
class Drift(dj.Computed):
    definition = """
    # Slow drift of a field within its session
    -> imaging.Motion
    ---
    drift_y_um_h=null : float64      # down (um/h), robust line through medians of 30 s
    drift_x_um_h=null : float64      # right (um/h); null if not measured, or in a minute
    drift_range_um=null : float64    # farthest from the median place (um)
    n_chunks        : int32          # medians; 0 if the motion was not measured
    """

    def make_fetch(self, key):
        field = (imaging.ScanInfo.Field & key).fetch1("um_per_px_y", "um_per_px_x")
        return (
            (imaging.Motion & key).fetch1("shifts", "motion_rms_px"),
            tuple(1.0 if size is None else size for size in field),
            (imaging.ScanInfo & key).fetch1("fps"),
        )

    def make_compute(self, key, motion, um_per_px, fps):
        shifts, rms = motion
        if rms is None:
            return ({"y_um_h": None, "x_um_h": None, "range_um": None, "n_chunks": 0},)
        y, x = shifts.load()
        return (asdict(slow_drift(y * um_per_px[0], x * um_per_px[1], fps)),)

    def make_insert(self, key, found):
        self.insert1(
            {
                **key,
                "drift_y_um_h": number(found["y_um_h"]),
                "drift_x_um_h": number(found["x_um_h"]),
                "drift_range_um": number(found["range_um"]),
                "n_chunks": found["n_chunks"],
            }
        )
