"""Images that exist: a unit that is a target of two plans is ascended once.

No MEI depends on what else is in its batch, up to rounding
(`pipeline.mei.synthesize`), so that another selection of targets copies what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Made(NamedTuple):
    """A unit's results in another batch."""

    row: dict[str, Any]  # of the part table, with `image_row`
    arrays: dict[str, Any]  # reference by column, of the whole batch


def made_before(
    table: Any, key: Mapping[str, Any], parts: Any, columns: Sequence[str]
) -> dict[int, Made]:
    """Return what other batches hold of the units of a key that is to be computed.

    A row that exists is computed afresh: whoever computes it again wants to compare. `make_fetch`
    runs again in the transaction that inserts, and another batch may have arrived meanwhile: the
    first choice holds.

    Parameters
    ----------
    table : Table
        The instance that computes; it remembers its choice.
    key : mapping
        Primary key of the row.
    parts : query
        Of the part table, with `image_row`: rows that are as the key asks, of the units wanted.
    columns : sequence of str
        Arrays of the master.
    """
    if table & key:
        return {}
    names = (*table.primary_key, "unit_index")
    known, chosen = getattr(table, "made_once", (None, []))
    if not table.connection.in_transaction or known != dict(key):
        first: dict[int, dict[str, Any]] = {}
        for row in parts.proj().to_dicts(order_by=names):
            first.setdefault(row["unit_index"], {name: row[name] for name in names})
        chosen = [first[unit] for unit in sorted(first)]
        table.made_once = (dict(key), chosen)
    if not chosen:
        return {}
    sources = [{name: row[name] for name in table.primary_key} for row in chosen]
    masters = {
        tuple(row[name] for name in table.primary_key): {name: row[name] for name in columns}
        for row in (table.proj(*columns) & sources).to_dicts(order_by="KEY")
    }
    rows = (parts & chosen).to_dicts(order_by="unit_index")
    return {
        row["unit_index"]: Made(row, masters[tuple(row[name] for name in table.primary_key)])
        for row in rows
    }


def joined(
    units: Sequence[int],
    made: Mapping[int, Made],
    fresh: Mapping[str, np.ndarray],
    axes: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Put arrays together: units that were made before, and those made now.

    Parameters
    ----------
    units : sequence of int
        In the order wanted, at least one.
    made : mapping
        Of `made_before`.
    fresh : mapping of str to array
        Of the other units, in their order; arrays without any units where there are none.
    axes : mapping of str to int
        Which axis of an array counts the units.
    """
    if not made:
        return dict(fresh)
    new = {unit: place for place, unit in enumerate(u for u in units if u not in made)}
    found = {}
    for name, axis in axes.items():
        loaded: dict[int, np.ndarray] = {}
        pieces = []
        for unit in units:
            if unit in new:
                pieces.append(np.take(fresh[name], new[unit], axis=axis))
                continue
            reference = made[unit].arrays[name]
            if id(reference) not in loaded:
                loaded[id(reference)] = np.asarray(reference.load())
            pieces.append(np.take(loaded[id(reference)], made[unit].row["image_row"], axis=axis))
        found[name] = np.stack(pieces, axis=axis)
    return found
