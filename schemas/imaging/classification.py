"""Soma or not: labels that people give, classifiers trained from them, and their verdicts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import experiment  # noqa: F401  named in a definition
from schemas.imaging.binding import schema
from schemas.imaging.scan import ScanInfo
from schemas.imaging.segmentation import Segmentation, load_masks
from schemas.imaging.summary import SummaryImages
from schemas.method import Methods, MethodTable


@schema
class MaskLabel(dj.Manual):
    definition = """
    # What a person says a mask is
    -> Segmentation.Unit
    labeler         : varchar(32)    # who says so
    ---
    is_soma         : bool           # true: a cell body; false: anything else
    """


@schema
class LabelSet(dj.Manual):
    definition = """
    # Labels as they were when somebody asked for a classifier: later ones do not change it
    label_set       : char(16)       # hash of its members
    ---
    n_soma          : int32          # masks labeled as cell bodies
    n_other         : int32          # masks labeled as anything else
    """

    class Label(dj.Part):
        definition = """
        # One mask
        -> master
        -> Segmentation.Unit
        ---
        is_soma     : bool           # majority of its labels; ties are left out
        """

    @classmethod
    def add(cls, restriction: Any = True) -> dict[str, str]:
        """Insert the labels there are, and return their key.

        Parameters
        ----------
        restriction : any DataJoint restriction
            Of `MaskLabel`, for example a labeler or an animal.

        Raises
        ------
        ValueError
            If there are no such labels.
        """
        votes: dict[tuple, list[bool]] = defaultdict(list)
        names = Segmentation.Unit.primary_key
        for row in (MaskLabel & restriction).to_dicts(order_by="KEY"):
            votes[tuple(row[name] for name in names)].append(bool(row["is_soma"]))
        members = [
            {**dict(zip(names, unit, strict=True)), "is_soma": 2 * sum(said) > len(said)}
            for unit, said in sorted(votes.items())
            if 2 * sum(said) != len(said)
        ]
        if not members:
            raise ValueError("no mask is labeled; insert rows into imaging.MaskLabel first")
        key = {"label_set": config_hash(members)}
        if cls & key:
            return key
        somata = sum(member["is_soma"] for member in members)
        with cls.connection.transaction:
            cls.insert1({**key, "n_soma": somata, "n_other": len(members) - somata})
            cls.Label.insert({**key, **member} for member in members)
        return key


@schema
class ClassifierMethod(MethodTable, dj.Lookup):
    definition = """
    # Training of a mask classifier with its complete parameters
    classifier_hash : char(16)       # hash of method and parameters
    ---
    classifier_method : varchar(64)  # name in pipeline.imaging.segmentation.classifier
    classifier_params : json         # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.segmentation.classifier", "mask_classifiers")


def _fetch_segmentation(key: dict[str, Any]) -> dict[str, Any]:
    """Return what `_features` needs of a segmented field (references and numbers)."""
    key = {name: key[name] for name in Segmentation.primary_key}
    mean, correlation = (SummaryImages & key).fetch1("mean_image", "correlation_image")
    size = (ScanInfo.Field & key).fetch1("um_per_px_y", "um_per_px_x")
    where = f"{key['animal_id']}/{key['session']}/{key['scan_idx']} field {key['field']}"
    packed = Segmentation.fetch_masks(key)
    return {
        "where": where,
        "packed": packed,
        "mean": mean,
        "correlation": correlation,
        "um_per_px": size,
        "units": Segmentation.fetch_units(key),
    }


def _features(field: dict[str, Any], diameter_um: float) -> np.ndarray:
    from pipeline.imaging.segmentation.classifier import mask_features

    if None in field["um_per_px"]:
        raise DataError(
            "size of a pixel is unknown, so that a mask has no size",
            field=field["where"],
            remedy="give imaging.um_per_px in recording.json",
        )
    masks, weights = load_masks(field["packed"])
    diameter_px = diameter_um / float(np.mean(field["um_per_px"]))
    images = field["mean"].load(), field["correlation"].load()
    return mask_features(masks, weights, *images, diameter_px=diameter_px)


@schema
class MaskClassifier(dj.Computed):
    definition = """
    # A classifier trained from labels
    -> LabelSet
    -> ClassifierMethod
    ---
    classifier      : json           # center, scale, weight, bias, features, diameter_um
    accuracy        : float64        # (1) cross-validated share of right answers at p = 0.5
    auc             : float64        # (1) cross-validated area under the ROC curve
    """

    def make_fetch(self, key):
        labels: dict[tuple, dict[int, bool]] = defaultdict(dict)
        names = Segmentation.primary_key
        for row in (LabelSet.Label & key).to_dicts(order_by="KEY"):
            place = tuple(row[name] for name in names)
            labels[place][row["unit_id"]] = bool(row["is_soma"])
        fields = [
            (_fetch_segmentation(dict(zip(names, place, strict=True))), labels[place])
            for place in sorted(labels)
        ]
        return fields, *ClassifierMethod.fetch_method(key)

    def make_compute(self, key, fields, method, params):
        from pipeline.imaging.segmentation.classifier import mask_classifiers

        rows, known = [], []
        for field, labels in fields:
            features = _features(field, params["diameter_um"])
            for unit, values in zip(field["units"], features, strict=True):
                if unit in labels:
                    rows.append(values)
                    known.append(labels[unit])
        return (mask_classifiers[method](np.array(rows), np.array(known), **params).to_json(),)

    def make_insert(self, key, trained):
        row = {name: trained[name] for name in ("accuracy", "auc")}
        self.insert1({**key, "classifier": trained, **row})


@schema
class MaskClassificationTask(dj.Manual):
    definition = """
    # Decision to classify the masks of a scan
    -> experiment.Scan
    -> MaskClassifier
    """


@schema
class MaskClassification(dj.Computed):
    definition = """
    # Masks of a field by a trained classifier
    -> Segmentation
    -> SummaryImages
    -> MaskClassifier
    """

    class Unit(dj.Part):
        definition = """
        # One mask
        -> master
        -> Segmentation.Unit
        ---
        soma_probability : float64   # (1) that it is a cell body
        """

    @property
    def key_source(self):
        """Segmented fields of the scans asked for."""
        return (Segmentation * SummaryImages * MaskClassifier) & MaskClassificationTask

    def make_fetch(self, key):
        return _fetch_segmentation(key), (MaskClassifier & key).fetch1("classifier")

    def make_compute(self, key, field, trained):
        from pipeline.imaging.segmentation.classifier import MaskClassifier as Trained

        classifier = Trained.from_json(trained)
        probability = classifier.probability(_features(field, classifier.diameter_um))
        return field["units"], probability

    def make_insert(self, key, units, probability):
        self.insert1(key)
        self.Unit.insert(
            {**key, "unit_id": unit, "soma_probability": float(p)}
            for unit, p in zip(units, probability, strict=True)
        )
