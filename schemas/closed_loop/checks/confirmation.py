"""Do matched cells respond as on the day of the source, and as the model predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np

from schemas import dataset, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.matching import UnitMatch, source_of
from schemas.closed_loop.stacks import (
    CombinedMatch,  # noqa: F401  in a foreign key
    asks_for_stack,
    matched_pairs,
    without_pairs,
)
from schemas.closed_loop.verdict import Outcome
from schemas.store import number


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
        from pipeline.closed_loop.checks.confirmation import confirm, day_gain

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
        from pipeline.closed_loop.checks.confirmation import predicted_measured

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
