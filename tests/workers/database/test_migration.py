"""Tables of an older version, brought up to what the definitions say now."""

import pytest

pytestmark = pytest.mark.tables


def test_a_column_that_may_be_empty_from_now_on_is_loosened(database, ledger):
    from schemas import closed_loop
    from workers.database import migration

    prefix = closed_loop.schema.database.removesuffix("_closed_loop")
    table = closed_loop.Drift()
    connection = table.connection
    if connection.adapter.backend == "postgresql":
        tighten = 'ALTER COLUMN "drift_y_um_h" SET NOT NULL'
    else:
        tighten = "MODIFY COLUMN drift_y_um_h double NOT NULL"
    assert migration.look(connection, prefix, "schemas")["columns"] == []
    connection.query(f"DELETE FROM {table.full_table_name} WHERE drift_y_um_h IS NULL")  # others'
    connection.query(f"ALTER TABLE {table.full_table_name} {tighten}")
    found = migration.look(connection, prefix, "schemas")
    names = [column["name"] for column in found["columns"]]
    assert names == ["closed_loop.Drift.drift_y_um_h, empty"]
    assert found["problems"] == []
    migration.migrate(connection, prefix, "schemas")
    assert migration.look(connection, prefix, "schemas")["columns"] == []
