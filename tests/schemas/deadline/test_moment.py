"""A deadline is a moment that moves until the plan is made."""

import datetime
import time

import pytest
from short_loops import TARGETS, in_seconds, made, recipe, show, start_loop, stored, wait_for

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def test_a_deadline_is_the_same_moment_in_every_zone(database, scan, monkeypatch):
    chosen = recipe()
    later = in_seconds(7200).replace(microsecond=0)
    tokyo = later.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    from schemas import clock
    from schemas.decisions import tasks

    loop = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=tokyo.isoformat())
    assert stored(loop) == later.replace(tzinfo=None)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        local = tokyo.replace(tzinfo=None).isoformat()  # as a person there would type it
        again = tasks.register_loop(scan, chosen, deadline=local)
        assert clock.written(stored(loop)) == tokyo.isoformat()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert again == loop
    assert stored(loop) == later.replace(tzinfo=None)


def test_a_deadline_in_the_past_is_refused_in_one_line(database, scan):
    from schemas import closed_loop

    before = len(closed_loop.Loop())
    with pytest.raises(DataError, match="deadline: the deadline is past") as error:
        start_loop(scan, in_seconds(-60))
    assert "\n" not in str(error.value)
    assert len(closed_loop.Loop()) == before


def test_a_deadline_moves_until_the_plan_is_made(database, scan):
    from schemas.decisions import tasks

    chosen = recipe()

    def loop(deadline=None):
        return tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=deadline)

    first = in_seconds(3600).replace(microsecond=0)
    key = loop(first)
    assert loop() == key
    assert stored(key) == first.replace(tzinfo=None)  # not given: as it is
    sooner = in_seconds(3).replace(microsecond=0)
    assert loop(sooner) == key
    assert stored(key) == sooner.replace(tzinfo=None)
    with pytest.raises(DataError, match="is past"):
        loop(in_seconds(-3600))
    show(key["plan_id"], "mei", 0)
    wait_for(sooner)
    assert made(key["plan_id"])
    assert loop(sooner) == key  # the same once more is no change, though it is past
    with pytest.raises(DataError, match="its deadline cannot move"):
        loop(first)
    assert stored(key) == sooner.replace(tzinfo=None)
