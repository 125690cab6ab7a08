"""Images synthesized for target units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas import dataset, model  # noqa: F401  in a foreign key
from schemas.mei.binding import schema
from schemas.mei.reuse import Made, joined, made_before
from schemas.mei.targets import Targets, TargetTask  # noqa: F401  in a foreign key
from schemas.method import Methods, MethodTable
from schemas.pictures import ShowsPictures, rows_of
from schemas.store import number


@schema
class AscentMethod(MethodTable, dj.Lookup):
    definition = """
    # Image synthesis with its complete parameters
    ascent_hash     : char(16)       # hash of method and parameters
    ---
    ascent_method   : varchar(64)    # name in pipeline.mei.ascent_methods
    ascent_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.mei", "ascent_methods")


@schema
class MEITask(dj.Manual):
    definition = """
    # Decision to synthesize the MEIs of some targets
    -> TargetTask
    -> AscentMethod
    batch           : int16          # number of the batch, from 0
    ---
    first_rank      : int32          # rank of the first target of the batch
    last_rank       : int32          # rank of the last target of the batch, if there are so many
    starts          : int16          # independent starts of every image
    seed            : int32          # names all random numbers
    norm=null       : float64        # (1) L2 norm of z-scored pixels; null: the method's own
    """


class AscentInputs(NamedTuple):
    """What the MEIs of a batch are made of."""

    data_hash: str
    units: list[int]  # unit_index
    weights: dict[str, Any]  # of EnsembleSpec.fetch_weights
    starts: int
    seed: int
    norm: float | None
    method: str
    params: dict[str, Any]
    made: dict[int, Made]  # units whose image exists, see `made_before`


RESULTS = ("activation", "converged", "restarted", "member_sd")
AXES = {"images": 0, "all_activations": 0, "all_images": 0, "trace": 1}  # that counts the units


@schema
class MEI(dj.Computed):
    definition = """
    # Most exciting inputs of a batch of targets; arrays in the order of target_rank
    -> MEITask
    -> Targets
    ---
    images          : <npy@main>     # float32 (units, h, w): the best start's image, in gray levels
    all_activations : <npy@main>     # float32 (units, starts): predicted responses (a.u.)
    all_images      : <npy@main>     # float32 (units, starts, h, w): from every start
    trace           : <npy@main>     # float32 (points, units, starts): objective during the ascent
    n_units         : int32          # targets in this batch; 0 if there were fewer targets
    """

    class Unit(ShowsPictures, dj.Part):
        definition = """
        # MEI of one unit
        -> master
        -> dataset.Dataset.Unit
        ---
        image_row   : int32          # row of the arrays
        activation  : float64        # predicted response to the MEI at mean behavior (a.u.)
        converged   : bool           # the last steps changed little
        restarted   : int32          # fresh starts because the unit was silent at first
        member_sd=null : float64     # sd over the ensemble's members of the response to it (a.u.)
        """

        def pictures(self, most):
            """Return the best image of the first units."""
            found = []
            for row in rows_of(self, most):
                images = (MEI & {k: row[k] for k in MEI.primary_key}).fetch1("images")
                image = images.load(mmap_mode="r")[row["image_row"]]
                found.append((f"output {row['unit_index']}: {row['activation']:.3g}", image))
            return found

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = batch_units(key)
        weights = model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]})
        settings = (MEITask & key).fetch1("starts", "seed", "norm")
        method = AscentMethod.fetch_method(key)
        made = made_before(self, key, same_images(key, units), tuple(AXES))
        return (AscentInputs(data_hash, units, weights, *settings, *method, made),)

    def make_compute(self, key, given):
        wanted = [unit for unit in given.units if unit not in given.made]
        if not given.units:  # fewer targets than this batch begins at
            ensemble, starts = model.load_ensemble(given.weights), given.starts
            empty = np.zeros((0, *ensemble.input_shape), np.float32)
            none = np.zeros((0, starts), np.float32)
            every = np.zeros((0, starts, *ensemble.input_shape), np.float32)
            return empty, none, every, np.zeros((0, 0, starts)), [], given.data_hash
        arrays, rows = self._ascend(given, wanted) if wanted else ({}, {})
        arrays = joined(given.units, given.made, arrays, AXES)
        for unit, made in given.made.items():
            rows[unit] = {name: made.row[name] for name in RESULTS}
        listed = [
            {"unit_index": unit, "image_row": row, **rows[unit]}
            for row, unit in enumerate(given.units)
        ]
        return *(arrays[name] for name in AXES), listed, given.data_hash

    @staticmethod
    def _ascend(given, units):
        from pipeline.mei import synthesize

        ensemble = model.load_ensemble(given.weights)
        result = synthesize(
            ensemble.frozen(),
            np.array(units),
            shape=(1, *ensemble.input_shape),
            mean=ensemble.image_mean,
            sd=ensemble.image_sd,
            norm=given.norm,
            method=given.method,
            starts=given.starts,
            seed=given.seed,
            params=given.params,
        )
        rows = {
            unit: {
                "activation": float(result.activations[row]),
                "converged": bool(result.converged[row]),
                "restarted": int(result.restarted[row]),
                "member_sd": number(result.member_sd[row]),
            }
            for row, unit in enumerate(units)
        }
        arrays = {
            "images": result.images[:, 0],
            "all_activations": result.all_activations,
            "all_images": result.all_images[:, :, 0],
            "trace": result.trace,
        }
        return arrays, rows

    def make_insert(self, key, images, activations, every, trace, rows, data_hash):
        self.insert1(
            {
                **key,
                "images": np.asarray(images, np.float32),
                "all_activations": np.asarray(activations, np.float32),
                "all_images": np.asarray(every, np.float32),
                "trace": np.asarray(trace, np.float32),
                "n_units": len(rows),
            }
        )
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)


def same_images(key: Mapping[str, Any], units: Sequence[int]) -> Any:
    """Return the rows of `MEI.Unit` of some units that were made as a task asks."""
    task = (MEITask & key).fetch1()
    names = ("ensemble_hash", "ascent_hash")
    like = MEITask & {name: task[name] for name in names}
    settings = ("starts", "seed", "norm")
    same = [
        {name: row[name] for name in MEITask.primary_key}
        for row in like.to_dicts(order_by="KEY")
        if all(row[name] == task[name] for name in settings)
    ]
    return MEI.Unit & same & [{"unit_index": unit} for unit in units]


def batch_units(key: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Return data set and unit_index of the targets of one batch, best first."""
    first, last = (MEITask & key).fetch1("first_rank", "last_rank")
    kept = Targets.Unit & key & f"target_rank >= {first}" & f"target_rank <= {last}"
    rows = kept.to_dicts(order_by="target_rank")
    data_hash = (model.EnsembleSpec & {"ensemble_hash": key["ensemble_hash"]}).fetch1(
        "dataset_hash"
    )
    return data_hash, [row["unit_index"] for row in rows]
