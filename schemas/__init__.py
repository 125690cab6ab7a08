"""Tables of the inception loop, one module a stage.

Importing this package connects to nothing. `activate()` binds all modules to a database:

>>> import schemas; schemas.activate()
>>> from schemas import mei
>>> (mei.MEI.Unit & 'activation > 1').to_pandas()

In one call: `schemas.trace(unit)`, `schemas.dataset(scan)`, `schemas.meis(loop)`.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plugins import load_plugins
from pipeline.stages import STAGES
from schemas.catalog import read_at_once
from schemas.datajoint_internals import let_forks_connect, let_help_read_tables
from schemas.whole import declared_whole

if TYPE_CHECKING:
    from datajoint import Connection

MODULES = STAGES
"""Schema modules in the order of their foreign keys; each is one schema, `<prefix>_<module>`."""

IN_ONE_CALL = ("meis",)

Connector = Callable[[str | os.PathLike | None], "Connection"]
_connector: Connector | None = None
_active: str | None = None

# DataJoint says at import that it found no datajoint.json: the embedded database needs none
warnings.filterwarnings("ignore", message="No datajoint.json found")


def _worth_reading(record: logging.LogRecord) -> bool:
    # columns of jobs tables carry no type marker, so each is called native: true and harmless
    return not record.getMessage().startswith("Native type")


logging.getLogger("datajoint").addFilter(_worth_reading)


def __getattr__(name: str) -> Any:
    if name in IN_ONE_CALL:
        return getattr(importlib.import_module("schemas.reading"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def set_default_connector(connector: Connector | None) -> None:
    """Set what `activate` calls for a connection: `connector(home) -> datajoint.Connection`.

    Without it the entry point `default` of the group `inception.connector` is called, which
    starts the embedded database unless another server is configured.
    """
    global _connector
    _connector = connector


def activate(
    prefix: str = "inception",
    *,
    connection: Connection | None = None,
    home: str | os.PathLike | None = None,
    create_tables: bool | None = None,
) -> Connection:
    """Bind the eight schema modules to a database and declare what is missing.

    Parameters
    ----------
    prefix : str
        Schemas are named `<prefix>_experiment` to `<prefix>_closed_loop`.
    connection : datajoint.Connection, optional
        Connection to use. By default DataJoint's configuration (`DJ_*`, `datajoint.json`) is
        followed, and where it names no server, the embedded database is started.
    home : path, optional
        Folder of the embedded database and of the store `main`; default `INCEPTION_HOME`.
    create_tables : bool, optional
        False: raise instead of declaring a missing table.

    Returns
    -------
    datajoint.Connection

    Raises
    ------
    ValueError
        If this process is bound to another prefix already.
    """
    global _active
    if _active is not None and _active != prefix:
        raise ValueError(
            f"this process is bound to prefix {_active!r} already; start another one for {prefix!r}"
        )
    from schemas.stored import digests, identity

    let_help_read_tables()
    let_forks_connect()
    digests.watch()
    load_plugins()
    if connection is None:
        connection = (_connector or _installed_connector())(home)
    _ensure_store(home)
    modules = {name: importlib.import_module(f"schemas.{name}") for name in MODULES}
    databases = [f"{prefix}_{name}" for name in modules]
    with declared_whole(connection), read_at_once(connection, databases):
        for name, module in modules.items():
            module.schema.activate(
                f"{prefix}_{name}", connection=connection, create_tables=create_tables
            )
    _active = prefix
    identity.learn(connection, prefix)
    return connection


def active_prefix() -> str | None:
    """Return the prefix that this process is bound to by `activate`, None before it."""
    return _active


def declare() -> int:
    """Declare every jobs table, so that workers that start together find them; return how many."""
    return len([table.jobs for table in computed_tables()])


def tables() -> list[type]:
    """Return every table class that is not a part, in the order of the modules."""
    import datajoint as dj

    found = []
    for name in MODULES:
        module = importlib.import_module(f"schemas.{name}")
        found += [
            item
            for item in vars(module).values()
            if isinstance(item, type)
            and issubclass(item, dj.Table)
            and f"{item.__module__}.".startswith(f"{module.__name__}.")  # a stage may be a package
        ]
    return found


def computed_tables() -> list[type]:
    """Return the tables that `populate` fills, in the order of the modules."""
    import datajoint as dj

    return [table for table in tables() if issubclass(table, (dj.Computed, dj.Imported))]


def _installed_connector() -> Connector:
    found = metadata.entry_points(group="inception.connector", name="default")
    for entry in found:
        return entry.load()

    def plain(home: str | os.PathLike | None) -> Connection:
        import datajoint

        return datajoint.conn()

    return plain


def _ensure_store(home: str | os.PathLike | None) -> None:
    """Let the store `main` be a folder of the home where the configuration names none."""
    import datajoint as dj

    if "main" in dj.config.stores:
        return
    base = Path(home or os.environ.get("INCEPTION_HOME") or Path.home() / ".inception")
    location = base.expanduser().resolve() / "store"
    location.mkdir(parents=True, exist_ok=True)
    dj.config.stores["main"] = {"protocol": "file", "location": str(location)}
    dj.config.stores.setdefault("default", "main")
