"""Give database, store and home of a deployment a common mark, once, and refuse what has another.

The id is written to the database, then to store and home, then counted as marked: a process that
is killed in between leaves what the next one goes on with. A database from before there were marks
gets one only if its store holds what its rows refer to, or neither holds anything.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from pathlib import Path

import datajoint as dj

from pipeline.errors import DataError
from schemas.clock import now_sql
from schemas.stored import identity
from schemas.stored.identity import ADOPT, HOME_FILE
from workers.database import collect, embedded, schema_version
from workers.database.datajoint_internals import quoter, store
from workers.queue import tables
from workers.queue.lease import Ledger

log = logging.getLogger("inception.database")
_MOST_LOOKED_AT = 1000  # references, of which one has to be in the store


def refuse_strangers(connection: dj.Connection, prefix: str, *, adopt: bool = False) -> None:
    """Raise before anything is made, if store or home are known to be another database's.

    Raises
    ------
    DataError
        A `MachineError` if the store is not mounted.
    """
    if adopt:
        return
    found = identity.recorded(connection, prefix)
    if found is not None and found.marked:
        identity.learn(connection, prefix)
        identity.check_store(prefix)
        _check_home(prefix, found.deployment_id)
    elif found is None and schema_version.installed(connection, prefix) is None:
        like = prefix.replace("_", "\\_") + "\\_%"
        others = connection.query(
            "SELECT 1 FROM information_schema.schemata WHERE schema_name LIKE %s", (like,)
        ).fetchone()
        if others is None:  # an empty database: whose are the marks?
            if (mark := identity.store_mark(prefix)) is not None:
                raise _stranger(identity.place(), identity.mark_path(prefix), mark)
            home = _home()
            if home is not None and (mark := identity.home_mark(home, prefix)) is not None:
                raise _stranger(str(home), HOME_FILE, mark)


def establish(connection: dj.Connection, prefix: str, *, adopt: bool = False) -> None:
    """Let database, store and home bear one id, and have the store checked from now on.

    The tables are there; one process at a time.

    Parameters
    ----------
    connection, prefix
        The deployment.
    adopt : bool
        Take store and home for this database's although they bear no mark, or the database none.

    Raises
    ------
    DataError
        If the store is not this database's.
    """
    found = identity.recorded(connection, prefix)
    if found is None or not found.marked or adopt:
        _mark(connection, prefix, found, adopt=adopt)
    identity.learn(connection, prefix)
    if found is not None and found.marked:
        identity.check_store(prefix)
        _check_home(prefix, found.deployment_id)


def id_of(connection: dj.Connection, databases: list[str]) -> str | None:
    """Return the id of the deployment with some schemas, None of one of before there were ids."""
    names = [name.removesuffix("_workers") for name in databases if name.endswith("_workers")]
    found = identity.recorded(connection, min(names, key=len)) if names else None
    return None if found is None else found.deployment_id


def expect_room(prefix: str, deployment_id: str | None) -> None:
    """Raise unless the rows of some database may be put beside what the store holds."""
    mark = identity.store_mark(prefix)
    if mark not in (None, deployment_id):
        raise identity.wrong_store(prefix, mark, deployment_id or "none")


def mark_restored(connection: dj.Connection, prefix: str) -> None:
    """Let restored rows and their store know each other.

    In a store of its own a copy gets an id of its own, so that it never works on that of the
    database that it was copied from. In that very store it keeps the id: it takes its place.
    """
    found = identity.recorded(connection, prefix)
    if found is None:  # of before there were ids: the next process gives one
        return
    mark = identity.store_mark(prefix)
    kept = found.deployment_id if mark == found.deployment_id else uuid.uuid4().hex
    quote = quoter(connection)
    connection.query(
        f"UPDATE {quote(prefix + '_workers')}.{quote('deployment')} "
        f"SET deployment_id=%s, marked_at={now_sql(connection)}",
        (kept,),
    )
    identity.write_store_mark(prefix, kept)
    if (home := _home()) is not None:
        identity.write_home_mark(home, prefix, kept)
    identity.learn(connection, prefix)


def _mark(
    connection: dj.Connection, prefix: str, found: identity.Recorded | None, *, adopt: bool
) -> None:
    mark = identity.store_mark(prefix)
    strange = mark is None if found is not None else True
    if strange and not adopt and not _agree(connection):
        raise _disagrees(prefix, mark)
    if found is None:
        found = identity.Recorded(mark or uuid.uuid4().hex, marked=False)
        row = "(deployment_id, made_at) VALUES (%s, "
        connection.query(
            f"INSERT INTO {tables.Deployment.full_table_name} {row}{now_sql(connection)})",
            (found.deployment_id,),
        )
    if mark not in (None, found.deployment_id):
        raise identity.wrong_store(prefix, mark, found.deployment_id)
    try:
        if mark is None:
            identity.write_store_mark(prefix, found.deployment_id)
        if (home := _home()) is not None:
            identity.write_home_mark(home, prefix, found.deployment_id)
    except OSError as error:  # read-only for this account: another process will do it
        log.warning("%s: cannot be marked yet: %s", identity.place(), error)
        return
    connection.query(
        f"UPDATE {tables.Deployment.full_table_name} SET marked_at={now_sql(connection)} "
        "WHERE deployment_id=%s",
        (found.deployment_id,),
    )


def _agree(connection: dj.Connection) -> bool:
    """Tell whether the store holds what rows refer to, or neither holds anything.

    One file is enough: paths end in random letters, so that another store has none of them.
    """
    databases = collect.pipeline_databases(connection)
    place, looked = store(collect.STORE), False
    references = collect.references(Ledger(connection), databases)
    for path in itertools.islice(references, _MOST_LOOKED_AT):
        looked = True
        if place.exists(path):
            return True
    return not looked and not any(True for name in databases for _ in collect.list_files(name))


def _disagrees(prefix: str, mark: str | None) -> DataError:
    return DataError(
        "the store does not hold what the rows of this database refer to",
        file=identity.place(),
        field=prefix,
        found=f"the mark {mark}" if mark else "no mark",
        expected="the files of its rows",
        remedy=f"mount or name its own store (DJ_STORES, --home); {ADOPT}",
    )


def _stranger(place: str, field: str, mark: str) -> DataError:
    return DataError(
        "belongs to another database",
        file=place,
        field=field,
        found=mark,
        expected="no mark, as the database is empty",
        remedy=f"name its own database (DJ_HOST, --home), or move it away; {ADOPT}",
    )


def _home() -> Path | None:
    """Return the home, where the database is the one in it."""
    return embedded.home_path() if embedded.is_embedded() else None


def _check_home(prefix: str, deployment_id: str) -> None:
    home = _home()
    mark = None if home is None else identity.home_mark(home, prefix)
    if mark not in (None, deployment_id):
        raise DataError(
            "the home belongs to another database",
            file=home,
            field=HOME_FILE,
            found=mark,
            expected=deployment_id,
            remedy="put its own data folder back; nothing was written",
        )
