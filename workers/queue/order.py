"""Which tables are computed, in which order, and what follows from what."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.stages import STAGES
from workers.database.datajoint_internals import ForeignKeys, master_of


@dataclass(frozen=True)
class Task:
    """A computed table as workers see it.

    Parameters
    ----------
    name : str
        Module and class, such as `imaging.Motion`.
    table : type
        The DataJoint class.
    rank : int
        Position in the order of foreign keys, from 0.
    follows : tuple of str
        Names of the computed tables whose due keys may grow when this one gains a row.
    """

    name: str
    table: type
    rank: int
    follows: tuple[str, ...] = ()

    @property
    def queue(self) -> str:
        """Queue of the table's jobs: its attribute `worker_queue`, else `cpu`."""
        return getattr(self.table, "worker_queue", "cpu")

    @property
    def settles(self) -> tuple[str, ...]:
        """Tables whose jobs may be in vain once this one has a row: `worker_settles`, else none."""
        return getattr(self.table, "worker_settles", ())

    @property
    def timeout_s(self) -> float | None:
        """Longest time one job may take (s): the table's attribute `worker_timeout_s`."""
        return getattr(self.table, "worker_timeout_s", None)


@dataclass(frozen=True)
class TaskOrder:
    """The computed tables of a pipeline in the order of their foreign keys.

    Parameters
    ----------
    source : str
        Module that was activated.
    prefix : str
        Prefix of the database schemas.
    tasks : dict
        Task by name, upstream first.
    """

    source: str
    prefix: str
    tasks: dict[str, Task] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks.values())

    def select(self, queues: tuple[str, ...] | None) -> list[Task]:
        """Return the tasks of some queues, or of all."""
        return [task for task in self if queues is None or task.queue in queues]

    def upstream(self) -> dict[str, set[str]]:
        """Return for every table the names of the tables before it, however far up."""
        above: dict[str, set[str]] = {task.name: set() for task in self}
        for task in self:
            for name in task.follows:
                above[name] |= {task.name} | above[task.name]
        return above


def load(source: str = "schemas", prefix: str = "inception") -> TaskOrder:
    """Activate a pipeline and sort its computed tables by their foreign keys.

    Parameters
    ----------
    source : str
        Importable module with a function `activate(prefix=...)`; computed tables are taken from it
        and from its submodules named like the stages.
    prefix : str
        Prefix of the database schemas.

    Returns
    -------
    Plan
        Every `dj.Computed` and `dj.Imported` table, upstream first.
    """
    package = importlib.import_module(source)
    package.activate(prefix=prefix)
    found = {table.full_table_name: (name, table) for name, table in _computed(source)}
    if not found:
        return TaskOrder(source, prefix)
    foreign_keys = ForeignKeys(next(iter(found.values()))[1].connection, fresh=True)
    order = [node for node in foreign_keys.in_order() if node in found]
    tasks = {}
    for rank, node in enumerate(order):
        name, table = found[node]
        follows = tuple(found[child][0] for child in _next_computed(foreign_keys, node, found))
        tasks[name] = Task(name, table, rank, follows)
    return TaskOrder(source, prefix, tasks)


def tables_of(source: str) -> Iterator[tuple[str, Any]]:
    """Yield name (`stage.Table`) and class of all tables of a pipeline, without the parts."""
    import datajoint as dj

    package = importlib.import_module(source)
    modules = [package]
    for stage in STAGES:
        name = f"{package.__name__}.{stage}"
        if hasattr(package, "__path__") and importlib.util.find_spec(name) is not None:
            modules.append(importlib.import_module(name))
    for module in modules:
        for name, value in vars(module).items():
            is_table = isinstance(value, type) and issubclass(value, dj.Table)
            if is_table and f"{value.__module__}.".startswith(f"{module.__name__}."):
                yield f"{module.__name__.rsplit('.', 1)[-1]}.{name}", value


def _computed(source: str) -> Iterator[tuple[str, Any]]:
    import datajoint as dj

    for name, table in tables_of(source):
        if issubclass(table, (dj.Computed, dj.Imported)):
            yield name, table


def _next_computed(foreign_keys: ForeignKeys, node: str, computed: dict) -> list[str]:
    """Walk down the foreign keys, through parts and tables filled by hand, to computed tables.

    A computed table also follows what its own parts hang on: responses on the units of activity.
    """
    seen, stack, reached = {node}, [node], []
    while stack:
        for child, _ in foreign_keys.children(stack.pop()):
            if child in seen:
                continue
            seen.add(child)
            master = master_of(child)
            if child in computed:
                reached.append(child)
            elif master in computed and master != node:
                reached += [master] if master not in seen else []
                seen.add(master)
            else:
                stack.append(child)
    return sorted(reached)
