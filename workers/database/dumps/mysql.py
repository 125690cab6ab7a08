"""MySQL schemas as SQL: one statement a line, readable by `mysql` too; needs no client programs.

What is read is not run as it stands, which could be anything that the account may do: only the
forms that are written here are known, tables are made again from their parts, and rows are literal
values.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pymysql.cursors import SSCursor

from pipeline.errors import DataError
from workers.database.datajoint_internals import driver
from workers.database.dumps import Digests
from workers.database.dumps.statements import Statement, decoded, numbered_lines

FILE = "database.sql.gz"
_STATEMENT = 1_000_000  # characters after which an INSERT ends
_SETTINGS = (
    "SET NAMES utf8mb4",
    "SET SESSION time_zone='+00:00'",
    "SET SESSION sql_mode='NO_ENGINE_SUBSTITUTION'",
    "SET SESSION FOREIGN_KEY_CHECKS=0",  # tables come in alphabetical order
)


def dump(connection: Any, databases: list[str], folder: Path) -> Digests:
    """Write all tables of some schemas as they are at one moment.

    Parameters
    ----------
    connection : dj.Connection
        Of its own: it holds a snapshot until the end.
    databases : list of str
        Names of the schemas.
    folder : Path
        Gets `database.sql.gz`.

    Returns
    -------
    Digests
    """
    found: Digests = {}
    with gzip.open(folder / FILE, "wt", encoding="utf-8", compresslevel=4) as file:
        for statement in _SETTINGS:
            file.write(statement + ";\n")
        for name, define, rows in _tables(driver(connection), databases):
            file.writelines(statement + ";\n" for statement in define())
            found[name] = _digest(rows(), lambda text: file.write(text + ";\n"))
    return found


def digests(connection: Any, databases: list[str]) -> Digests:
    """Return rows and digest of every table of some schemas."""
    return {name: _digest(rows()) for name, _, rows in _tables(driver(connection), databases)}


def check(folder: Path, databases: list[str]) -> None:
    """Read a dump as `load` would, without a server; DataError if it would be refused."""
    for _ in _statements(folder / FILE, databases):
        pass


def load(connection: Any, folder: Path, databases: list[str]) -> None:
    """Make the tables and rows of a dump; what it had made is removed again if it fails.

    MySQL commits every table that is made, so between a kill of this process and a second
    `restore` databases may be left half filled.

    Raises
    ------
    DataError
        If it holds a statement that `dump` does not write, or names another database.
    """
    check(folder, databases)  # before anything is made
    made = []
    try:
        with driver(connection).cursor() as cursor:
            for setting in _SETTINGS:
                cursor.execute(setting)
            for database, sql in _statements(folder / FILE, databases):
                cursor.execute(sql)
                if database:
                    made.append(database)
            driver(connection).commit()
            cursor.execute("SET SESSION FOREIGN_KEY_CHECKS=1")
    except BaseException:
        remove(connection, made)
        raise


def remove(connection: Any, databases: list[str]) -> None:
    """Drop databases with all that is in them."""
    with driver(connection).cursor() as cursor:
        cursor.execute("SET SESSION FOREIGN_KEY_CHECKS=0")
        for name in databases:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        cursor.execute("SET SESSION FOREIGN_KEY_CHECKS=1")


_NAME = r"`[^`\x00-\x1f]{1,64}`"
_VALUE = (
    r"(?:NULL|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
    r"|(?:_binary)?'[^'\\]*+(?:\\.[^'\\]*+)*+')"
)
_ROW = rf"\({_VALUE}(?:,{_VALUE})*+\)"
_INSERT = re.compile(rf"INSERT INTO ({_NAME})\.({_NAME}) \(({_NAME}(?:, {_NAME})*+)\) VALUES ")
_ROWS = re.compile(rf"{_ROW}(?:,{_ROW})*+")
_DATABASE = re.compile(
    rf"CREATE DATABASE ({_NAME})"
    r"(?: /\*!40100 DEFAULT CHARACTER SET (\w+)(?: COLLATE (\w+))? \*/)?"
    r"(?: /\*!80016 DEFAULT ENCRYPTION='[NY]' \*/)?",
    re.ASCII,
)
_USE = re.compile(rf"USE ({_NAME})")
_WORDS = re.compile(
    rf"""(?P<space>[ \t]+)
    |(?P<name>{_NAME})
    |(?P<text>'(?:[^'\\\x00]|''|\\.)*+')
    |(?P<number>[0-9]+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>[(),.=])""",
    re.VERBOSE,
)
_TYPES = {
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "bigint",
    "float",
    "double",
    "decimal",
    "char",
    "varchar",
    "binary",
    "varbinary",
    "tinyblob",
    "blob",
    "mediumblob",
    "longblob",
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "json",
    "date",
    "datetime",
    "timestamp",
    "time",
    "year",
    "bit",
}
_ACTIONS = ("CASCADE", "RESTRICT", "NO ACTION", "SET NULL")


def _statements(file: Path, databases: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the statements of a file, made again, and the database that one makes."""
    used = ""
    try:
        with gzip.open(file, "rb") as stream:
            for number, line in numbered_lines(stream, file):
                text = decoded(line, file, number).removesuffix("\n").removesuffix(";")
                database, sql, used = _rebuilt(text, file, number, set(databases), used)
                if sql:
                    yield database, sql
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError("is damaged", file=file, found=error) from error


