"""How reliable every unit is across repeated images."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas import stimulus
from schemas.dataset.binding import schema
from schemas.dataset.responses import Responses
from schemas.method import Methods, MethodTable
from schemas.store import number


@schema
class ReliabilityMethod(MethodTable, dj.Lookup):
    definition = """
    # Reliability measure with its complete parameters
    reliability_hash : char(16)      # hash of method and parameters
    ---
    reliability_method : varchar(64)  # name in pipeline.dataset.reliability
    reliability_params : json        # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.dataset", "reliability_methods")


class ReliabilityInputs(NamedTuple):
    """What the reliability of the units of a scan is measured on."""

    responses: Any  # reference, (trials, units)
    images: list[str]  # image_hash of every trial
    units: list[int]  # unit_id of every column
    method: str
    params: dict[str, Any]


@schema
class Reliability(dj.Computed):
    definition = """
    # Reliability of every unit of a scan across repeated images
    -> Responses
    -> ReliabilityMethod
    ---
    median_reliability=null : float64  # (1) median over units
    """

    class Unit(dj.Part):
        definition = """
        # Reliability of one unit
        -> master
        -> Responses.Unit
        ---
        reliability=null : float64   # (1) null if the unit never varies
        """

    @property
    def key_source(self):
        """Responses of scans that repeat images."""
        shown = dj.U("animal_id", "session", "scan_idx", "image_hash").aggr(
            stimulus.Trial, n_shown="count(*)"
        )
        return (Responses * ReliabilityMethod) & (shown & "n_shown > 1")

    def make_fetch(self, key):
        trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
        units = (Responses.Unit & key).to_arrays("unit_id", order_by="response_column").tolist()
        given = ReliabilityInputs(
            (Responses & key).fetch1("responses"),
            [trial["image_hash"] for trial in trials],
            units,
            *ReliabilityMethod.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.dataset import reliability_methods

        values, images = given.responses.load(), np.array(given.images)
        known = np.isfinite(values).all(axis=1)
        measure = reliability_methods[given.method]
        return given.units, measure(values[known], images[known], **given.params)

    def make_insert(self, key, units, values):
        known = values[np.isfinite(values)]
        self.insert1(
            {**key, "median_reliability": number(np.median(known)) if len(known) else None}
        )
        rows = zip(units, values, strict=True)
        self.Unit.insert({**key, "unit_id": u, "reliability": number(v)} for u, v in rows)
