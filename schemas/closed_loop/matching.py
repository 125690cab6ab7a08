"""The same cells on another day."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np

from pipeline.closed_loop.names import THROUGH
from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import experiment, imaging
from schemas.closed_loop.binding import schema
from schemas.closed_loop.presentation import Presentation  # noqa: F401  in a foreign key
from schemas.method import Methods, MethodTable
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.closed_loop.matching import FieldView

log = logging.getLogger("inception.matching")
SOURCE = ", ".join(f"source_{name}='{name}'" for name in ("session", "scan_idx", "imaging_hash"))


@schema
class MatchMethod(MethodTable, dj.Lookup):
    definition = """
    # Matching of cells across days with its complete parameters
    match_hash      : char(16)       # hash of method and parameters
    ---
    match_method    : varchar(64)    # name in pipeline.closed_loop.matching
    match_params    : json           # every keyword parameter, defaults filled in
    match_through='field' : varchar(16)  # pairs of the verdict: field, stack or combined
    """
    registry = Methods("pipeline.closed_loop.matching", "match_methods")

    @classmethod
    def add(
        cls,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        through: str = "field",
    ) -> dict:
        """Insert a method unless it is there already, and return its key.

        Parameters
        ----------
        name, params
            See `MethodTable.add`.
        through : str
            Whose pairs the verdict reads: `field` (field to field), `stack` (through the
            structural stacks of the animal) or `combined` (what both agree on). It is part of the
            hash unless it is `field`.
        """
        if through not in THROUGH:
            raise ValueError(f"no match through {through!r}; there are {list(THROUGH)}")
        if through == "field":
            return super().add(name, params)
        name = name or cls.registry.default
        direct = cls.registry.hash(name, params)
        key = {"match_hash": cls.key_of(direct, {"match_through": through})}
        if not cls & key:
            full = cls.registry.complete(name, params)
            row = {"match_method": name, "match_params": full, "match_through": through}
            cls.insert1({**key, **row}, skip_duplicates=True)
        return key

    @classmethod
    def key_of(cls, found: str, row: Mapping[str, Any]) -> str:
        """Return the key of a matching whose pairs the verdict reads as `match_through` says."""
        through = row["match_through"]
        return (
            found if through == "field" else config_hash({"match_hash": found, "through": through})
        )


@schema
class MatchTask(dj.Manual):
    definition = f"""
    # Decision to find the cells of the source scan in a presentation
    -> Presentation
    -> imaging.ImagingTask
    -> MatchMethod
    ---
    -> imaging.ImagingTask.proj({SOURCE})
    min_match_probability=0.5 : float64  # (1) less likely pairs are not scored
    """


@schema
class UnitMatch(dj.Computed):
    definition = """
    # Cells of the source scan found again
    -> MatchTask
    ---
    n_pairs         : int32          # pairs found
    n_source        : int32          # units of the source scan
    n_target        : int32          # units of the presentation
    """

    class Field(dj.Part):
        definition = """
        # Registration of one field of the presentation
        -> master
        -> imaging.Segmentation
        -> imaging.SummaryImages
        ---
        source_field : int16         # field of the source scan that is the same place
        registration_score=null : float64  # (1) correlation of both days' images after registration
        same_field=null : float64    # (1) probability that both show one place
        transform   : json           # 2 x 3: (y, x, 1) of the source to (y, x) of this field (px)
        finding=null : varchar(512)  # why no cell of this field is found again
        """

    class Pair(dj.Part):
        definition = """
        # One cell in both scans
        -> master
        unit_id     : int32          # unit of the presentation
        ---
        -> imaging.Segmentation.Unit
        source_unit_id : int32       # unit of the source scan
        probability : float64        # (1) that they are one cell
        distance_um=null : float64   # between the centers after registration (um)
        ambiguity=null : float64     # (1) best rival's probability over this one's
        """

    @property
    def key_source(self):
        """Presentations with units and images in every field."""
        fields = MatchTask.proj() * imaging.ImagingRecipe * imaging.ScanInfo.Field.proj()
        segmented, imaged = imaging.Segmentation.proj(), imaging.SummaryImages.proj()
        waiting = [fields - segmented, fields - imaged]
        return (MatchTask & imaging.ScanInfo.proj()) - waiting

    def make_fetch(self, key):
        return views(source_of(key)), views(key), *MatchMethod.fetch_method(key)

    def make_compute(self, key, sources, targets, method, params):
        from pipeline.closed_loop.matching import match_methods

        match = match_methods[method]
        found = {}
        same_count = len(sources) == len(targets)
        for target in targets:
            for source in sources:
                if same_count and source["key"]["field"] != target["key"]["field"]:
                    continue  # the same protocol on both days: fields correspond by number
                result = match(field_view(source), field_view(target), **params)
                old = found.get(target["key"]["field"])
                if old is None or result.registration_score > old[0].registration_score:
                    found[target["key"]["field"]] = (result, source, target)
        fields, pairs = [], {}
        for result, source, target in found.values():
            if result.finding:
                place = f"{experiment.scan_name(key)} field {target['key']['field']}"
                log.warning("nothing-matches: %s: %s", place, result.finding)
            fields.append(
                {
                    **target["key"],
                    "source_field": source["key"]["field"],
                    "registration_score": number(result.registration_score),
                    "same_field": number(result.same_field),
                    "transform": np.asarray(result.transform, float).tolist(),
                    "finding": result.finding or None,
                }
            )
            for row, (a, b) in enumerate(result.pairs):
                pair = {
                    **target["key"],
                    "unit_id": target["units"][b],
                    "source_unit_id": source["units"][a],
                    "probability": float(result.probability[row]),
                    "distance_um": number(result.distance_um[row]),
                    "ambiguity": number(result.ambiguity[row]),
                }
                best = pairs.get(pair["source_unit_id"])  # two fields may show one place
                if best is None or pair["probability"] > best["probability"]:
                    pairs[pair["source_unit_id"]] = pair
        counts = [sum(len(view["units"]) for view in views) for views in (sources, targets)]
        return fields, list(pairs.values()), *counts

    def make_insert(self, key, fields, pairs, n_source, n_target):
        row = {"n_pairs": len(pairs), "n_source": n_source, "n_target": n_target}
        self.insert1({**key, **row})
        self.Field.insert({**key, **field} for field in fields)
        self.Pair.insert({**key, **pair} for pair in pairs)


def source_of(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return scan and imaging recipe that a match starts from."""
    task = (MatchTask & key).fetch1()
    names = ("session", "scan_idx", "imaging_hash")
    return {"animal_id": task["animal_id"], **{name: task[f"source_{name}"] for name in names}}


