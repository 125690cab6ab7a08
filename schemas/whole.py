"""Tables are declared whole or not at all, where the server can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schemas.datajoint_internals import backend

if TYPE_CHECKING:
    import datajoint as dj

_open: set[int] = set()  # connections that declare at this moment


@contextlib.contextmanager
def declared_whole(connection: dj.Connection) -> Iterator[None]:
    """Declare tables in one transaction on PostgreSQL; MySQL commits every table by itself.

    DataJoint makes a table by several statements there, and takes one that exists for complete: a
    process that is killed between them would leave a table without its codecs for ever.

    Parameters
    ----------
    connection : dj.Connection
        Inside a transaction of DataJoint, or of this function, nothing more is begun.
    """
    if backend(connection) != "postgresql" or connection.in_transaction or id(connection) in _open:
        yield
        return
    connection.query("BEGIN")  # unknown to DataJoint, which declares nothing inside its own
    _open.add(id(connection))
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the server may be what failed
            connection.query("ROLLBACK")
        raise
    else:
        connection.query("COMMIT")
    finally:
        _open.discard(id(connection))
