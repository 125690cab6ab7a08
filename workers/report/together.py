"""All animals together: the verdict over several loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.closed_loop.statistics import Comparison, population
from workers.report.context import KINDS, Loop
from workers.report.page import Section

COLUMNS = ["kind", "n_animals", "n_neurons", "fraction", "fraction_low", "fraction_high",
           "fraction_significant", "median_ratio", "wilcoxon_p", "bootstrap_p"]  # fmt: skip


def animals(pages: Sequence[Loop], out: Path) -> Section | None:
    """Return the verdict over animals, of the newest recording of one loop each; None for one."""
    newest = {}
    for page in pages:
        frame = _compared(page)
        if len(frame):
            newest[page.scan["animal_id"]] = (page, frame)
    if len(newest) < 2:
        return None
    every = pd.concat([frame for _, frame in newest.values()], ignore_index=True)
    table = pooled(every)
    if table.empty:
        return None
    table.to_csv(out / "animals.csv", index=False)
    loops = ", ".join(page.label for page, _ in newest.values())
    remark = (
        f"Of every animal the newest recording of its last registered loop ({loops}). Bootstrap "
        "intervals and p draw animals, neurons within them and trials within those; Wilcoxon's "
        "test takes neurons of one animal for independent. Significant after the correction "
        "within each animal."
    )
    return Section("All animals together", tables=[("MEI above its control", table)],
                   remarks=[remark])  # fmt: skip


def pooled(every: pd.DataFrame) -> pd.DataFrame:
    """Test the neurons of several animals together, a row a kind that two of them were shown.

    Parameters
    ----------
    every : DataFrame
        A row a neuron and kind: `animal_id, kind, sem` and the attributes of `Comparison`.
    """
    rows = []
    for kind in [name for name in KINDS if name in set(every["kind"])]:
        some = every[(every["kind"] == kind) & every["scored"] & every["difference"].notna()]
        if some["animal_id"].nunique() < 2:
            continue
        names = Comparison.__dataclass_fields__
        numbers = {
            name: some[name].to_numpy(bool if name in ("significant", "scored") else float)
            for name in names
        }
        animal = some["animal_id"].to_numpy()
        found = asdict(population(Comparison(**numbers), some["sem"].to_numpy(), animal=animal))
        rows.append({**found, "kind": kind, "n_neurons": found["n"], "n_animals": len(set(animal))})
    return pd.DataFrame(rows)[COLUMNS]


def _compared(page: Loop) -> pd.DataFrame:
    """Return every neuron's comparison in the newest recording that has a verdict."""
    from schemas import closed_loop

    for match in reversed(page.presentations()):
        outcomes = (closed_loop.Comparison & match).keys(order_by=closed_loop.Outcome.primary_key)
        if not outcomes:
            continue
        tests = pd.DataFrame((closed_loop.Comparison.Unit & outcomes[0]).to_dicts())
        reference = (closed_loop.Comparison & outcomes[0]).fetch1("reference")
        shown = pd.DataFrame((closed_loop.Outcome.Unit & outcomes[0]).to_dicts())
        if tests.empty or shown.empty:
            continue
        sem = shown.pivot(index="unit_index", columns="kind", values="sem_response").astype(float)
        spread = [
            np.hypot(sem[reference].get(row.unit_index), sem[row.kind].get(row.unit_index))
            for row in tests.itertuples()
        ]
        return tests.assign(sem=spread)
    return pd.DataFrame()
