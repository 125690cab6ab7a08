"""Cells that a person includes or excludes, from the decision to the verdict."""

import pytest
from short_loops import CHEAP, TARGETS

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def plan_units(plan):
    from schemas import closed_loop

    rows = (closed_loop.Plan.Target & {"plan_id": plan}).to_dicts(order_by="target_rank")
    return {row["unit_index"]: row["target_rank"] for row in rows}


def test_decisions_come_before_the_rule_and_hold_through_day_2(
    database, scan, compute, answer, undecided, tmp_path
):
    from schemas import closed_loop, mei
    from schemas.decisions import tasks
    from workers.report.context import LoopPage
    from workers.report.day1 import selection
    from workers.steering.decide import decide, decisions, targets

    first = tasks.register_loop(scan)
    before = targets(scan)
    assert [row["kept"] for row in before] == [True] * TARGETS + [False] * 2
    best, worst = before[0], before[-1]
    old = plan_units(first["plan_id"])
    decide(best, include=False, why="a vessel lies  over it", who="anna")
    in_data = {name: worst[name] for name in ("dataset_hash", "unit_index")}
    decide(in_data, include=True, why="the experiment is about it", who="ben")
    assert [(row["unit"], row["included"], row["counts"]) for row in decisions(scan)] == [
        (worst["unit"], True, True),
        (best["unit"], False, True),
    ]
    assert [row["unit"] for row in targets(scan) if row["differs"]] == [best["unit"], worst["unit"]]
    assert tasks.register_loop(scan) == first  # a plan that exists keeps its targets

    second = tasks.register_loop(scan, again=True)
    assert second["plan_id"] != first["plan_id"]
    assert "closed_loop.Plan" in compute()
    assert plan_units(first["plan_id"]) == old
    chosen = plan_units(second["plan_id"])
    assert best["unit_index"] not in chosen
    assert chosen[worst["unit_index"]] == 0
    assert len(chosen) == TARGETS
    after = {row["unit"]: row for row in targets(scan)}
    assert after[best["unit"]]["reason"] == "excluded by hand: a vessel lies over it (anna)"
    assert after[worst["unit"]]["reason"] == (
        "kept: included by hand: the experiment is about it (ben)"
    )
    assert not any(row["differs"] for row in after.values())

    loop = {name: second[name] for name in closed_loop.Loop.primary_key}
    told = selection(LoopPage((closed_loop.Loop & loop).fetch1(), tmp_path, "loop"))
    ((title, table),) = told.tables
    assert title == "Decided by hand, before the rule"
    assert table[["unit", "decision", "who"]].to_numpy().tolist() == sorted(
        [[best["unit"], "excluded", "anna"], [worst["unit"], "included", "ben"]]
    )

    day2 = answer(second, 2)
    for table in (closed_loop.Outcome.Unit, closed_loop.UnitMatch.Pair):
        assert table & day2
    scored = (closed_loop.Outcome.Unit & day2).to_arrays("unit_index").tolist()
    assert best["unit_index"] not in scored
    assert worst["unit_index"] in scored
    assert len(mei.DecisionSet()) == 1


def test_the_last_decision_counts_and_none_leaves_it_to_the_rule(database, scan, undecided):
    from schemas import mei
    from workers.steering.decide import decide, decisions, targets

    unit = targets(scan)[0]
    for include in (False, True, False):
        decide(unit, include=include, why=f"{include}", who="anna")
    history = [row for row in decisions(scan) if row["why"] in ("True", "False")]
    assert [row["included"] for row in history] == [False, True, False]
    assert [row["counts"] for row in history] == [True, False, False]
    assert all(row["decided_at"] is not None for row in history)
    assert [row["included"] for row in mei.TargetDecision.newest(scan)] == [0]
    decide(unit, include=None, why="seen again", who="ben")
    assert mei.TargetDecision.newest(scan) == []


def test_a_loop_that_is_not_planned_is_not_taken_for_one_of_other_decisions(
    database, scan, undecided
):
    from schemas.decisions import tasks
    from workers.steering.decide import decide, targets

    first = tasks.register_loop(scan, minutes=5, again=True)
    assert tasks.register_loop(scan, minutes=5, again=True) == first
    decide(targets(scan)[1], include=False, why="dim", who="anna")
    second = tasks.register_loop(scan, minutes=5, again=True)
    assert second["plan_id"] != first["plan_id"]
    assert tasks.register_loop(scan, minutes=5, again=True) == second


def test_what_cannot_be_decided_is_refused_in_one_line(database, scan, undecided):
    from schemas.decisions import tasks
    from workers.steering.decide import decide, decisions, targets, unit_key

    unit = targets(scan)[0]
    missing = {**unit, "unit_id": 999}
    for change, message in (
        ({"unit": missing}, "unit: no such unit; found 999"),
        ({"unit": {"unit": "7"}}, "names no cell"),
        ({"why": " "}, "why: a decision needs a reason and a name; found 0 characters"),
        ({"who": "x" * 65}, "who: .* found 65 characters; expected 1 to 64"),
    ):
        given = {"unit": unit, "why": "dim", "who": "anna", **change}
        with pytest.raises(DataError, match=message) as caught:
            decide(given.pop("unit"), include=False, **given)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"no such scan.*99/1/1"):
        decisions({"animal_id": 99, "session": 1, "scan_idx": 1})
    with pytest.raises(DataError, match=r"no such unit.*found 12"):
        unit_key(scan, 12)
    for row in targets(scan)[:4]:
        decide(row, include=True, why="all of them", who="anna")
    with pytest.raises(DataError, match=r"more units are targets by hand.*found 3; expected 4"):
        tasks.register_loop(scan, {**CHEAP, "plan": {"n_natural": 3}}, targets=3)
