"""Analyses of target units in the model, one row of the method an analysis.

`Analysis.frame("stability", key)` is a table with a row a unit, `Analysis.arrays(...)` what goes
with it, and `plotting.ANALYSIS_FIGURES["stability"](frame, arrays)` its figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np
from numpy.typing import NDArray

from schemas import dataset, model
from schemas.mei.binding import schema
from schemas.mei.controls import natural_pool
from schemas.mei.display import Display
from schemas.mei.kinds import as_stimuli
from schemas.mei.masks import Mask, MaskTask  # noqa: F401  in a foreign key
from schemas.mei.synthesis import MEI, MEITask, batch_units
from schemas.method import Methods, MethodTable
from schemas.store import number

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.mei.analysis import AnalysisContext

UNIT_KEY = ["dataset_hash", "unit_index"]


@schema
class AnalysisMethod(MethodTable, dj.Lookup):
    definition = """
    # Analysis of target units with its complete parameters
    analysis_hash   : char(16)       # hash of method and parameters
    ---
    analysis_method : varchar(64)    # name in pipeline.mei.analysis
    analysis_params : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.mei.analysis", "analyses")


@schema
class AnalysisTask(dj.Manual):
    definition = """
    # Decision to analyze the units of a batch
    -> MaskTask
    -> AnalysisMethod
    """


@schema
class Analysis(dj.Computed):
    definition = """
    # One analysis of a batch of targets
    -> AnalysisTask
    -> Mask
    ---
    analysis        : varchar(64)    # name in pipeline.mei.analysis
    """

    class Unit(dj.Part):
        definition = """
        # One number of one unit
        -> master
        -> MEI.Unit
        quantity    : varchar(32)    # what it is, as the analysis documents it
        ---
        value=null  : float64        # (the quantity's unit) null if it is not known
        """

    class Array(dj.Part):
        definition = """
        # Curves, maps and images that go with the numbers
        -> master
        array_name  : varchar(32)    # as the analysis documents it
        ---
        per_unit    : bool           # the first axis is the units, in the order of target_rank
        values      : <npy@main>     # float32 in the analysis's unit, axes as it documents
        """

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = batch_units(key)
        task = {
            "units": units,
            "mei": (MEI & key).fetch1("images"),
            "starts": (MEI & key).fetch1("all_images"),
            "masks": (Mask & key).fetch1("masks"),
            "file": dataset.Dataset.fetch_file({"dataset_hash": data_hash}),
            "norm": (MEITask & key).fetch1("norm"),
            "seed": (MEITask & key).fetch1("seed"),
            "cnn": model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]}),
            "ln": model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ln_ensemble_hash"]}),
        }
        return data_hash, task, *AnalysisMethod.fetch_method(key)

    def make_compute(self, key, data_hash, task, name, params):
        from pipeline.mei.analysis import analyses

        if not task["units"]:  # fewer targets than this batch begins at
            return name, {}, {}, [], data_hash
        found = analyses[name](_context(task), **params)
        arrays = {label: np.asarray(array, np.float32) for label, array in found.arrays.items()}
        columns = {label: [number(v) for v in values] for label, values in found.units.items()}
        return name, columns, arrays, task["units"], data_hash

    def make_insert(self, key, name, columns, arrays, units, data_hash):
        self.insert1({**key, "analysis": name})
        self.Unit.insert(
            {**key, "dataset_hash": data_hash, "unit_index": u, "quantity": label, "value": value}
            for label, values in columns.items()
            for u, value in zip(units, values, strict=True)
        )
        self.Array.insert(
            {**key, "array_name": label, "values": array, "per_unit": array.shape[0] == len(units)}
            for label, array in arrays.items()
        )

    @classmethod
    def frame(cls, analysis: str, key: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return the numbers of an analysis: a row a unit, a column a quantity.

        Parameters
        ----------
        analysis : str
        key : mapping or restriction, optional
            Which batches; all of them stand one below the other, best target first.

        Returns
        -------
        DataFrame
            By `dataset_hash`, `unit_index` and `unit`, the neuron's name.
        """
        import pandas as pd

        chosen = cls & (key or {}) & {"analysis": analysis}
        parts, names = [], {}
        for master in chosen.keys(order_by="KEY"):
            rows = pd.DataFrame((cls.Unit & master).to_dicts())
            if rows.empty:  # a batch beyond the last target
                continue
            table = rows.pivot(index=UNIT_KEY, columns="quantity", values="value")
            data_hash = rows["dataset_hash"].iloc[0]
            if data_hash not in names:
                names[data_hash] = dataset.unit_names({"dataset_hash": data_hash})["unit"]
            order = [(data_hash, unit) for unit in batch_units(master)[1]]
            table = table.reindex(pd.MultiIndex.from_tuples(order, names=UNIT_KEY))
            parts.append(table.set_index(names[data_hash].loc[order], append=True))
        return pd.concat(parts) if parts else pd.DataFrame()

    @classmethod
    def arrays(cls, analysis: str, key: Mapping[str, Any] | None = None) -> dict[str, NDArray]:
        """Return the arrays of an analysis, rows as in `frame`."""
        chosen = cls & (key or {}) & {"analysis": analysis}
        parts: dict[str, list[NDArray]] = {}
        shared: dict[str, NDArray] = {}
        for master in chosen.keys(order_by="KEY"):
            for row in (cls.Array & master).to_dicts(order_by="array_name"):
                if row["per_unit"]:
                    parts.setdefault(row["array_name"], []).append(row["values"].load())
                else:
                    shared[row["array_name"]] = row["values"].load()
        return {name: np.concatenate(arrays) for name, arrays in parts.items()} | shared


def predicted_activation(key: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the predicted response to every 8-bit image: a row a unit, a column a stimulus.

    A column has the name of its kind, and of its variant from the second on: `gabor`, `gabor:1`.
    """
    import pandas as pd

    rows = as_stimuli(pd.DataFrame((Display.Image & (key or {})).to_dicts()))
    return rows.pivot_table(index=UNIT_KEY, columns="kind", values="predicted", aggfunc="mean")


def _context(task: Mapping[str, Any]) -> AnalysisContext:
    from pipeline.mei.analysis import AnalysisContext
    from pipeline.mei.controls import ControlContext
    from pipeline.stimulus.images import to_model

    ensemble = model.load_ensemble(task["cnn"])
    units, shape = np.array(task["units"]), ensemble.input_shape
    data = dataset.load_dataset(task["file"])
    stimuli = ControlContext(
        cnn=ensemble.frozen(),
        ln=model.load_ensemble(task["ln"]).frozen(),
        units=units,
        mei_images=task["mei"].load(),
        mei_masks=task["masks"].load(),
        image_mean=ensemble.image_mean,
        image_sd=ensemble.image_sd,
        natural=natural_pool(task["file"], [], shape),
        norm=task["norm"],
        seed=task["seed"],
    )
    repeats = data.repeats("test")
    images, responses = np.empty((0, *shape)), np.empty((0, len(units)))
    if repeats:  # without any there is nothing measured to compare with
        shown = [int(data.image_index[trials[0]]) for _, trials in repeats]
        images = to_model(data.images[shown], shape)
        mean = [np.nanmean(data.responses[trials][:, units], axis=0) for _, trials in repeats]
        responses = np.array(mean)
    return AnalysisContext(stimuli, task["starts"].load(), images, responses, ensemble)
