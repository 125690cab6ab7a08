"""Where a result comes from: every row it depends on, with what computed it."""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

import datajoint as dj

from workers.database.datajoint_internals import (
    ForeignKeys,
    free_table,
    master_of,
    plain_columns,
)
from workers.queue import tables
from workers.queue.claims import canonical, job_id
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder

_MOST = 200  # rows of one table that are followed; more are counted


def table_names(plan: TaskOrder, connection: dj.Connection) -> dict[str, str]:
    """Return the readable name (`imaging.Motion`) of every table known to the connection.

    Parameters
    ----------
    plan : TaskOrder
        The active pipeline.
    connection : dj.Connection
        Its connection.

    Returns
    -------
    dict
        Full table name in the database to readable name, parents first.
    """
    computed = {task.table.full_table_name: task.name for task in plan}
    names = {}
    for node in ForeignKeys(connection).in_order():
        database, table = (part.strip('`"') for part in node.split("."))
        stage = database.removeprefix(f"{plan.prefix}_")
        words = table.lstrip("_#~").split("__")
        classes = ".".join("".join(w.capitalize() for w in word.split("_")) for word in words)
        names[node] = computed.get(node, f"{stage}.{_class_name(stage, classes)}")
    return names


def _class_name(stage: str, guess: str) -> str:
    """Return the class's own spelling (MEITask, not MeiTask) where its module is loaded."""
    place: Any = sys.modules.get(f"schemas.{stage}", object)
    path = []
    for word in guess.split("."):
        classes = [name for name, value in vars(place).items() if isinstance(value, type)]
        found = [name for name in classes if name.lower() == word.lower()]
        path.append(found[0] if found else word)
        place = getattr(place, path[-1], object)
    return ".".join(path)


def ancestry(
    ledger: Ledger, plan: TaskOrder, table: str, key: dict[str, Any]
) -> list[dict[str, Any]]:
    """Follow the foreign keys of a row up to the raw data.

    Three more ways lead up: the parts of a decision (a data set names its scans, an ensemble its
    members and a plan its stimuli in parts), what was computed by a decision on the way (a plan
    depends on the task of a display, and so on the display), and the parts of what was computed
    (responses on the activity of every field).

    Parameters
    ----------
    ledger : Ledger
        Job tables; its connection reads the pipeline.
    plan : TaskOrder
        The pipeline.
    table : str
        Readable name, such as `mei.MEI`.
    key : dict
        (Part of) the primary key; everything that matches is explained.

    Returns
    -------
    list of dict
        One for each table, the raw data first: `table`; `more`, the number of rows not listed;
        `rows` with `key`, `values` (plain columns), `computed` (see `provenance`; None for
        what was put in) and, where the row is of a neuron, `unit`, its name.

    Raises
    ------
    LookupError
        If there is no such table or no such row.
    """
    names = table_names(plan, ledger.connection)
    nodes = {name.lower(): node for node, name in names.items()}
    if table.lower() not in nodes:
        raise LookupError(f"no table {table!r}; name one like {next(iter(plan.tasks), 'a.B')}")
    known = free_table(ledger.connection, nodes[table.lower()]).heading.names
    for name in key:
        if name not in known:
            raise LookupError(f"{table} has no column {name!r}; it has {sorted(known)}")
    walk = Walk(ledger, nodes[table.lower()], key, results=True)
    if not walk.found:
        raise LookupError(f"{table} has no row {canonical(key)}")
    steps = []
    for node, name in names.items():
        if node in walk.found:
            rows = list(walk.found[node].values())
            made = provenance(ledger, name, [row["key"] for row in rows])
            for row, computed in zip(rows, made, strict=True):
                row["computed"] = computed if node in walk.computed else None
            steps.append({"table": name, "rows": rows, "more": walk.more.get(node, 0)})
    if plan.source == "schemas":
        _name_neurons([row for step in steps for row in step["rows"]])
    return steps


def _name_neurons(rows: list[dict[str, Any]]) -> None:
    """Set `unit` of the rows of one neuron to its name."""
    from schemas import dataset

    found = []
    for row in rows:
        columns = {**row["values"], **row["key"]}
        place = columns.get("dataset_hash"), columns.get("unit_index")
        if None not in place:
            found.append((row, place))
    if found:
        data = [{"dataset_hash": name} for name in sorted({place[0] for _, place in found})]
        names = dataset.unit_names(data)["unit"]
        for row, place in found:
            row["unit"] = names[place]