def views(key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return references to the images and masks of every field of a scan and recipe."""
    recipe = imaging.ImagingRecipe & key
    views = []
    for segmentation in (imaging.Segmentation & key & recipe).keys(order_by="field"):
        mean, correlation = (imaging.SummaryImages & segmentation).fetch1(
            "mean_image", "correlation_image"
        )
        size = (imaging.ScanInfo.Field & segmentation).fetch1("um_per_px_y", "um_per_px_x")
        units = (imaging.Segmentation.Unit & segmentation).to_arrays("unit_id", order_by="unit_id")
        views.append(
            {
                "key": segmentation,
                "mean": mean,
                "correlation": correlation,
                "masks": imaging.Segmentation.fetch_masks(segmentation),
                "um_per_px": (1.0, 1.0) if None in size else size,
                "units": units.tolist(),
            }
        )
    if not views:
        raise DataError(
            "scan has no segmented field",
            field="MatchTask",
            remedy="register the scan's ImagingTask",
        )
    return views


def field_view(view: Mapping[str, Any]) -> FieldView:
    """Load images and masks of one of `views`."""
    from pipeline.closed_loop.matching import FieldView

    return FieldView(
        mean_image=view["mean"].load(),
        correlation_image=view["correlation"].load(),
        masks=imaging.load_masks(view["masks"])[0],
        um_per_px=tuple(view["um_per_px"]),
    )
