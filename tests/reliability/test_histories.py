"""R11: no history of claims, renewals and commits breaks what a lease promises."""

import datetime

import pytest
from histories import Event, judge, judge_attempts, write
from invariants import check_rows

pytestmark = pytest.mark.tables


@pytest.mark.parametrize(
    "seeds",
    [range(2), pytest.param(range(30), marks=pytest.mark.reliability)],
    ids=["quarter", "full"],
)
def test_r11_random_histories_are_as_promised(storm_home, record, seeds):
    from fleet import Fleet

    totals = dict.fromkeys(("claim", "renewed", "unrenewed", "commit", "refused"), 0)
    for seed in seeds:
        fleet = Fleet(storm_home)
        try:
            log = write(fleet, seed=seed)
            attempts = fleet.attempts()
            assert judge(log, attempts) == [], f"seed {seed}"
            rows = [a["job_key"] for a in attempts if a["outcome"] == "done"]
            check_rows([int(key.split(":")[1].strip("} ")) for key in rows])
        finally:
            fleet.close()
        for event in log:
            if event.kind in totals:
                totals[event.kind] += 1
    assert totals["commit"] >= 5 * len(seeds)
    assert totals["refused"] >= len(seeds)  # else nothing was put to the test
    record({"histories": len(seeds), **totals})


def test_the_judge_sees_what_must_not_be():
    def event(kind, token, at, worker="a"):
        return Event(at, at + 0.1, kind, "job", token, worker)

    def attempt(token, outcome):
        moment = datetime.datetime(2026, 1, 1, 0, 0, token)
        return {"job_id": "job", "token": token, "outcome": outcome, "started_at": moment}

    good = [event("claim", 1, 0.0), event("claim", 2, 1.0, "b"), event("commit", 2, 2.0, "b")]
    assert judge(good, [attempt(1, "lost"), attempt(2, "done")]) == []
    stale = [*good[:2], event("commit", 1, 2.0)]
    assert "older token" in judge(stale, [attempt(1, "done"), attempt(2, "lost")])[0]
    twice = [*good, event("commit", 2, 3.0)]
    assert "two commits" in judge(twice, [attempt(2, "done")])[0]
    renewed = [*good, event("renewed", 1, 3.0)]
    assert "renewed with a token older" in judge(renewed, [attempt(2, "done")])[0]
    assert judge_attempts([attempt(1, "done"), attempt(2, "lost")])
    assert "differ" in judge(good, [])[0]
