"""The names of the units of data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas import imaging
from schemas.dataset.responses import Responses
from schemas.dataset.sets import Dataset

if TYPE_CHECKING:
    import pandas as pd

UNIT_KEY = ["dataset_hash", "unit_index"]


def unit_names(data: Any = True) -> pd.DataFrame:
    """Return what the units of data sets are called.

    Parameters
    ----------
    data : restriction
        Of `Dataset.Unit`; default all.

    Returns
    -------
    DataFrame
        A row a unit, by `dataset_hash, unit_index`; columns `unit_id` and `field` (empty for a
        prepared data set) and `unit`, the name: `unit 12`, `unit 12 (field 2)` where the scan has
        several fields, `output 7` for a unit without scan.
    """
    import pandas as pd

    from pipeline.dataset.names import unit_name

    units = (Dataset.Unit & data).to_dicts(order_by="KEY")
    joined = Dataset.Unit * Responses.Unit.proj("field") & data
    fields = {(row["dataset_hash"], row["unit_index"]): row["field"] for row in joined.to_dicts()}
    scan = imaging.ScanInfo.primary_key
    counts = {
        tuple(row[name] for name in scan): row["n_fields"] for row in imaging.ScanInfo().to_dicts()
    }
    rows = []
    for unit in units:
        key = unit["dataset_hash"], unit["unit_index"]
        field = fields.get(key)
        several = counts.get(tuple(unit[name] for name in scan), 1) > 1
        name = unit_name(unit["unit_id"], field if several else None, output=key[1])
        rows.append((*key, unit["unit_id"], field, name))
    frame = pd.DataFrame(rows, columns=[*UNIT_KEY, "unit_id", "field", "unit"])
    return frame.astype({"unit_id": "Int64", "field": "Int64"}).set_index(UNIT_KEY)
