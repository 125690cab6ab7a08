"""Whole database schemas as files, and back: one module for each kind of server.

Each module has `FILE`, the name of its dump; `dump(connection, databases, folder)`, which writes
definitions and rows of one moment and returns the digest of every table; `check(folder,
databases)`, which refuses a dump with any other statement than `dump` writes; `load(connection,
folder, databases)`, which makes them again from names, types and values; `remove(connection,
databases)`; and `digests(connection, databases)`, which says what a server holds now.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

Digests = dict[str, dict[str, Any]]
"""Table (`schema.table`) to its number of `rows` and a `digest` of their content."""


def of(backend: str) -> ModuleType:
    """Return the module for `mysql` or `postgresql`."""
    return importlib.import_module(f"workers.database.dumps.{backend}")
