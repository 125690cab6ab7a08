"""Take a loop out of the database: what only it asked for, with all that was computed from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

import schemas
from pipeline.errors import DataError
from schemas import closed_loop, mei, model
from workers.archive.closure import Closure
from workers.database import server
from workers.database.collect import STORE, list_files, pipeline_databases
from workers.database.datajoint_internals import ForeignKeys, master_of, store, stored_columns
from workers.insight.ancestry import is_decision, is_task, table_names
from workers.queue import jobs, order, refresh, tables
from workers.queue.lease import Ledger
from workers.queue.stopped import needs
from workers.queue.urgency import Urgency
from workers.steering.loops import KEY, expect_loop

Rows = dict[str, dict[tuple, dict[str, Any]]]  # keys of rows by full table name


def remove(loop: Mapping[str, Any], *, delete: bool = False) -> dict[str, Any]:
    """List what a loop alone asked for and all that was made of it, and delete it if told to.

    Tasks that another loop, or a task put in by hand, needs stay with their results. So do the
    recordings, the recipe, the decisions about cells, and images that were planned.

    Parameters
    ----------
    loop : mapping
        Key of `closed_loop.Loop`.
    delete : bool
        False changes nothing.

    Returns
    -------
    dict
        `tables`, the number of rows by readable name; `rows`, in all; `files` and `bytes` of the
        store; `jobs`, those that go; `deleted`.

    Raises
    ------
    DataError
        If there is no such loop.
    """
    key = expect_loop(loop)
    ledger = Ledger(dj.conn())
    plan = order.load("schemas", schemas.active_prefix())
    going = _own_tasks(key)
    connection = closed_loop.Loop().connection
    closure = Closure(connection, pipeline_databases(connection))
    for node, rows in going.items():
        closure.descend(node, list(rows.values()))
    _expect_own(closure, key)
    names = table_names(plan, connection)
    counted = {names[node]: len(closure.keys[node]) for node in closure.ordered()}
    files = _files(closure)
    waiting = _jobs(ledger, key)
    found = {
        "tables": counted,
        "rows": sum(counted.values()),
        "files": len(files),
        "bytes": sum(files.values()),
        "jobs": len(waiting),
        "deleted": delete,
    }
    if delete:
        for job, token, state in waiting:
            if state == "running":
                jobs.stop_one(ledger, job, token)
        with server.transaction(connection):
            for node in reversed(closure.ordered()):
                if node in going:
                    _delete(connection, node, going[node].values())
        for path in files:
            store(STORE).remove(path)
        refresh.refresh(ledger, plan, Urgency(plan))
    return found


def _delete(connection: dj.Connection, node: str, rows: Iterable[Mapping[str, Any]]) -> None:
    keys = list(rows)
    for start in range(0, len(keys), 500):
        query = dj.FreeTable(connection, node) & keys[start : start + 500]
        query.delete(prompt=False, part_integrity="cascade")


def _own_tasks(key: Mapping[str, Any]) -> Rows:
    """Return the loop's row and those of its tasks that nothing else asks for."""
    connection = closed_loop.Loop().connection
    graph = ForeignKeys(connection, fresh=True)
    node_of_loop = closed_loop.Loop.full_table_name
    plans = (closed_loop.PlanTask & key).keys()
    found = _upward(connection, graph, closed_loop.PlanTask.full_table_name, plans)
    _add_ensembles(found)
    found.setdefault(node_of_loop, {})[tuple(key.values())] = dict(key)
    free = {node: dict(rows) for node, rows in found.items()}
    # what goes with the loop, whoever refers to it: its plans, their presentations and matches
    tied = Closure(connection, pipeline_databases(connection))
    tied.descend(node_of_loop, [dict(key)])
    dependent = {t.full_table_name for t in (mei.AnalysisTask, closed_loop.OtherDayTask)}
    while True:
        kept = 0
        for node in list(free):
            if node == node_of_loop or node == closed_loop.PlanTask.full_table_name:
                continue
            for child, columns in graph.children(node):
                asks = master_of(child) or child
                if asks == node or not is_decision(asks) or asks in dependent or not free[node]:
                    continue
                kept += _keep(connection, free, node, child, columns, tied)
        if not kept:
            return {node: rows for node, rows in free.items() if rows}


def _upward(
    connection: dj.Connection, graph: ForeignKeys, node: str, keys: list[dict[str, Any]]
) -> Rows:
    """Return the tasks that some tasks follow from, through their parts, with themselves."""
    found: Rows = {}
    todo = [(node, keys)]
    while todo:
        node, restrictions = todo.pop()
        if not restrictions:
            continue
        table = dj.FreeTable(connection, node)
        columns = {ours for _, pairs in graph.parents(node) for ours in pairs}
        rows = (table.proj(*(columns - set(table.primary_key))) & restrictions).to_dicts()
        known = found.setdefault(node, {})
        fresh = []
        for row in rows:
            place = tuple(row[name] for name in table.primary_key)
            if place not in known:
                known[place] = {name: row[name] for name in table.primary_key}
                fresh.append(row)
        if not fresh:
            continue
        for parent, pairs in graph.parents(node):
            if is_task(parent):
                todo.append((parent, _renamed(fresh, {up: ours for ours, up in pairs.items()})))
        for child, pairs in graph.children(node):
            if master_of(child) == node:
                parts = dj.FreeTable(connection, child) & _renamed(fresh, pairs)
                _follow_parts(graph, child, parts, todo)
    return found


