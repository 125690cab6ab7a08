"""All animals together: the verdict over several loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.closed_loop.verdict.statistics import Comparison, population
from schemas import closed_loop, mei
from workers.report.context import LoopPage
from workers.report.naming import readable, shown_order, with_direction
from workers.report.page import Section

COLUMNS = [
    "kind",
    "n_animals",
    "n_neurons",
    "fraction",
    "fraction_low",
    "fraction_high",
    "fraction_significant",
    "median_ratio",
    "wilcoxon_p",
    "bootstrap_p",
    "above",
]


def animals(pages: Sequence[LoopPage], out: Path) -> Section | None:
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
        "within each animal. The p are two-sided: the last column tells whose effect it is."
    )
    title = "The reference against its controls (fraction: neurons with larger responses to it)"
    return Section("All animals together", tables=[(title, readable(table))], remarks=[remark])


def pooled(every: pd.DataFrame) -> pd.DataFrame:
    """Test the neurons of several animals together, a row a kind that two of them were shown.

    Parameters
    ----------
    every : DataFrame
        A row a neuron and kind: `animal_id, reference, kind, sem` and the attributes of
        `Comparison`. Animals that are compared with another reference are not pooled with these.
    """
    rows = []
    for reference, kind in every[["reference", "kind"]].drop_duplicates().itertuples(index=False):
        some = every[(every["kind"] == kind) & (every["reference"] == reference)]
        some = some[some["scored"] & some["difference"].notna()]
        if some["animal_id"].nunique() < 2:
            continue
        names = Comparison.__dataclass_fields__
        numbers = {
            name: some[name].to_numpy(bool if name in ("significant", "scored") else float)
            for name in names
        }
        animal = some["animal_id"].to_numpy()
        found = asdict(population(Comparison(**numbers), some["sem"].to_numpy(), animal=animal))
        count = {"n_neurons": found["n"], "n_animals": len(set(animal))}
        rows.append({**found, **count, "kind": kind, "reference": reference})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    table = shown_order(pd.DataFrame(rows))
    return with_direction(table, table["reference"])[COLUMNS]


def _compared(page: LoopPage) -> pd.DataFrame:
    """Return every neuron's comparison in the newest recording that has a verdict."""
    for match in reversed(page.presentations()):
        outcomes = (closed_loop.Comparison & match).keys(order_by=closed_loop.Outcome.primary_key)
        if not outcomes:
            continue
        tests, shown = (
            mei.as_stimuli(pd.DataFrame((part & outcomes[0]).to_dicts()))
            for part in (closed_loop.Comparison.Unit, closed_loop.Outcome.Unit)
        )
        reference = (closed_loop.Comparison & outcomes[0]).fetch1("reference")
        if tests.empty or shown.empty:
            continue
        sem = shown.pivot(index="unit_index", columns="kind", values="sem_response").astype(float)
        spread = [
            np.hypot(sem[reference].get(row.unit_index), sem[row.kind].get(row.unit_index))
            for row in tests.itertuples()
        ]
        return tests.assign(sem=spread, reference=reference)
    return pd.DataFrame()
