"""What is asked for is planned or dropped, once, with the reason that holds for it."""

import numpy as np
import pytest

from pipeline.closed_loop.planning import request as planning
from pipeline.errors import DataError
from pipeline.stimulus.kinds import stimulus_columns
from pipeline.stimulus.monitor import MonitorCurve

CURVE = MonitorCurve(np.arange(0, 256, 15), 0.2 + 30 * (np.arange(0, 256, 15) / 255) ** 2.2)


def stimulus(unit, name, display="d", **more):
    """Return what is asked for, and how it is displayed, of one unit."""
    columns = {**stimulus_columns(name), "unit_index": unit, "display": [display, name]}
    shown = {
        **columns,
        "dataset_hash": "data",
        "target_rank": unit,
        "image_hash": f"{name}{unit}{display}",
        "ok": True,
        "reason": "",
        "predicted": 1.0,
        "mean_cd_m2": 10.0,
        "sd_cd_m2": 2.0,
        "clipped_fraction": 0.0,
        **more,
    }
    return {**columns, "unit_id": unit + 100}, shown


def make(pairs, natural=(), method="balanced_blocks", unshown=(), **params):
    pixels = {name: np.full((4, 8), 100, np.uint8) for name in natural}
    return planning.make_plan(
        planning.Request(
            asked=[asked for asked, _ in pairs],
            displayed=[shown for place, (_, shown) in enumerate(pairs) if place not in unshown],
            natural=pixels,
            curve=CURVE,
            method=method,
            params={"minutes": 5.0, **params},
        )
    )


def dropped(plan):
    return {
        (entry["unit_index"], entry["kind"]): entry["reason"] for entry in plan.totals["dropped"]
    }


def test_a_plan_in_full_drops_nothing_and_counts_what_it_has():
    pairs = [stimulus(unit, name) for unit in (0, 1) for name in ("mei", "rf")]
    plan = make(pairs, natural=["n0"])
    assert plan.totals["dropped"] == []
    assert plan.totals["n_images"] == len(plan.images) == 5
    assert plan.totals["n_targets"] == 2
    assert plan.totals["n_trials"] == len(plan.trials) == 5 * plan.totals["n_repeats"]
    assert {(row["unit_index"], row["kind"]) for row in plan.targets} == {
        (unit, name) for unit in (0, 1) for name in ("mei", "rf")
    }


def test_a_natural_image_has_the_luminance_of_its_pixels():
    plan = make([stimulus(0, "mei"), stimulus(0, "rf")], natural=["n0"])
    (row,) = [row for row in plan.images if row["kind"] == "natural"]
    assert row["mean_cd_m2"] == pytest.approx(float(CURVE.table[100]))
    assert row["sd_cd_m2"] == pytest.approx(0, abs=1e-9)


def test_every_reason_is_told_of_the_stimulus_that_it_is_true_of():
    pairs = [
        stimulus(0, "mei"),
        stimulus(0, "rf", ok=False, reason="too bright"),
        stimulus(1, "mei"),  # not displayed
        stimulus(1, "rf"),
        stimulus(2, "mei", ok=False),
        stimulus(2, "rf"),
        stimulus(3, "mei"),
        stimulus(3, "rf"),
        stimulus(3, "rf", display="second"),
    ]
    plan = make(pairs, unshown={2})
    assert dropped(plan) == {
        (0, "rf"): "not displayable: too bright",
        (1, "mei"): planning.NOT_READY,
        (1, "rf"): planning.WITHOUT_MEI,
        (2, "mei"): "not displayable",
        (2, "rf"): planning.NOT_SHOWABLE,
        (3, "rf"): "another image of this kind and variant is planned",
    }
    assert sorted((row["unit_index"], row["image_hash"]) for row in plan.targets) == [
        (0, "mei0d"),
        (3, "mei3d"),
        (3, "rf3second"),
    ]


def test_what_has_no_time_is_dropped_from_the_last_target_on():
    pairs = [stimulus(unit, name) for unit in range(40) for name in ("mei", "rf")]
    plan = make(pairs, natural=["n0", "n1"], repeats=10)
    kept = {row["unit_index"] for row in plan.targets}
    assert kept == set(range(len(kept)))
    late = {unit for (unit, _), reason in dropped(plan).items() if reason == "no time"}
    assert late - {None} == set(range(40)) - kept


def test_without_any_mei_there_is_no_plan():
    with pytest.raises(DataError, match=r"no MEI can be shown.*found 2 images"):
        make([stimulus(0, "mei", ok=False), stimulus(0, "rf")])
