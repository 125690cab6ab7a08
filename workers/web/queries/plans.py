"""The plan of day 2: which cells, why, which images, what they cost, what can be detected."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.dataset.names import unit_name
from pipeline.mei.controls import in_order
from pipeline.plotting.style import color_of, name_of
from pipeline.stimulus.kinds import stimulus_name
from schemas import closed_loop
from workers import package
from workers.report.context import LoopPage
from workers.report.stimuli import left_out
from workers.web.queries.fields import rounded, selection

PAGE = 20  # targets of one page


def plan(page: LoopPage) -> dict[str, Any] | None:
    """Return what a loop's plan shows, None while there is none.

    Returns
    -------
    dict
        `size` as `workers.package.size` returns it, with `seconds_a_target` (trials of a target's
        images, blanks included); `kinds`: dicts `kind, name, color, images, predicted` (median);
        `power`; `left_out`: rows `unit, stimuli, images, reason`; `packages` that were written.
    """
    key = page.plan
    if key is None:
        return None
    rows = [
        {**row, "kind": stimulus_name(row["kind"], row["variant"])}
        for row in (closed_loop.Plan.Target & key).to_dicts()
    ]
    frame = pd.DataFrame(rows)
    size = package.size(key["plan_id"])
    kinds = in_order(frame["kind"]) if len(frame) else []
    dropped = (closed_loop.Plan & key).fetch1("dropped")
    return {
        "size": size,
        "minutes_a_target": rounded(minutes_a_target(key, frame)),
        "natural": len(closed_loop.Plan.Image & key & {"kind": "natural"}),
        "kinds": [
            {
                "kind": kind,
                "name": name_of(kind),
                "color": color_of(kind),
                "images": int((frame["kind"] == kind).sum()),
                "predicted": rounded(frame.loc[frame["kind"] == kind, "predicted"].median()),
            }
            for kind in kinds
        ],
        "power": power(key),
        "left_out": left_out(page, dropped).to_dict("records"),
        "packages": (closed_loop.Package & key).to_dicts(order_by="written DESC", limit=5),
    }


def minutes_a_target(key: dict[str, Any], targets: pd.DataFrame) -> float | None:
    """Return the time that the images of one target take, blanks included (min), their mean."""
    if targets.empty:
        return None
    trials = pd.DataFrame((closed_loop.Plan.Trial & key).to_dicts())
    trials["seconds"] = trials["duration_s"] + trials["blank_before_s"]
    own = trials["image_hash"].isin(set(targets["image_hash"]))
    return trials.loc[own, "seconds"].sum() / 60 / targets["unit_index"].nunique()


def power(key: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the plan can detect: smallest ratio of MEI and control, power 0.8."""
    rows = (closed_loop.PlanPower & key).to_dicts()
    if not rows:
        return None
    designs = (closed_loop.PlanPower.Design & key).to_dicts(order_by=("n_neurons", "repeats"))
    planned = (closed_loop.Plan & key).fetch1("n_targets", "n_repeats")
    return {
        "known": rows[0]["n_images"] is not None and bool(designs),
        "designs": sorted(
            (
                {
                    "neurons": row["n_neurons"],
                    "repeats": row["repeats"],
                    "per_neuron": rounded(row["detectable_per_neuron"], 2),
                    "population": rounded(row["detectable_population"], 2),
                    "planned": (row["n_neurons"], row["repeats"]) == planned,
                }
                for row in designs
            ),
            key=lambda design: not design["planned"],
        ),
    }


def targets(page: LoopPage, number: int) -> dict[str, Any]:
    """Return one page of a plan's targets, the best first, with their images.

    Returns
    -------
    dict
        `count`, `page`, `pages`; `rows`: dicts `unit`, `unit_id`, `rank`, `reason`, `images`
        (`kind, name, color, image, predicted` of each).
    """
    key = page.plan or {"plan_id": ""}
    chosen = selection(page)
    by_index = page.targets.drop_duplicates("unit_index")
    pages = max(1, -(-len(by_index) // PAGE))
    number = min(max(number, 0), pages - 1)
    shown = by_index.iloc[number * PAGE : (number + 1) * PAGE]
    wanted = [{"unit_index": int(index)} for index in shown["unit_index"]]
    images: dict[int, dict[str, dict[str, Any]]] = {}
    for row in (closed_loop.Plan.Target & key & wanted).to_dicts() if wanted else []:
        kind = stimulus_name(row["kind"], row["variant"])
        images.setdefault(row["unit_index"], {})[kind] = {
            "name": name_of(kind),
            "color": color_of(kind),
            "image": f"/images/{row['image_hash']}.png",
            "predicted": rounded(row["predicted"]),
        }
    rows = []
    for row in shown.itertuples():
        own = images.get(int(row.unit_index), {})
        known = pd.notna(row.unit_id)
        rows.append(
            {
                "unit": row.unit if known else unit_name(None, output=int(row.unit_index)),
                "unit_id": int(row.unit_id) if known else None,
                "rank": int(row.target_rank),
                "reason": chosen[int(row.unit_id)]["reason"]
                if known and int(row.unit_id) in chosen
                else "",
                "images": [own[kind] for kind in in_order(own)],
            }
        )
    return {"count": len(by_index), "page": number, "pages": pages, "rows": rows}
