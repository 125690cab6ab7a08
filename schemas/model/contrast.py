"""Is one ensemble better than another on the same units: CNN and LN, with and without a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np

from schemas.model.binding import schema
from schemas.model.ensembles import EnsembleSpec
from schemas.model.evaluation import Evaluation

COMPARED = (
    "validation",
    "validation_frozen",
    "single_trial",
    "single_trial_frozen",
    "to_average",
    "feve",
    "cc_norm",
)
"""Columns of `Evaluation.Unit` in which two ensembles are set against each other."""


@schema
class ContrastTask(dj.Manual):
    definition = """
    # Decision to compare two ensembles of one data set unit by unit
    -> EnsembleSpec.proj(first_hash="ensemble_hash")
    -> EnsembleSpec.proj(second_hash="ensemble_hash")
    """

    @classmethod
    def add(cls, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict:
        """Insert the comparison of two ensembles unless it is there, and return its key.

        Raises
        ------
        ValueError
            If they are of different data sets.
        """
        hashes = [key["ensemble_hash"] for key in (first, second)]
        sets = [(EnsembleSpec & {"ensemble_hash": h}).fetch1("dataset_hash") for h in hashes]
        if sets[0] != sets[1]:
            raise ValueError(f"ensembles of different data sets: {sets[0]} and {sets[1]}")
        key = {"first_hash": hashes[0], "second_hash": hashes[1]}
        cls.insert1(key, skip_duplicates=True)
        return key


@schema
class Contrast(dj.Computed):
    definition = """
    # The first ensemble less the second, paired over units
    -> ContrastTask
    """

    class Measure(dj.Part):
        definition = """
        # One measure
        -> master
        measure     : varchar(64)    # column of Evaluation.Unit
        ---
        difference  : float64        # (1) mean over units of first less second
        low         : float64        # (1) lower bound of its 95 percent interval over units
        high        : float64        # (1) upper bound
        share_better : float64       # (1) units where the first is higher; ties count half
        p           : float64        # (1) Wilcoxon's signed rank, two-sided
        n_units     : int32          # units with both
        """

    @property
    def key_source(self):
        """Pairs that are both evaluated."""
        first = Evaluation.proj(first_hash="ensemble_hash")
        return ContrastTask & first & Evaluation.proj(second_hash="ensemble_hash")

    def make(self, key):
        from pipeline.model import compare

        first, second = (
            (Evaluation.Unit & {"ensemble_hash": key[name]}).to_dicts(order_by="unit_index")
            for name in ("first_hash", "second_hash")
        )
        self.insert1(key)
        for measure in COMPARED:
            columns = [
                np.array([unit[measure] for unit in units], np.float64) for units in (first, second)
            ]
            if np.isfinite(columns[0] - columns[1]).any():
                found = compare(*columns)
                self.Measure.insert1({**key, "measure": measure, **vars(found)})
