"""What a notebook asks for first, in one call: a cell's trace, a loop's MEIs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.errors import DataError
from schemas import closed_loop, dataset, mei

UNIT_KEY = ["dataset_hash", "unit_index"]


def meis(loop: Any) -> pd.DataFrame:
    """Return the most exciting inputs of a loop, the best target first.

    Parameters
    ----------
    loop : restriction
        Of `closed_loop.Loop` or `closed_loop.PlanTask`: ``{"animal_id": 7}``, a `plan_id` row.

    Returns
    -------
    DataFrame
        A row a unit: `unit` (its name), `unit_id`, `field`, `target_rank`, `activation` (predicted
        response at mean behavior, a.u.), `member_sd`, `converged`, and `image`, a float32 array
        (h, w) in gray levels. The index is `dataset_hash, unit_index`.

    Raises
    ------
    DataError
        If there is no such loop, or none of its MEIs is made.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> plt.imshow(schemas.meis({"animal_id": 7}).image.iloc[0], cmap="gray")  # doctest: +SKIP
    """
    plans = closed_loop.PlanTask * closed_loop.Loop & loop
    if not plans:
        raise DataError("no such loop", field="loop", found=loop)
    batches = mei.MEI & (closed_loop.PlanTask.Display & plans.proj()).proj()
    rows = (mei.MEI.Unit * mei.Targets.Unit.proj("target_rank") & batches.proj()).to_dicts()
    if not rows:
        raise DataError("no MEI of this loop is made yet", field="loop", found=loop)
    made = mei.MEI.primary_key
    arrays = {
        tuple(batch[name] for name in made): batch["images"].load(mmap_mode="r")
        for batch in batches.to_dicts()
    }
    for row in rows:
        row["image"] = arrays[tuple(row[name] for name in made)][row["image_row"]]
    frame = pd.DataFrame(rows).set_index(UNIT_KEY)
    data = [{"dataset_hash": name} for name in frame.index.get_level_values(0).unique()]
    named = dataset.unit_names(data).join(frame, how="inner")
    shown = ["unit", "unit_id", "field", "target_rank", "activation", "member_sd"]
    named = named.sort_values("target_rank", kind="stable")[[*shown, "converged", "image"]]
    return named.astype({"converged": bool})
