"""Another plan of the same scan computes what is new, and nothing that is there."""

import numpy as np
import pytest
from short_loops import CHEAP, TARGETS

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def images_of(plan):
    """Return MEI of every unit of a plan, and where it is stored."""
    from schemas import closed_loop, mei

    batches = {
        tuple(row[name] for name in mei.MEI.primary_key): row
        for row in (closed_loop.PlanTask.Display & {"plan_id": plan}).to_dicts()
    }
    found = {}
    for row in batches.values():
        key = {name: row[name] for name in mei.MEI.primary_key}
        arrays = (mei.MEI & key).fetch1()
        for unit in (mei.MEI.Unit & key).to_dicts():
            found[unit["unit_index"]] = {
                "image": arrays["images"].load()[unit["image_row"]],
                "trace": arrays["trace"].load()[:, unit["image_row"]],
                "activation": unit["activation"],
            }
    return found


@pytest.fixture
def ascents(monkeypatch, compute):
    """Count the units that are ascended, from when nothing is left of other tests."""
    from pipeline import mei

    compute()
    counted = []
    plain = mei.synthesize

    def counting(model, units, **named):
        counted.extend(units.tolist())
        return plain(model, units, **named)

    monkeypatch.setattr(mei, "synthesize", counting)
    return counted


def test_other_minutes_and_natural_images_make_a_plan_and_nothing_else(
    database, scan, compute, ascents
):
    from schemas import closed_loop
    from schemas.decisions import tasks
    from workers.steering.replan import replan

    first = tasks.register_loop(scan)
    made = replan(scan, minutes=6, natural=2)
    assert made["plan_id"] != first["plan_id"]
    assert compute() == {
        "closed_loop.Plan",
        "closed_loop.PlanPower",
        "closed_loop.AnalysisPlan",
    }
    plan = (closed_loop.Plan & {"plan_id": made["plan_id"]}).fetch1()
    assert plan["total_s"] < 6 * 60
    shown = (closed_loop.Plan.Image & {"plan_id": made["plan_id"]}).to_arrays("kind").tolist()
    assert shown.count("natural") == 2
    assert ascents == []


def test_other_targets_copy_the_images_of_those_that_stay(
    database, scan, compute, ascents, undecided
):
    from schemas import closed_loop, mei
    from schemas.decisions import tasks
    from workers.steering.decide import decide, targets
    from workers.steering.replan import replan

    ascent = {**CHEAP["mei"], "params": {"steps": 6}}  # no image of these is there
    other = {**CHEAP, "mei": ascent}
    first = tasks.register_loop(scan, other, targets=TARGETS, minutes=8)
    compute()
    before = images_of(first["plan_id"])
    assert sorted(ascents) == sorted(before)
    ascents.clear()
    decide(targets(scan)[-1], include=True, why="one more", who="anna")
    made = replan(scan, targets=7)
    new = compute()
    assert {"mei.Targets", "mei.MEI", "closed_loop.Plan"} <= new
    assert not {"model.TrainedModel", "model.Evaluation", "dataset.Dataset"} & new
    after = images_of(made["plan_id"])
    assert len(after) == 7
    assert ascents == list(set(after) - set(before))
    for unit, old in before.items():
        for name, value in old.items():
            np.testing.assert_array_equal(after[unit][name], value)
    shown = closed_loop.PlanTask.Display & {"plan_id": made["plan_id"]}
    rows = mei.MEI.Unit & shown.proj() & {"unit_index": ascents[0]}
    key = (mei.MEI & rows).fetch1("KEY")
    units = (mei.MEI.Unit & key).to_arrays("unit_index").tolist()
    ascents.clear()
    table = mei.MEI()
    again = table.make_compute(key, *table.make_fetch(key))  # as `recompute` does
    assert sorted(ascents) == sorted(units)
    for row in again[4]:
        stored = after[row["unit_index"]]["image"]
        np.testing.assert_allclose(again[0][row["image_row"]], stored, atol=0.02)


def test_fewer_kinds_are_planned_of_what_is_there(database, scan, compute, ascents):
    from schemas import closed_loop
    from workers.steering.replan import replan

    made = replan(scan, kinds=["rf", "mei"], targets=TARGETS)
    compute()
    kinds = (closed_loop.Plan.Target & {"plan_id": made["plan_id"]}).to_arrays("kind")
    assert set(kinds) == {"mei", "rf"}
    assert ascents == []


def test_what_cannot_be_planned_is_refused(database, scan):
    from workers.steering.replan import exclude_fields, replan

    with pytest.raises(ValueError, match=r"no kind of stimulus 'rff'; there are \["):
        replan(scan, kinds=["mei", "rff"])
    with pytest.raises(ValueError, match="kinds must name 'mei'"):
        replan(scan, kinds=["rf"])
    with pytest.raises(ValueError, match="natural >= 0"):
        replan(scan, natural=-1)
    with pytest.raises(DataError, match="no such scan"):
        replan({**scan, "scan_idx": 9})
    with pytest.raises(DataError, match=r"no such field; found 7; expected \[0\]"):
        exclude_fields(scan, [7], why="dark", who="anna")
