"""Compute rows again and compare them with what is stored; nothing is written."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from workers.compute import environment
from workers.compute.make import rerun
from workers.database.datajoint_internals import (
    caught_inserts,
    inside_populate,
    is_stored_file,
    store,
)
from workers.insight import ancestry
from workers.queue import tables
from workers.queue.claims import canonical
from workers.queue.lease import Ledger
from workers.queue.order import Task, TaskOrder

RTOL = 1e-5  # largest difference between devices, relative to the largest value of an array
INCIDENTAL = ("seconds", "device")  # columns about the run, not the result


def check(
    ledger: Ledger,
    plan: TaskOrder,
    n: int,
    *,
    each: bool = False,
    table: str | None = None,
    seed: int = 0,
    most_s: float = 600.0,
    rtol: float = RTOL,
    say: Callable[[dict[str, Any]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Compute random rows again and compare.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : TaskOrder
        The pipeline.
    n : int
        Number of rows.
    each : bool
        So many of each table (or all that it has), instead of so many in all.
    table : str, optional
        Only of this table.
    seed : int
        Names the choice.
    most_s : float
        Rows that took longer are left out (s).
    rtol : float
        Largest difference that counts as close, relative to the largest absolute value of an
        array (or of a number).
    say : callable
        Called with every row as soon as it is compared: all of them may take hours.

    Returns
    -------
    list of dict
        `table, key`; `verdict`: `equal` (bit by bit), `close` (within `rtol`), or `differs`;
        `difference`, the largest; `where`, the column of it; `same_device`, whether it was computed
        by the same packages on the same device (None if not recorded); `version`, of the code that
        computed it (None if no worker did); `seconds`.
    """
    found = []
    for task, key in _choose(ledger, plan, n, each, table, seed, most_s):
        found.append(_compare(ledger, task, key, rtol))
        say(found[-1])
    return found


def _choose(
    ledger: Ledger, plan: TaskOrder, n: int, each: bool, table: str | None, seed: int, most_s: float
) -> list[tuple[Task, dict[str, Any]]]:
    """Draw rows that exist and that workers computed in reasonable time, tables in turn."""
    if table is not None and table not in plan.tasks:
        raise LookupError(f"no computed table {table!r}; there are {', '.join(plan.tasks)}")
    where, args = ("AND table_name=%s", [table]) if table else ("", [])
    rows = ledger.rows(
        f"SELECT DISTINCT table_name, job_key FROM {tables.Attempt.full_table_name} "
        f"WHERE outcome='done' AND duration_s <= %s {where} ORDER BY table_name, job_key",
        [most_s, *args],
    )
    dice = random.Random(seed)
    by_table: dict[str, list[str]] = {}
    for name, text in rows:
        if name in plan.tasks:
            by_table.setdefault(name, []).append(text)
    for texts in by_table.values():
        dice.shuffle(texts)
    chosen: list[tuple[Task, dict[str, Any]]] = []
    names = list(by_table)
    dice.shuffle(names)
    if each:  # then every table's first n, and all of them
        by_table = {name: texts[-n:] for name, texts in by_table.items()}
        n *= len(names)
    while names and len(chosen) < n:
        for name in list(names):
            if not by_table[name]:
                names.remove(name)
                continue
            task, key = plan.tasks[name], json.loads(by_table[name].pop())
            if len(chosen) < n and ledger.persist(lambda task=task, key=key: len(task.table & key)):
                chosen.append((task, key))
    return chosen


def _compare(ledger: Ledger, task: Task, key: dict[str, Any], rtol: float) -> dict[str, Any]:
    started = time.monotonic()
    table = task.table()
    device_of = environment.device_of(task.queue)
    with inside_populate(table, key), caught_inserts() as caught, device_of:
        rerun(table, key)
        here = (environment.environment_hash(), environment.device_used())
    worst, where = 0.0, ""
    for target, rows in caught:
        for column, difference in _differences(target, rows):
            if difference > worst:
                worst, where = difference, column
    if task.table.full_table_name not in {target.full_table_name for target, _ in caught}:
        worst, where = float("inf"), "no row"
    worst, where = max((worst, where), _count_parts(task, key, caught))
    (made,) = ancestry.provenance(ledger, task.name, [key])
    recorded = made is not None and made["environment"] is not None
    return {
        "table": task.name,
        "key": key,
        "verdict": "equal" if worst == 0 else "close" if worst <= rtol else "differs",
        "difference": worst,
        "where": where,
        "same_device": (made["environment"], made["device"]) == here if recorded else None,
        "version": made and made["version"],
        "seconds": time.monotonic() - started,
    }