def _follow_parts(graph: ForeignKeys, child: str, parts: Any, todo: list) -> None:
    """Go from the parts of tasks to the tasks that they name."""
    for parent, pairs in graph.parents(child):
        if is_task(parent) and parent != master_of(child):
            rows = (dj.U(*pairs) & parts).to_dicts()
            todo.append((parent, _renamed(rows, {up: ours for ours, up in pairs.items()})))


def _renamed(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> list[dict]:
    """Return the different values of columns (`new: old`), without those with a null."""
    found = {}
    for row in rows:
        values = {new: row[old] for new, old in columns.items()}
        if None not in values.values():
            found[tuple(values.values())] = values
    return list(found.values())


def _add_ensembles(found: Rows) -> None:
    """Add the ensembles that are made of the loop's trainings alone: they are nobody's parents."""
    spec, training = model.EnsembleSpec.full_table_name, model.TrainingTask.full_table_name
    names = model.TrainingTask.primary_key
    own = {tuple(row[name] for name in names) for row in found.get(training, {}).values()}
    sets = sorted({row["dataset_hash"] for row in found.get(training, {}).values()})
    members = model.EnsembleSpec.Member & [{"dataset_hash": name} for name in sets]
    rows = members.to_dicts() if sets else []
    beyond = {r["ensemble_hash"] for r in rows if tuple(r[name] for name in names) not in own}
    for row in rows:
        if row["ensemble_hash"] not in beyond:
            key = {"ensemble_hash": row["ensemble_hash"]}
            found.setdefault(spec, {})[tuple(key.values())] = key


def _keep(
    connection: dj.Connection,
    free: Rows,
    node: str,
    child: str,
    columns: Mapping[str, str],
    tied: Closure,
) -> int:
    """Take out the rows of a table that a row which stays refers to; return how many."""
    master = master_of(child) or child
    primary = dj.FreeTable(connection, master).primary_key
    wanted = [{ours: row[up] for ours, up in columns.items()} for row in free[node].values()]
    query = dj.FreeTable(connection, child)
    more = (set(columns) | set(primary)) - set(query.primary_key)
    kept = 0
    for start in range(0, len(wanted), 500):
        for row in (query.proj(*more) & wanted[start : start + 500]).to_dicts():
            by = tuple(row[name] for name in primary)
            if by in free.get(master, {}) or by in tied.keys.get(master, {}):
                continue
            there = {up: row[ours] for ours, up in columns.items()}
            place = tuple(there[name] for name in dj.FreeTable(connection, node).primary_key)
            kept += free[node].pop(place, None) is not None
    return kept


def _expect_own(closure: Closure, key: Mapping[str, Any]) -> None:
    """Refuse to go on if rows of another loop were among those that go."""
    loops = closure.keys.get(closed_loop.Loop.full_table_name, {})
    plans = closure.keys.get(closed_loop.PlanTask.full_table_name, {})
    others = [row for row in loops.values() if any(row[name] != key[name] for name in KEY)]
    own = set((closed_loop.PlanTask & key).to_arrays("plan_id").tolist())
    if others or {row["plan_id"] for row in plans.values()} - own:
        raise DataError(
            "another loop would lose rows",
            field="loop",
            found=others or sorted(plans),
            expected=own,
        )


def _files(closure: Closure) -> dict[str, int]:
    """Return path and size (bytes) of the files in the store that the rows refer to."""
    paths = set()
    for node, rows in closure.keys.items():
        table = dj.FreeTable(closure.connection, node)
        for column, paths_of in stored_columns(table):
            keys = [dict(zip(table.primary_key, place, strict=True)) for place in rows]
            for start in range(0, len(keys), 500):
                query = table.proj(column) & keys[start : start + 500]
                for row in query.cursor(as_dict=True):
                    paths |= {path for path, kept in paths_of(row[column]) if kept in (None, STORE)}
    found = {}
    databases = {node.split(".")[0].strip('`"') for node in closure.keys if closure.keys[node]}
    for database in sorted(databases):
        for path, (size, _) in list_files(database):
            above = path.removesuffix(".manifest.json")
            while above and above not in paths:
                above = above.rpartition("/")[0]
            if above:
                found[path] = size
    return found


def _jobs(ledger: Ledger, key: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Return id, token and state of the jobs of a loop that no other loop of the animal needs."""
    others = (closed_loop.Loop.proj() & {"animal_id": key["animal_id"]}) - [dict(key)]
    own, theirs = needs(key), [needs(row) for row in others.to_dicts()]
    rows = ledger.rows(
        f"SELECT job_id, token, status, job_key FROM {tables.Job.full_table_name} ORDER BY job_id"
    )
    found = []
    for job, token, state, text in rows:
        wanted = json.loads(text)
        if own.holds(wanted) and not any(other.holds(wanted) for other in theirs):
            found.append((job, int(token), state))
    return found
