"""What people decide about single cells as targets, before any rule chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import dataset, imaging
from schemas.clock import now
from schemas.mei.binding import schema

WHY, WHO = 200, 64  # longest text of a reason, of a name


@schema
class TargetDecision(dj.Manual):
    definition = """
    # What a person decided about a cell as a target; of several decisions the last one counts
    -> imaging.Segmentation.Unit
    decision_idx : int32            # counts the decisions about a cell, from 0
    ---
    included=null : bool            # true: always a target; false: never; null: the rule decides
    why         : varchar(200)      # reason
    who         : varchar(64)       # who decided
    decided_at  : datetime(3)       # (UTC, server time)
    """

    @classmethod
    def add(cls, unit: Mapping[str, Any], included: bool | None, *, why: str, who: str) -> dict:
        """Insert a decision about a cell, and return its key.

        Parameters
        ----------
        unit : mapping
            Key of `imaging.Segmentation.Unit`.
        included : bool or None
            Always a target, never one, or None: the rule decides again.
        why, who : str
            Reason and name, at most 200 and 64 characters.

        Raises
        ------
        DataError
            If there is no such cell, or reason or name is empty or too long.
        DuplicateError
            If somebody else decided about the cell at the same moment: try again.
        """
        key = {name: unit[name] for name in imaging.Segmentation.Unit.primary_key}
        if not imaging.Segmentation.Unit & key:
            raise DataError("no such unit", field="unit", found=key["unit_id"])
        texts = {"why": _text("why", why, WHY), "who": _text("who", who, WHO)}
        numbers = (cls & key).to_arrays("decision_idx")
        row = {**key, "decision_idx": int(max(numbers, default=-1)) + 1}
        moment = now(cls().connection)
        cls.insert1({**row, "included": included, **texts, "decided_at": moment})
        return row

    @classmethod
    def newest(cls, units: Any = True) -> list[dict[str, Any]]:
        """Return the decisions that count: the last one about each cell, without those withdrawn.

        Parameters
        ----------
        units : restriction
            Of `imaging.Segmentation.Unit`; default all.
        """
        every = cls & (imaging.Segmentation.Unit & units).proj()
        last = {}
        for row in every.to_dicts(
            order_by=(*imaging.Segmentation.Unit.primary_key, "decision_idx")
        ):
            last[tuple(row[name] for name in imaging.Segmentation.Unit.primary_key)] = row
        return [row for row in last.values() if row["included"] is not None]


def _text(name: str, text: str, most: int) -> str:
    text = " ".join(text.split())
    if not 0 < len(text) <= most:
        raise DataError(
            "a decision needs a reason and a name",
            field=name,
            found=f"{len(text)} characters",
            expected=f"1 to {most}",
        )
    return text


@schema
class DecisionSet(dj.Manual):
    definition = """
    # Decisions as they were when a loop was registered: later ones do not change its targets
    decision_set    : char(16)       # hash of the cells, what was decided, why and by whom
    ---
    n_included      : int32          # cells that are always targets
    n_excluded      : int32          # cells that are never targets
    """

    class Member(dj.Part):
        definition = """
        # One decision
        -> master
        -> TargetDecision
        """

    @staticmethod
    def hash(decisions: Iterable[Mapping[str, Any]]) -> str | None:
        """Return the hash of decisions; None if there is none."""
        names = (*imaging.Segmentation.Unit.primary_key, "why", "who")
        content = [
            {**{name: row[name] for name in names}, "included": bool(row["included"])}
            for row in decisions
        ]
        return config_hash(content) if content else None

    @classmethod
    def add(cls, decisions: Iterable[Mapping[str, Any]]) -> str | None:
        """Insert a set unless it is there, and return its hash; None if there is no decision.

        Parameters
        ----------
        decisions : iterable of dict
            Rows of `TargetDecision.newest`.
        """
        rows = list(decisions)
        if not rows:
            return None
        key = {"decision_set": cls.hash(rows)}
        if not cls & key:
            included = sum(bool(row["included"]) for row in rows)
            cls.insert1({**key, "n_included": included, "n_excluded": len(rows) - included})
            members = [{name: row[name] for name in TargetDecision.primary_key} for row in rows]
            cls.Member.insert({**key, **member} for member in members)
        return key["decision_set"]


def decisions_on(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the decisions that count about the cells of a data set, whether it is computed or not.

    Parameters
    ----------
    spec : mapping
        `dataset_hash`. A prepared data set has no cells that could be decided about.
    """
    recipes = dataset.DatasetSpec.Scan * imaging.ImagingRecipe & {
        "dataset_hash": spec["dataset_hash"]
    }
    steps = ("raster_hash", "motion_hash", "segmentation_hash")
    names = ("animal_id", "session", "scan_idx", *steps)
    members = [{name: row[name] for name in names} for row in recipes.to_dicts()]
    return TargetDecision.newest(members) if members else []


def decided_units(data_hash: str, sets: Any) -> list[dict[str, Any]]:
    """Return the units of a data set that a set of decisions is about, in their order.

    Parameters
    ----------
    data_hash : str
        Of a data set that is computed.
    sets : restriction
        Of `DecisionSet`.

    Returns
    -------
    list of dict
        `unit_index`, `included`, `why` and `who`.

    Raises
    ------
    DataError
        If a cell is to be a target, and the data set does not hold it.
    """
    decided = (TargetDecision & (DecisionSet.Member & sets)).to_dicts(order_by="KEY")
    if not decided:
        return []
    cells = dataset.Dataset.Unit * dataset.Responses.Unit & {"dataset_hash": data_hash}
    names = imaging.Segmentation.Unit.primary_key
    index = {tuple(row[name] for name in names): row["unit_index"] for row in cells.to_dicts()}
    found, absent = [], []
    for row in decided:
        cell = tuple(row[name] for name in names)
        if cell in index:
            chosen = {name: row[name] for name in ("why", "who")}
            entry = {"unit_index": index[cell], "included": bool(row["included"]), **chosen}
            found.append(entry)
        elif row["included"]:
            absent.append(row["unit_id"])
    if absent:
        raise DataError(
            "units are to be targets by hand, and the data set does not hold them",
            field="TargetDecision",
            found=", ".join(map(str, absent)),
            expected="units that pass the limits of dataset.ResponseTask",
            remedy="decide otherwise (inception targets) and plan again, or lower the limits",
        )
    return sorted(found, key=lambda row: row["unit_index"])
