"""What must hold whatever was killed: read from the database and the store, from nothing else.

I1 every key has one row with the right hash, I2 three parts each, I3 no part without its row,
I4 every row's object is in the store, and after `gc` nothing else is, I5 no job is left running,
I6 the log of attempts explains every claim.
"""

from collections import Counter

import datajoint as dj
import numpy as np
from histories import judge_attempts
from storm_tables import NUMBERS, PIECES, Seed, Value, digest, schema

from workers.queue import tables

OPEN = ("pending", "running")
ENDS = {"done", "present", "returned", "fenced", "data", "error", "transient", "lost"} | {
    "crash",
    "timeout",
    "memory",
}


def check_all(numbers, *, sample=None):
    """Assert I1 to I6 for a drained pipeline; return figures worth reporting.

    `numbers` are the keys that must have a row; `sample` limits how many arrays are read back.
    """
    check_rows(numbers)
    orphans = check_store(sample)
    attempts = check_jobs(numbers)
    return {"rows": len(numbers), "orphans": orphans, **attempts}


def check_rows(numbers):
    rows = {row["number"]: row["value"] for row in Value.proj("value").to_dicts()}
    assert sorted(rows) == sorted(numbers), _difference(rows, numbers)  # I1
    assert all(value == digest(number) for number, value in rows.items())
    pieces = Value.Piece().to_dicts()
    per_row = Counter(piece["number"] for piece in pieces)
    assert set(per_row) == set(rows)  # I3
    assert set(per_row.values()) <= {PIECES}  # I2
    assert all(p["value"] == digest((p["number"], p["piece"])) for p in pieces)


def check_store(sample=None):
    """Assert I4; return the number of files that `gc` removed."""
    rows = Value().to_dicts(order_by="number")
    step = max(1, len(rows) // sample) if sample else 1
    for row in rows[::step]:
        array = row["array"].load()
        assert array.shape == (NUMBERS,)
        assert np.all(array == row["number"])
    collector = dj.gc.GarbageCollector(schema, store="main")
    found = collector.collect(dry_run=False)
    assert found["errors"] == 0
    left = collector.collect(dry_run=True)
    assert left["schema_paths_orphaned"] == 0
    assert left["schema_paths_stored"] == left["schema_paths_referenced"] == len(rows)
    return found["schema_paths_orphaned"]


def check_jobs(numbers):
    """Assert I5 and I6; return how the attempts ended."""
    assert len(tables.Job & [{"status": state} for state in OPEN]) == 0, "I5: jobs left over"
    attempts = (tables.Attempt & {"table_name": "storm_tables.Value"}).to_dicts()
    ends = Counter(attempt["outcome"] for attempt in attempts)
    assert set(ends) <= ENDS, f"I6: attempts without an end: {ends}"
    done = [attempt["job_id"] for attempt in attempts if attempt["outcome"] == "done"]
    assert len(done) == len(set(done)) == len(numbers), "I6: done attempts and rows differ"
    assert judge_attempts(attempts) == []
    return {"attempts": len(attempts), **dict(ends)}


def _difference(rows, numbers):
    return f"I1: lost {sorted(set(numbers) - set(rows))[:20]}, {len(rows)} rows: {len(Seed())} keys"
