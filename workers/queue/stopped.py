"""Loops that a person has stopped: which jobs nobody else waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

STOPPED = "stopped"  # error_class of the jobs that were set aside when their loop was stopped
_SCAN = ("animal_id", "session", "scan_idx")


@dataclass(frozen=True)
class Needs:
    """What a loop is made of: the scans, and the hashes of all that was decided about it.

    Attributes
    ----------
    scans : frozenset of (animal_id, session, scan_idx)
        Day 1, and the recordings in which its plans were shown.
    values : dict of str to frozenset
        What the loop has in a column of keys, such as `ensemble_hash`.
    """

    scans: frozenset[tuple] = frozenset()
    values: Mapping[str, frozenset] = field(default_factory=dict)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Tell whether a job's key belongs to the loop."""
        scan = tuple(key.get(name) for name in _SCAN)
        if None not in scan and scan not in self.scans:
            return False
        known = [name for name in key if name in self.values]
        if None in scan and not known:
            return False
        return all(key[name] in self.values[name] for name in known)


@dataclass(frozen=True)
class Stopped:
    """Jobs that only stopped loops wait for: those of a stopped loop that no other one needs."""

    loops: tuple[Needs, ...] = ()
    others: tuple[Needs, ...] = ()

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Tell whether only stopped loops wait for a job's key."""
        return any(needs.holds(key) for needs in self.loops) and not any(
            needs.holds(key) for needs in self.others
        )


def stopped() -> Stopped:
    """Return what is stopped now; of all other loops, those of the same animals count."""
    from schemas import closed_loop

    rows = closed_loop.StoppedLoop.proj().to_dicts(order_by="KEY")
    if not rows:
        return Stopped()
    animals = [{"animal_id": animal} for animal in sorted({row["animal_id"] for row in rows})]
    others = (closed_loop.Loop.proj() & animals) - closed_loop.StoppedLoop.proj()
    return Stopped(
        tuple(needs(row) for row in rows),
        tuple(needs(row) for row in others.to_dicts(order_by="KEY")),
    )


def needs(loop: Mapping[str, Any]) -> Needs:
    """Return what a loop is made of, from the rows of its tasks.

    Parameters
    ----------
    loop : mapping
        Key of `closed_loop.Loop`.
    """
    from schemas import behavior, closed_loop, dataset, imaging, mei, model

    key = {name: loop[name] for name in closed_loop.Loop.primary_key}
    plans = (closed_loop.PlanTask & key).proj()
    displays = closed_loop.PlanTask.Display & plans
    rows = displays.to_dicts()
    days = (closed_loop.Presentation & plans).to_dicts()
    scans = {tuple(row[name] for name in _SCAN) for row in [key, *days]}
    shown = [dict(zip(_SCAN, scan, strict=True)) for scan in scans - {tuple(key[n] for n in _SCAN)}]
    makers = {row[name] for row in rows for name in ("ensemble_hash", "ln_ensemble_hash")}
    members = (model.EnsembleSpec.Member & _named("ensemble_hash", makers)).to_dicts()
    specs = {row["dataset_hash"] for row in members}
    found = [*rows, *days, *members, *_within(members, specs)]
    found += (mei.MEITask & displays.proj()).to_dicts()
    found += (closed_loop.OtherDayTask & displays.proj()).to_dicts()
    found += (dataset.DatasetSpec.Scan & _named("dataset_hash", specs)).to_dicts()
    if shown:
        for table in (
            imaging.ImagingTask,
            behavior.BehaviorTask,
            dataset.ResponseTask,
            dataset.TrialBehaviorTask,
            closed_loop.MatchTask,
        ):
            found += (table & shown).to_dicts()
    images = {row["imaging_hash"] for row in found if "imaging_hash" in row}
    found += (imaging.ImagingRecipe & _named("imaging_hash", images)).to_dicts()
    values: dict[str, set] = defaultdict(set)
    values["plan_id"] |= {row["plan_id"] for row in plans.to_dicts()}
    for row in found:
        for name, value in row.items():
            if name.endswith("_hash") and value is not None:
                values[name].add(value)
    return Needs(
        frozenset(scans), {name: frozenset(those) for name, those in values.items() if those}
    )


def _named(column: str, values: Iterable[str]) -> list[dict[str, str]]:
    return [{column: value} for value in sorted(values)] or [{column: ""}]


def _within(members: list[dict[str, Any]], specs: set[str]) -> list[dict[str, Any]]:
    """Return the rows of the ensembles that are made of some members alone, such as the CNNs."""
    from schemas import model

    own = {(row["dataset_hash"], row["model_hash"], row["seed"]) for row in members}
    every = (model.EnsembleSpec.Member & _named("dataset_hash", specs)).to_dicts()
    beyond = {
        row["ensemble_hash"]
        for row in every
        if (row["dataset_hash"], row["model_hash"], row["seed"]) not in own
    }
    return [row for row in every if row["ensemble_hash"] not in beyond]