def _count_parts(task: Task, key: dict[str, Any], caught: list) -> tuple[float, str]:
    """Return an infinite difference if a part has another number of rows than before."""
    for part in task.table().parts(as_objects=True):
        again = sum(len(rows) for t, rows in caught if t.full_table_name == part.full_table_name)
        if again != len(part & key):
            return float("inf"), f"number of rows of {part.full_table_name}"
    return 0.0, ""


def _differences(target: Any, rows: list[dict]) -> Iterator[tuple[str, float]]:
    """Yield the difference of every column of rows computed again from those stored."""
    heading = target.heading
    if not rows:
        return
    keys = [{name: row[name] for name in heading.primary_key} for row in rows]
    old = {
        canonical({name: row[name] for name in heading.primary_key}): row
        for start in range(0, len(keys), 500)
        for row in (target & keys[start : start + 500]).to_dicts()
    }
    for key, row in zip(keys, rows, strict=True):
        before = old.get(canonical(key))
        if before is None:
            yield "a key", float("inf")
            continue
        for column in heading.secondary_attributes:
            if column in row and column not in INCIDENTAL:
                yield column, difference(before[column], row[column])


def difference(stored: Any, again: Any) -> float:
    """Return how far two values are apart: 0 if equal, infinite if of another kind or shape.

    Parameters
    ----------
    stored : any
        As fetched: a plain value, or a reference to an array or file in the store.
    again : any
        As given to an insert: a plain value, an array, or (suffix, bytes) of a file.

    Returns
    -------
    float
        Largest absolute difference over the largest absolute value.
    """
    if is_stored_file(stored):
        return _file_difference(_content(stored), again)
    if hasattr(stored, "load"):
        stored = stored.load()
    if stored is None or again is None:
        return 0.0 if stored is None and again is None else float("inf")
    if isinstance(stored, (dict, list, tuple)):
        return 0.0 if _json(stored) == _json(again) else _number_trees(stored, again)
    return _array_difference(np.asarray(stored), np.asarray(again))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda v: v.tolist())


def _number_trees(stored: Any, again: Any) -> float:
    """Compare nested lists and dicts of numbers by their numbers."""
    first, second = json.loads(_json(stored)), json.loads(_json(again))
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        kept = [name for name in first if name not in INCIDENTAL]
        return max((difference(first[name], second[name]) for name in kept), default=0.0)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return max(map(difference, first, second), default=0.0)
    return float("inf")


def _array_difference(first: np.ndarray, second: np.ndarray) -> float:
    if first.shape != second.shape:
        return float("inf")
    if not (np.issubdtype(first.dtype, np.number) and np.issubdtype(second.dtype, np.number)):
        return 0.0 if np.array_equal(first.astype(str), second.astype(str)) else float("inf")
    a, b = first.astype(np.float64), second.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    apart = np.abs(np.nan_to_num(a) - np.nan_to_num(b)).max(initial=0.0)
    return float(apart / np.abs(np.nan_to_num(a)).max(initial=0.0)) if apart else 0.0


def _content(reference: Any) -> bytes:
    return store(reference.store).get_buffer(reference.path)


def _file_difference(stored: bytes, again: tuple[str, bytes]) -> float:
    suffix, content = again
    if stored == content:
        return 0.0
    if suffix == ".npz":
        first, second = (
            dict(np.load(io.BytesIO(b), allow_pickle=False)) for b in (stored, content)
        )
    elif suffix == ".safetensors":
        from safetensors.numpy import load

        first, second = load(stored), load(content)
    else:
        return float("inf")
    if first.keys() != second.keys():
        return float("inf")
    return max((_array_difference(first[name], second[name]) for name in first), default=0.0)