def _rebuilt(
    text: str, file: Path, line: int, databases: set[str], used: str
) -> tuple[str, str, str]:
    """Return the database that is made, a statement, and the database that is used from there."""

    def known(name: str) -> str:
        if name[1:-1] not in databases:
            Statement("", _WORDS, file, line).refuse(f"{name}, which the manifest does not name")
        return name

    if text in _SETTINGS:
        return "", "", used
    if found := _INSERT.match(text):
        database, table, columns = found.groups()
        if not _ROWS.fullmatch(text, found.end()):
            Statement("", _WORDS, file, line).refuse(text[found.end() :])
        sql = f"INSERT INTO {known(database)}.{table} ({columns}) VALUES {text[found.end() :]}"
        return "", sql, used
    if found := _DATABASE.fullmatch(text):
        name, letters, order = found.groups()
        sql = f"CREATE DATABASE {known(name)}"
        sql += f" CHARACTER SET {letters}" if letters else ""
        return name[1:-1], sql + (f" COLLATE {order}" if order else ""), used
    if found := _USE.fullmatch(text):
        return "", "", known(found.group(1))
    said = Statement(text, _WORDS, file, line)
    said.need("CREATE TABLE")
    if not used:
        said.refuse()
    table = said.next("name")

    def part() -> str:
        return _key(said, used, known) or _defined(said)

    sql = f"CREATE TABLE {used}.{table} {said.listed(part)}{_options(said)}"
    said.end()
    return "", sql, used


def _defined(said: Statement) -> str:
    """Take a column: name, type, and what may follow."""
    made = said.next("name")
    kind = said.next("word").lower()
    if kind in ("enum", "set"):
        made += f" {kind}{said.listed(lambda: said.next('text'))}"
    elif kind in _TYPES:
        made += f" {kind}{said.numbers()}"
    else:
        said.refuse(kind)
    while True:
        if said.maybe("DEFAULT"):
            made += f" DEFAULT {_value(said)}"
        elif said.maybe("ON UPDATE CURRENT_TIMESTAMP"):
            made += f" ON UPDATE CURRENT_TIMESTAMP{said.numbers()}"
        elif said.maybe("COMMENT"):
            made += f" COMMENT {said.next('text')}"
        elif said.maybe("CHARACTER SET"):
            made += f" CHARACTER SET {said.next('word')}"
        elif said.maybe("COLLATE"):
            made += f" COLLATE {said.next('word')}"
        else:
            for words in ("unsigned", "NOT NULL", "NULL", "AUTO_INCREMENT"):
                if said.maybe(words):
                    made += f" {words}"
                    break
            else:
                return made


def _value(said: Statement) -> str:
    if said.comes("text"):
        return said.next("text")
    if said.maybe("CURRENT_TIMESTAMP"):
        return f"CURRENT_TIMESTAMP{said.numbers()}"
    said.need("NULL")
    return "NULL"


def _key(said: Statement, used: str, known: Callable[[str], str]) -> str:
    """Take a key of any kind; empty if a column comes."""

    def columns() -> str:
        return said.listed(lambda: said.next("name"))

    if said.maybe("PRIMARY KEY"):
        return f"PRIMARY KEY {columns()}"
    for kind in ("UNIQUE KEY", "KEY"):
        if said.maybe(kind):
            return f"{kind} {said.next('name')} {columns()}"
    if not said.maybe("CONSTRAINT"):
        return ""
    made = f"CONSTRAINT {said.next('name')} FOREIGN KEY "
    said.need("FOREIGN KEY")
    made += columns()
    said.need("REFERENCES")
    first = said.next("name")
    table = f"{known(first)}.{said.next('name')}" if said.maybe(".") else f"{used}.{first}"
    made += f" REFERENCES {table} {columns()}"
    while True:
        for when in ("ON DELETE", "ON UPDATE"):
            if said.maybe(when):
                made += f" {when} {said.one_of(_ACTIONS)}"
                break
        else:
            return made