class Walk:
    """Collects rows, table by table, until no foreign key leads to a new one.

    Parameters
    ----------
    ledger : Ledger
        Its connection reads the pipeline.
    node : str
        Full name of the table to start from.
    key : dict
        (Part of) the primary key there.
    results : bool
        Also follow decisions to what was computed by them.
    foreign_keys : ForeignKeys, optional
        Those that the ledger's connection knows, which are none of a second one.
    """

    def __init__(
        self,
        ledger: Ledger,
        node: str,
        key: dict[str, Any],
        *,
        results: bool = False,
        foreign_keys: ForeignKeys | None = None,
    ) -> None:
        self._ledger, self._results = ledger, results
        self._foreign_keys = foreign_keys or ForeignKeys(ledger.connection)
        self.found: dict[str, dict[str, dict[str, Any]]] = {}
        self.more: dict[str, int] = {}
        self.computed: set[str] = set()
        self._open: deque = deque([(node, [key])])
        while self._open:
            self._visit(*self._open.popleft())

    def _visit(self, node: str, restrictions: list[dict[str, Any]]) -> None:
        table = free_table(self._ledger.connection, node)
        heading = table.heading
        plain = plain_columns(table)
        query = (table & restrictions).proj(*plain)
        rows = self._ledger.persist(
            lambda: query.to_dicts(order_by=heading.primary_key, limit=_MOST)
        )
        if len(rows) == _MOST:
            self.more[node] = self._ledger.persist(lambda: len(query)) - _MOST
        known = self.found.setdefault(node, {}) if rows else {}
        fresh = []
        for row in rows:
            key = {name: row[name] for name in heading.primary_key}
            text = canonical(key)
            if text not in known:
                values = {name: row[name] for name in plain if name not in key}
                known[text] = {"key": key, "values": values}
                fresh.append(row)
        if fresh:
            self._follow(node, fresh)

    def _follow(self, node: str, rows: list[dict[str, Any]]) -> None:
        for parent, columns in self._foreign_keys.parents(node):
            self._go(parent, columns, rows)
        if is_computed(node):
            self.computed.add(node)
            if self._results:
                self._through_parts(node, rows)
        elif is_decision(node):
            for child, columns in self._foreign_keys.children(node):
                part = master_of(child) == node
                result = self._results and is_task(node) and is_computed(child)
                if part or result:
                    self._descend(child, columns, rows)
        elif self._results and is_part_of_task(node):
            for child, columns in self._foreign_keys.children(node):
                if is_computed(child):
                    self._descend(child, columns, rows)

    def _descend(self, child: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
        back = {theirs: ours for ours, theirs in columns.items()}
        self._go(child, back, rows)

    def _through_parts(self, node: str, rows: list[dict[str, Any]]) -> None:
        """Go from the parts of computed rows to the computed rows that they hang on."""
        for child, own in self._foreign_keys.children(node):
            if master_of(child) != node:
                continue
            mine = [{ours: row[up] for ours, up in own.items()} for row in rows]
            for parent, pairs in self._foreign_keys.parents(child):
                target = master_of(parent) or parent
                if target == node or not is_computed(target):
                    continue
                wanted = set(free_table(self._ledger.connection, target).primary_key)
                columns = {ours: up for ours, up in pairs.items() if up in wanted}
                part = free_table(self._ledger.connection, child) & mine
                found = self._ledger.persist(
                    lambda part=part, columns=columns: (dj.U(*columns) & part).to_dicts()
                )
                self._go(target, columns, found)

    def _go(self, node: str, renamed: dict[str, str], rows: list[dict[str, Any]]) -> None:
        wanted = {}
        for row in rows:
            values = {up: row[ours] for ours, up in renamed.items()}
            if None not in values.values():
                wanted[canonical(values)] = values
        if wanted:
            self._open.append((node, list(wanted.values())))


def _bare(node: str) -> str:
    return node.split(".")[1].strip('`"')


def is_computed(node: str) -> bool:
    """Tell whether a full table name is that of a computed or imported table, not of a part."""
    name = _bare(node)
    return name.startswith("_") and "__" not in name.lstrip("_")


def is_decision(node: str) -> bool:
    """Tell whether a full table name is that of a table filled by hand, not of a part."""
    return not _bare(node).startswith(("_", "#", "~")) and "__" not in _bare(node)


def is_task(node: str) -> bool:
    """Tell whether a table holds decisions to compute something: one named ...Task or ...Spec."""
    return is_decision(node) and _bare(node).endswith(("_task", "_spec"))


def is_part_of_task(node: str) -> bool:
    """Tell whether a full table name is that of a part of a decision to compute something."""
    master = master_of(node)
    return master is not None and is_task(master)


def provenance(ledger: Ledger, table: str, keys: list[dict[str, Any]]) -> list[dict | None]:
    """Say for every key who computed its row: None where no worker did.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    table : str
        Readable name.
    keys : list of dict
        Whole primary keys.

    Returns
    -------
    list
        Dicts of `ended_at` (UTC), `duration_s`, `host`, `worker`, `version` (of the code),
        `attempt` (which try it was, from 1), `environment` (hash of the packages) and `device`.
    """
    ids = [job_id(table, canonical(key)) for key in keys]
    made: dict[str, dict] = {}
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        rows = ledger.rows(
            "SELECT a.job_id, a.outcome, a.ended_at, a.duration_s, a.host, a.worker, a.version, "
            f"p.environment_hash, p.device FROM {tables.Attempt.full_table_name} a "
            f"LEFT JOIN {tables.Provenance.full_table_name} p "
            "ON p.job_id=a.job_id AND p.token=a.token "
            f"WHERE a.job_id IN ({','.join(['%s'] * len(chunk))}) ORDER BY a.job_id, a.token",
            chunk,
        )
        tries: dict[str, int] = {}
        for job, outcome, ended, seconds, host, worker, version, environment, device in rows:
            tries[job] = tries.get(job, 0) + (outcome != "returned")
            if outcome == "done":
                made[job] = {
                    "ended_at": ended,
                    "duration_s": seconds,
                    "host": host,
                    "worker": worker,
                    "version": version,
                    "attempt": tries[job],
                    "environment": environment,
                    "device": device,
                }
                tries[job] = 0
    return [made.get(job) for job in ids]


def sentence(values: dict[str, Any]) -> str:
    """Write the columns of a row in one line; JSON columns without quotes, long ones cut."""
    parts = []
    for name, value in values.items():
        text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
        parts.append(f"{name}={text if len(text) <= 400 else text[:400] + '...'}")
    return ", ".join(parts)
