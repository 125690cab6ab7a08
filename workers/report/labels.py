"""What a neuron is called in the figures of a loop."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from workers.report.context import Loop


def labels(page: Loop, unit_index: Iterable[int]) -> list[str]:
    """Return the names of units of the loop's data set."""
    ids = dict(zip(page.targets["unit_index"], page.targets["unit_id"], strict=True))
    return [
        f"output {unit}" if pd.isna(ids.get(unit)) else f"unit {int(ids[unit])}"
        for unit in unit_index
    ]
