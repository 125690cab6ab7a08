"""The verdict: responses of the matched targets to their own images, compared."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from schemas import dataset, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.known_gain import compute_gain, fetch_gain_inputs, without_state
from schemas.closed_loop.matching import MatchTask, UnitMatch
from schemas.closed_loop.planning import Plan
from schemas.closed_loop.presentation import Audit, Presentation
from schemas.closed_loop.stacks import (
    CombinedMatch,  # noqa: F401  in a foreign key
    asks_for_stack,
    matched_pairs,
    without_pairs,
)
from schemas.method import Methods, MethodTable
from schemas.store import file_bytes, local_file, number


@schema
class OutcomeMethod(MethodTable, dj.Lookup):
    definition = """
    # Scoring of a presentation with its complete parameters
    outcome_hash    : char(16)       # hash of method and parameters
    ---
    outcome_method  : varchar(64)    # name in pipeline.closed_loop.verdict.outcome
    outcome_params  : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.closed_loop.verdict.outcome", "outcome_methods")


def fetch_scored(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a presentation is scored from: matched targets, usable trials, references."""
    from pipeline.stimulus.kinds import name_of, names_of

    plan = (Presentation & key).fetch1("plan_id")
    order = ["target_rank", "kind", "variant"]
    targets = (Plan.Target & {"plan_id": plan}).to_dicts(order_by=order)
    least = (MatchTask & key).fetch1("min_match_probability")
    pairs = matched_pairs(key, least)
    columns = {
        row["unit_id"]: row["response_column"] for row in (dataset.Responses.Unit & key).to_dicts()
    }
    partner = {row["source_unit_id"]: row["unit_id"] for row in pairs if row["unit_id"] in columns}
    data = {"dataset_hash": targets[0]["dataset_hash"]}
    labels = {r["unit_index"]: r["label"] for r in (dataset.Dataset.Unit & data).to_dicts()}
    neurons: dict[int, dict[str, Any]] = {}
    for target in targets:
        unit_id = partner.get(labels[target["unit_index"]])
        if unit_id is None:
            continue
        neuron = neurons.setdefault(
            target["unit_index"],
            {"unit_id": unit_id, "column": columns[unit_id], "images": {}, "predicted": {}},
        )
        neuron["images"][name_of(target)] = target["image_hash"]
        neuron["predicted"][name_of(target)] = target["predicted"]
    audit = (Audit.Trial & key & {"usable": True}).to_dicts(order_by="trial_idx")
    trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
    rows = {trial["trial_idx"]: row for row, trial in enumerate(trials)}
    if not neurons or not audit:
        raise DataError(
            "nothing can be scored",
            field="UnitMatch, Audit",
            found=f"{len(neurons)} targets, {len(audit)} trials",
        )
    own = [name for neuron in neurons.values() for name in neuron["images"].values()]
    method = OutcomeMethod.fetch_method(key)[0]
    return {
        "dataset_hash": data["dataset_hash"],
        "gain": fetch_gain_inputs(key, method, plan, data, own),
        "kinds": names_of(targets),
        "neurons": neurons,
        "rows": [rows[row["trial_idx"]] for row in audit],
        "images": [trials[rows[row["trial_idx"]]]["image_hash"] for row in audit],
        "responses": (dataset.Responses & key).fetch1("responses"),
    }


def own_images(scored: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, list[str | None]]]:
    """Return responses (trials, neurons) to score, and each neuron's own image of every kind."""
    neurons = scored["neurons"].values()
    columns = [neuron["column"] for neuron in neurons]
    responses = scored["responses"].load()[np.ix_(scored["rows"], columns)]
    own = {kind: [neuron["images"].get(kind) for neuron in neurons] for kind in scored["kinds"]}
    return responses, own


def known_gain(
    scored: Mapping[str, Any], own: Mapping[str, list[str | None]]
) -> dict[str, np.ndarray]:
    """Return the `gain` of an outcome method that takes one: trials x neurons, else nothing."""
    found = compute_gain(
        scored["gain"], scored["rows"], scored["images"], own, list(scored["neurons"])
    )
    return {} if found is None else {"gain": found}


class Read:
    """Mixin of the tables that spread out a part of the verdict that `Outcome` computed."""

    def make_fetch(self, key):
        """Return a reference to the verdict, and its neurons."""
        verdict = (Outcome & key).fetch1("verdict")
        units = (Outcome.Neuron & key).to_dicts(order_by="neuron")
        return verdict, [(row["dataset_hash"], row["unit_index"]) for row in units]

    def make_compute(self, key, verdict, units):
        """Read the verdict."""
        from pipeline.closed_loop.verdict.outcome_file import load_outcome

        with local_file(verdict) as path:
            return units, load_outcome(path)


@schema
class Outcome(dj.Computed):
    definition = """
    # Responses of the matched targets to their own images, usable trials only
    -> UnitMatch
    -> Audit
    -> dataset.Responses
    -> OutcomeMethod
    ---
    n_scored        : int32          # targets that were found again
    n_trials        : int32          # trials that count
    verdict         : <object@main>  # all of it, as `outcome_file.save_outcome` writes
    """

    class Neuron(dj.Part):
        definition = """
        # Target that was found again
        -> master
        neuron      : int32          # row in the verdict, from 0
        ---
        -> dataset.Dataset.Unit
        matched_unit_id : int32      # unit of the presentation
        """

    class Unit(dj.Part):
        definition = """
        # Mean response of one target to its image of one kind
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(64)    # mei rf gabor mni fni ...
        variant     : int16          # which of the unit's images of this kind, from 0
        ---
        -> stimulus.Image
        matched_unit_id : int32      # unit of the presentation
        n_repeats   : int32          # trials
        mean_response=null : float64  # mean (sd of the scan, or as the method says)
        sem_response=null : float64  # standard error (same unit)
        raw_mean=null : float64      # mean response (a.u.)
        raw_sem=null : float64       # standard error (a.u.)
        predicted   : float64        # predicted response to this image (a.u. of the source scan)
        """

    class Joined(dj.Part):
        definition = """
        # Match through stacks that the pairs are of; no row where they are field to field
        -> master
        -> CombinedMatch
        """

    @property
    def key_source(self):
        """Audited presentations whose pairs are there: one that asks for a stack waits for it.

        A method that takes gains waits for the animal's state on the trials.
        """
        parents = (UnitMatch, Audit, dataset.Responses, OutcomeMethod)
        every = functools.reduce(operator.mul, (p.proj() for p in parents))
        return every - without_pairs() - without_state(OutcomeMethod)

    def make_fetch(self, key):
        joined = (asks_for_stack() & key).keys()
        return fetch_scored(key), joined, *OutcomeMethod.fetch_method(key)

    def make_compute(self, key, scored, joined, method, params):
        from pipeline.closed_loop.verdict.outcome import outcome_methods

        responses, own = own_images(scored)
        images, gain = np.array(scored["images"]), known_gain(scored, own)
        result = outcome_methods[method](responses, images, own, **gain, **params)
        return scored, joined, list(scored["neurons"]), result

    def make_insert(self, key, scored, joined, units, result):
        from pipeline.closed_loop.verdict.outcome_file import save_outcome
        from pipeline.stimulus.kinds import stimulus_columns

        stored = file_bytes(lambda path: save_outcome(result, path), ".npz")
        counts = {"n_scored": len(units), "n_trials": len(scored["rows"])}
        self.insert1({**key, **counts, "verdict": stored})
        self.Joined.insert({**key, **match} for match in joined)
        data = {"dataset_hash": scored["dataset_hash"]}
        matched = [scored["neurons"][unit]["unit_id"] for unit in units]
        self.Neuron.insert(
            {**key, **data, "neuron": row, "unit_index": unit, "matched_unit_id": matched[row]}
            for row, unit in enumerate(units)
        )
        self.Unit.insert(
            {
                **key,
                **data,
                "unit_index": units[row["neuron"]],
                **stimulus_columns(row["kind"]),
                "image_hash": row["image"],
                "matched_unit_id": matched[row["neuron"]],
                "n_repeats": int(row["n"]),
                "mean_response": number(row["mean"]),
                "sem_response": number(row["sem"]),
                "raw_mean": number(row["raw_mean"]),
                "raw_sem": number(row["raw_sem"]),
                "predicted": scored["neurons"][units[row["neuron"]]]["predicted"][row["kind"]],
            }
            for row in result.responses.to_dict("records")
        )


@schema
class Confusion(Read, dj.Computed):
    definition = """
    # Responses of every matched target to every matched target's images
    -> Outcome
    ---
    unit_index_list : json           # unit_index of rows and columns
    """

    class Kind(dj.Part):
        definition = """
        # One kind of image
        -> master
        kind        : varchar(64)    # mei rf gabor mni fni ...
        variant     : int16          # which of a unit's images of this kind, from 0
        ---
        matrix      : <npy@main>     # float64 (image of, response of): normalized mean or NaN
        dominance=null : float64     # (1) share of images whose own neuron responds most
        mean_row_rank=null : float64  # (1) share of other neurons below the own; chance 0.5
        mean_column_rank=null : float64  # (1) share of others' images below the own; chance 0.5
        """

    def make_insert(self, key, units, result):
        from pipeline.stimulus.kinds import stimulus_columns

        self.insert1({**key, "unit_index_list": [unit for _, unit in units]})
        for kind, found in result.confusions.items():
            self.Kind.insert1(
                {
                    **key,
                    **stimulus_columns(kind),
                    "matrix": np.asarray(found.matrix, np.float64),
                    "dominance": number(found.dominance),
                    "mean_row_rank": number(found.mean_row_rank),
                    "mean_column_rank": number(found.mean_column_rank),
                }
            )


@schema
class Comparison(Read, dj.Computed):
    definition = """
    # MEI against every control, per neuron
    -> Outcome
    ---
    reference       : varchar(80)    # kind that the others are compared with; kind:variant from 1
    """

    class Unit(dj.Part):
        definition = """
        # One neuron, one control; the difference is reference minus control
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(64)    # rf gabor mni fni ...
        variant     : int16          # which of the unit's images of this kind, from 0
        ---
        difference=null : float64    # of mean responses (unit of the method)
        ratio=null  : float64        # (1) of mean responses
        t=null      : float64        # (1) Welch
        df=null     : float64        # (1) degrees of freedom
        p=null      : float64        # (1) two-sided
        p_adjusted=null : float64    # (1) Benjamini-Hochberg over neurons
        significant : bool           # either way; the sign of the difference says which
        scored      : bool           # enough trials of both
        """

    def make_insert(self, key, units, result):
        from pipeline.stimulus.kinds import stimulus_columns

        self.insert1({**key, "reference": result.kinds[0]})
        numbers = ("difference", "ratio", "t", "df", "p", "p_adjusted")
        self.Unit.insert(
            {
                **key,
                **dict(zip(("dataset_hash", "unit_index"), units[row["neuron"]], strict=True)),
                **stimulus_columns(row["kind"]),
                **{name: number(row[name]) for name in numbers},
                "significant": bool(row["significant"]),
                "scored": bool(row["scored"]),
            }
            for row in result.comparisons.to_dict("records")
        )


@schema
class Population(Read, dj.Computed):
    definition = """
    # MEI against every control, over the population
    -> Comparison
    """

    class Kind(dj.Part):
        definition = """
        # One control
        -> master
        kind        : varchar(64)    # rf gabor mni fni ...
        variant     : int16          # which of a unit's images of this kind, from 0
        ---
        n_neurons   : int32          # neurons scored
        fraction=null : float64      # (1) share that responds more to the reference
        fraction_low=null : float64  # (1) lower end of its interval
        fraction_high=null : float64  # (1) upper end of its interval
        fraction_significant=null : float64  # (1) share significantly above
        fraction_opposite=null : float64  # (1) share significantly below
        median_difference=null : float64  # median over neurons (unit of the method)
        difference_low=null : float64  # lower end of its interval (same unit)
        difference_high=null : float64  # upper end of its interval (same unit)
        median_ratio=null : float64  # (1) median ratio of mean responses
        wilcoxon_w=null : float64    # (1) signed-rank statistic
        wilcoxon_p=null : float64    # (1) two-sided
        bootstrap_p=null : float64   # (1) two-sided, hierarchical bootstrap
        """

    def make_insert(self, key, units, result):
        from pipeline.stimulus.kinds import stimulus_columns

        self.insert1(key)
        columns = [name for name in self.Kind.heading.secondary_attributes if name != "n_neurons"]
        self.Kind.insert(
            {
                **key,
                **stimulus_columns(row["kind"]),
                "n_neurons": int(row["n"]),
                **{name: number(row[name]) for name in columns},
            }
            for row in result.populations.to_dict("records")
        )
