"""From one decision to the tasks of another day's natural images of the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import DataError
from schemas import closed_loop, experiment, mei
from schemas.decisions.task_rows import (
    dataset_of,
    model_ensembles,
    named,
    scan_tasks,
    transaction,
)


def register_other_day(
    scan_key: Mapping[str, Any],
    source_key: Mapping[str, Any],
    *,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Decide to train a model on another day's natural images, for the MEIs of the same cells.

    By the methods of the loop that was registered last on the source scan.

    Parameters
    ----------
    scan_key : mapping
        `animal_id, session, scan_idx` of the other day: natural images, no plan.
    source_key : mapping
        The scan whose targets have MEIs.
    seeds : sequence of int, optional
        Of the other day's CNNs; default as many as the loop has.

    Returns
    -------
    dict
        `ensemble_hash` of the other day's models. The same again changes nothing.

    Raises
    ------
    DataError
        If there is no such scan, no loop on the source, or it is another animal.
    """
    scan, source = (
        {name: int(key[name]) for name in experiment.Scan.primary_key}
        for key in (scan_key, source_key)
    )
    texts = [experiment.scan_name(key) for key in (scan, source)]
    if not experiment.Scan & scan:
        raise DataError(
            "no such scan", field="scan", found=texts[0], remedy="ingest its recording first"
        )
    if scan["animal_id"] != source["animal_id"] or scan == source:
        raise DataError(
            "not another day of the same animal",
            field="scan",
            found=texts[0],
            expected=f"another scan of the animal of {texts[1]}",
        )
    loops = (closed_loop.Loop & source).to_dicts(order_by="registered DESC", limit=1)
    if not loops:
        raise DataError(
            f"no loop is registered on {texts[1]}", remedy=f"run `inception loop {texts[1]}`"
        )
    recipe = (closed_loop.Recipe & loops[0]).fetch1("recipe")
    with transaction():
        member = scan_tasks(scan, recipe)
        spec = dataset_of(member, recipe)
        if seeds is not None:
            recipe = {**recipe, "model": {**recipe["model"], "cnn_seeds": list(seeds)}}
        other, _ = model_ensembles(spec, recipe)
        match = closed_loop.MatchMethod.add(**named(recipe["match"]))
        displays = closed_loop.PlanTask.Display & (closed_loop.PlanTask & loops[0])
        batches = {
            tuple(row[name] for name in mei.MaskTask.primary_key) for row in displays.to_dicts()
        }
        closed_loop.OtherDayTask.insert(
            (
                {
                    **dict(zip(mei.MaskTask.primary_key, batch, strict=True)),
                    "other_ensemble_hash": other["ensemble_hash"],
                    **match,
                    "min_match_probability": recipe["match"]["min_probability"],
                }
                for batch in sorted(batches)
            ),
            skip_duplicates=True,
        )
    return other
