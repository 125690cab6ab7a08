"""Statements on the database of a home, past DataJoint."""

import psycopg2

from workers.database import embedded


def sql(home, statement):
    """Run one statement; return its rows, None if it has none."""
    with psycopg2.connect(embedded.url(home)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None