def _options(said: Statement) -> str:
    """Take what follows the columns of a table."""
    said.need("ENGINE = InnoDB")
    made = " ENGINE=InnoDB"
    while True:
        if said.maybe("AUTO_INCREMENT ="):
            made += f" AUTO_INCREMENT={said.next('number')}"
        elif said.maybe("DEFAULT CHARSET ="):
            made += f" DEFAULT CHARSET={said.next('word')}"
        elif said.maybe("COLLATE ="):
            made += f" COLLATE={said.next('word')}"
        elif said.maybe("ROW_FORMAT ="):
            made += f" ROW_FORMAT={said.next('word')}"
        elif said.maybe("COMMENT ="):
            made += f" COMMENT={said.next('text')}"
        else:
            return made


def _tables(
    link: Any, databases: list[str]
) -> Iterator[tuple[str, Callable[[], Iterator[str]], Callable[[], Iterator[tuple[str, str]]]]]:
    """Yield name, definition and rows (head of an INSERT, values) of every table of a snapshot."""
    with link.cursor() as cursor:
        for statement in _SETTINGS:
            cursor.execute(statement)
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        for database in databases:
            names = _column(
                link,
                "SELECT table_name FROM information_schema.tables WHERE table_schema=%s "
                "AND table_type='BASE TABLE' ORDER BY table_name",
                database,
            )
            for number, table in enumerate(names):

                def define(database: str = database, table: str = table, first=number == 0):
                    if first:
                        yield _definition(link, f"DATABASE `{database}`")
                        yield f"USE `{database}`"
                    yield _definition(link, f"TABLE `{database}`.`{table}`")

                def rows(database: str = database, table: str = table):
                    return _rows(link, database, table)

                yield f"{database}.{table}", define, rows
    finally:
        link.rollback()


def _column(link: Any, sql: str, *args: str) -> list[str]:
    with link.cursor() as cursor:
        cursor.execute(sql, args)
        return [row[0] for row in cursor.fetchall()]


def _definition(link: Any, what: str) -> str:
    with link.cursor() as cursor:
        cursor.execute(f"SHOW CREATE {what}")
        return " ".join(cursor.fetchone()[1].splitlines())


def _rows(link: Any, database: str, table: str) -> Iterator[tuple[str, str]]:
    """Yield the head of an INSERT and the values of one row, in the order of the primary key."""
    with link.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, column_key FROM information_schema.columns "
            "WHERE table_schema=%s AND table_name=%s ORDER BY ordinal_position",
            (database, table),
        )
        columns = cursor.fetchall()
    names = [f"`{name}`" for name, _, _ in columns]
    # a FLOAT is shown with six digits, as a DOUBLE with all that it has
    shown = [
        f"CAST({name} AS DOUBLE)" if kind == "float" else name
        for name, (_, kind, _) in zip(names, columns, strict=True)
    ]
    order = [f"`{name}`" for name, _, key in columns if key == "PRI"] or names
    head = f"INSERT INTO `{database}`.`{table}` ({', '.join(names)}) VALUES "
    with link.cursor(SSCursor) as cursor:
        cursor.execute(
            f"SELECT {', '.join(shown)} FROM `{database}`.`{table}` ORDER BY {', '.join(order)}"
        )
        for row in cursor:
            yield head, "(" + ",".join(link.escape(value) for value in row) + ")"


def _digest(
    rows: Iterable[tuple[str, str]], write: Callable[[str], Any] = lambda _: None
) -> dict[str, Any]:
    """Return number and digest of rows, and write them as INSERT statements of some length."""
    digest, count, size, statement = hashlib.sha256(), 0, 0, []
    for head, values in rows:
        digest.update(values.encode())
        count += 1
        size += len(values)
        statement.append(values)
        if size > _STATEMENT:
            write(head + ",".join(statement))
            size, statement = 0, []
    if statement:
        write(head + ",".join(statement))
    return {"rows": count, "digest": digest.hexdigest()}
