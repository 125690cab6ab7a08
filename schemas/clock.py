"""The clock of the database server: one for all workers and all who register something."""

from __future__ import annotations

import datetime
from typing import Any

from schemas.datajoint_internals import backend


def now_sql(connection: Any, plus_s: float = 0.0) -> str:
    """Return SQL for the server's UTC time, milliseconds, some seconds from now.

    Cut, never rounded, to milliseconds: what is stored as now is not later than now.
    """
    if backend(connection) == "postgresql":
        clock = "date_trunc('milliseconds', clock_timestamp() AT TIME ZONE 'UTC')"
        return f"({clock} + INTERVAL '{plus_s:.3f} seconds')"
    return f"(UTC_TIMESTAMP(3) + INTERVAL {round(plus_s * 1e6):d} MICROSECOND)"


def now(connection: Any) -> datetime.datetime:
    """Return the server's UTC time, without a zone as the tables store it."""
    return connection.query(f"SELECT {now_sql(connection)}").fetchone()[0]


def to_utc(moment: datetime.datetime | str) -> datetime.datetime:
    """Return a time in UTC as the tables store it: whole seconds, without a zone.

    Parameters
    ----------
    moment : datetime or ISO text
        Without an offset from UTC it is local time of this machine.

    Raises
    ------
    ValueError
        If the text is not ISO.
    """
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return moment.astimezone(datetime.UTC).replace(tzinfo=None, microsecond=0)


def to_local(moment: datetime.datetime) -> datetime.datetime:
    """Return a stored UTC time in this machine's zone."""
    return moment.replace(tzinfo=datetime.UTC).astimezone()


def written(moment: datetime.datetime) -> str:
    """Write a stored UTC time for people: local time of this machine, with its offset."""
    return to_local(moment).isoformat(timespec="seconds")
