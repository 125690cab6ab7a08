"""The MEIs of one day against those of a model of another day's natural images (Figure S1c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np

from schemas import dataset, mei, model
from schemas.closed_loop.binding import schema
from schemas.closed_loop.matching import MatchMethod, field_view, views
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.closed_loop.checks.stability import DayStability

SCAN = ("animal_id", "session", "scan_idx")
OTHER = "other_dataset_hash='dataset_hash', other_unit_index='unit_index'"


@schema
class OtherDayTask(dj.Manual):
    definition = """
    # Decision to compare the MEIs of a batch with those of the same cells in another day's model
    -> mei.MaskTask
    -> model.EnsembleSpec.proj(other_ensemble_hash='ensemble_hash')
    -> MatchMethod
    ---
    min_match_probability=0.5 : float64  # (1) less likely pairs are not compared
    """


@schema
class MEIDayStability(dj.Computed):
    definition = """
    # Are the MEIs of a cell the same, from models that were trained on different days
    -> OtherDayTask
    -> mei.Mask
    -> model.Evaluation.proj(other_ensemble_hash='ensemble_hash')
    ---
    n_pairs         : int32          # targets found on the other day
    median_correlation=null : float64  # (1) of both days' images inside of the mask
    median_others=null : float64     # (1) the same with the images of other cells: chance
    median_rank=null : float64       # (1) share of other cells' images that the own one exceeds
    median_transfer=null : float64   # (1) response to the other day's image over that to its own
    images          : <npy@main>     # float32 (pairs, 2, h, w): this and the other day's (gray)
    """

    class Unit(dj.Part):
        definition = f"""
        # One target that the other day has too
        -> master
        -> mei.Mask.Unit
        ---
        pair        : int32          # row of the images
        -> dataset.Dataset.Unit.proj({OTHER})
        match_probability : float64  # (1) that both are one cell
        image_correlation=null : float64  # (1) Pearson inside of the mask
        others_correlation=null : float64  # (1) mean of the same with other cells' images
        image_rank=null : float64    # (1) share of other cells' images that the own one exceeds
        transfer=null : float64      # (1) this day's model: other day's image over its own
        transfer_back=null : float64  # (1) other day's model: this day's image over its own
        """

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = mei.batch_units(key)
        other = {"ensemble_hash": key["other_ensemble_hash"]}
        other_hash = (model.EnsembleSpec & other).fetch1("dataset_hash")
        days = [self._day({"dataset_hash": name}) for name in (data_hash, other_hash)]
        task = {
            "units": units,
            "hashes": (data_hash, other_hash),
            "mei": (mei.MEI & key).fetch1("images"),
            "masks": (mei.Mask & key).fetch1("masks"),
            "settings": (mei.MEITask & key).fetch1("starts", "seed", "norm"),
            "ascent": mei.AscentMethod.fetch_method(key),
            "weights": [
                model.EnsembleSpec.fetch_weights({"ensemble_hash": name})
                for name in (key["ensemble_hash"], key["other_ensemble_hash"])
            ],
            "least": (OtherDayTask & key).fetch1("min_match_probability"),
        }
        return days, task, *MatchMethod.fetch_method(key)

    @staticmethod
    def _day(data: dict[str, str]) -> dict[str, Any]:
        """Return references to the fields of the scan of a data set, and its units' numbers."""
        rows = (dataset.Dataset.Unit & data).to_dicts(order_by="unit_index")
        member = (dataset.DatasetSpec.Scan & data).fetch1()
        scan = {name: member[name] for name in (*SCAN, "imaging_hash")}
        return {"fields": views(scan), "index": {row["label"]: row["unit_index"] for row in rows}}

    def make_compute(self, key, days, task, name, params):
        from pipeline.closed_loop.matching import match_methods

        pairs = self._pairs(days, task, match_methods[name], params)
        images, found = np.zeros((0, 2, *task["masks"].load().shape[1:]), np.float32), None
        if pairs:
            images, found = self._compare(task, pairs)
        return pairs, images, found, task["hashes"]

    @staticmethod
    def _pairs(days, task, match, params) -> list[tuple[int, int, int, float]]:
        """Return row of the batch, unit of both days and probability of every target found."""
        found = {}
        for target in days[1]["fields"]:
            for source in days[0]["fields"]:
                result = match(field_view(source), field_view(target), **params)
                for (a, b), p in zip(result.pairs, result.probability, strict=True):
                    unit = days[0]["index"].get(source["units"][a])
                    other = days[1]["index"].get(target["units"][b])
                    sure = p >= task["least"] and p > found.get(unit, (0, 0.0))[1]
                    if unit in task["units"] and other is not None and sure:
                        found[unit] = (other, float(p))
        return [(row, u, *found[u]) for row, u in enumerate(task["units"]) if u in found]

    @staticmethod
    def _compare(task, pairs) -> tuple[np.ndarray, DayStability]:
        from pipeline.closed_loop.checks.stability import day_stability
        from pipeline.mei import synthesize

        rows, units, others = np.array([pair[:3] for pair in pairs], int).T
        first, second = (model.load_ensemble(weights) for weights in task["weights"])
        starts, seed, norm = task["settings"]
        method, params = task["ascent"]
        made = synthesize(
            second.frozen(),
            others,
            shape=(1, *second.input_shape),
            mean=second.image_mean,
            sd=second.image_sd,
            norm=norm,
            method=method,
            starts=starts,
            seed=seed,
            params=params,
        )
        own, other = task["mei"].load()[rows], made.images[:, 0]
        place = np.arange(len(pairs))

        def answers(ensemble: Any, columns: np.ndarray) -> np.ndarray:
            shown = [ensemble.predict(images)[place, columns] for images in (own, other)]
            return np.stack(shown, axis=1).astype(float)

        found = day_stability(
            own, other, task["masks"].load()[rows], answers(first, units), answers(second, others)
        )
        return np.stack([own, other], axis=1).astype(np.float32), found

    def make_insert(self, key, pairs, images, found, hashes):
        def median(name: str) -> float | None:
            values = np.zeros(0) if found is None else getattr(found, name)
            known = values[np.isfinite(values)]
            return number(np.median(known)) if len(known) else None

        self.insert1(
            {
                **key,
                "n_pairs": len(pairs),
                "median_correlation": median("correlation"),
                "median_others": median("correlation_others"),
                "median_rank": median("rank"),
                "median_transfer": median("transfer"),
                "images": images,
            }
        )
        self.Unit.insert(
            {
                **key,
                "dataset_hash": hashes[0],
                "unit_index": unit,
                "pair": place,
                "other_dataset_hash": hashes[1],
                "other_unit_index": other,
                "match_probability": probability,
                "image_correlation": number(found.correlation[place]),
                "others_correlation": number(found.correlation_others[place]),
                "image_rank": number(found.rank[place]),
                "transfer": number(found.transfer[place]),
                "transfer_back": number(found.transfer_back[place]),
            }
            for place, (_, unit, other, probability) in enumerate(pairs)
        )
