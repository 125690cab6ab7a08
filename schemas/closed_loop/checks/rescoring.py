"""The verdict scored again: with surer matches, at equal arousal, over several days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np

from schemas import dataset
from schemas.closed_loop.binding import schema
from schemas.closed_loop.planning import PlanTask
from schemas.closed_loop.presentation import Presentation
from schemas.closed_loop.stacks import matched_pairs
from schemas.closed_loop.verdict import Outcome, OutcomeMethod, fetch_scored, known_gain, own_images
from schemas.store import local_file, number

if TYPE_CHECKING:
    import pandas as pd

PERCENT = (50, 60, 70, 80, 90, 95, 99)
MEASURES = ("fraction", "fraction_significant", "median_difference", "wilcoxon_p")


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
        from pipeline.closed_loop.verdict.outcome import sensitivity
        from pipeline.closed_loop.verdict.outcome_file import load_outcome

        neurons = (Outcome.Neuron & key).to_dicts(order_by="neuron")
        sure = {row["unit_id"]: row["probability"] for row in matched_pairs(key)}
        score = np.array([sure.get(row["matched_unit_id"], 0.0) for row in neurons])
        with local_file((Outcome & key).fetch1("verdict")) as path:
            return sensitivity(load_outcome(path), score, list(thresholds))

    def make(self, key):
        from pipeline.stimulus.kinds import stimulus_columns

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
    from pipeline.stimulus.kinds import stimulus_columns

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
        from pipeline.closed_loop.checks.arousal import arousal_matched
        from pipeline.closed_loop.verdict.outcome import outcome_methods

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
        gain = {what: values[keep] for what, values in known_gain(scored, own).items()}
        result = outcome_methods[method](responses[keep], images[keep], own, **gain, **params)
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
        from pipeline.closed_loop.verdict.outcome import outcome_methods, takes_gain

        neurons = sorted({unit for day in scored for unit in day["neurons"]})
        kinds = list(dict.fromkeys(kind for day in scored for kind in day["kinds"]))
        own = {kind: [None] * len(neurons) for kind in kinds}
        values, gains = [], []
        for day in scored:
            responses, images = own_images(day)
            known = known_gain(day, images).get("gain", np.ones(responses.shape))
            whole, gain = np.full((2, len(responses), len(neurons)), np.nan)
            for column, unit in enumerate(day["neurons"]):
                place = neurons.index(unit)
                whole[:, place], gain[:, place] = responses[:, column], known[:, column]
                for kind, names in images.items():
                    own[kind][place] = own[kind][place] or names[column]
            values.append(whole)
            gains.append(gain)
        shown = [np.array(day["images"]) for day in scored]
        given = {"gain": gains} if takes_gain(method) else {}
        return days, outcome_methods[method](values, shown, own, **given, **params)

    def make_insert(self, key, days, result):
        self.insert1({**key, "n_days": len(days), "days": days})
        self.Kind.insert(_kind_rows(key, result.populations))
