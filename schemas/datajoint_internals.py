"""What the tables use of DataJoint beyond its documented names; what workers use is in theirs.

`workers.database.datajoint_internals` stands on this module. A test asserts that every name is
there and does what it is used for, so that another version of DataJoint breaks in these two files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datajoint import Connection


def backend(connection: Connection) -> str:
    """Return the kind of database server: `postgresql` or `mysql`."""
    return connection.adapter.backend


def let_help_read_tables() -> None:
    """Let an attribute that needs a database be absent from a class that has none.

    `help()` looks up the attributes of a table in all its base classes. In `dj.Computed`, which no
    schema binds, DataJoint fails an assertion then, where Python expects AttributeError.
    """
    from datajoint.user_tables import TableMeta

    original = TableMeta.__getattribute__
    if getattr(original, "absent_without_database", False):
        return

    def look_up(cls: type, name: str) -> Any:
        try:
            return original(cls, name)
        except AssertionError as error:
            if type.__getattribute__(cls, "_connection") is not None:
                raise
            raise AttributeError(f"{cls.__name__}.{name}: no database is bound") from error

    look_up.absent_without_database = True
    TableMeta.__getattribute__ = look_up
