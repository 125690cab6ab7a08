"""Loops that are stopped, resumed and removed beside others of the same scan."""

import pytest

from pipeline.errors import DataError

pytestmark = pytest.mark.tables
TARGETS = iter((4, 3, 2, 1))


@pytest.fixture
def pending(refresh, scan, ledger, compute):
    """A second loop of targets that nobody has asked for before, not computed, with its jobs."""
    from schemas import closed_loop
    from schemas.decisions import tasks
    from workers.steering.replan import replan

    compute()
    first = tasks.register_loop(scan)
    _, book = refresh()  # what other tests of this process have left is set aside
    book.execute(
        f"UPDATE {ledger.Job.full_table_name} SET status='ignore' "
        "WHERE status IN ('pending', 'running', 'error')"
    )
    second = replan(scan, targets=next(TARGETS))
    refresh()
    yield first, second
    closed_loop.StoppedLoop.delete(prompt=False)  # of a test that failed
    compute()


def states(ledger):
    """Count the jobs by table and state; those that were set aside before have no class."""
    found = {}
    for row in (ledger.Job & "NOT (status='ignore' AND error_class IS NULL)").to_dicts():
        place = row["table_name"], row["status"]
        found[place] = found.get(place, 0) + 1
    return found


def test_a_stopped_loop_has_no_job_taken_until_it_is_resumed(refresh, ledger, pending):
    import datajoint as dj

    from workers.insight import status
    from workers.queue.lease import Ledger
    from workers.steering.loops import find_loop, resume, stop

    _, second = pending
    before = states(ledger)
    assert before["mei.Targets", "pending"] == 1
    loop = find_loop(second["plan_id"])
    assert loop == {name: second[name] for name in loop}
    counts = stop(loop, who="anna")
    waiting = sum(n for (_, state), n in before.items() if state == "pending")
    assert counts == {"waiting": waiting, "running": 0}
    plan, book = refresh()  # as workers do
    assert not {state for _, state in states(ledger)} & {"pending", "running"}
    worker = Ledger(dj.conn(), "w0")
    assert worker.claim([task.name for task in plan]) is None
    (ahead,) = [
        row
        for row in status.status(book, plan)["ahead"]["loops"]
        if row["plan_id"] == second["plan_id"]
    ]
    assert ahead["stopped"] == "anna"
    assert resume(loop) == counts["waiting"]
    assert states(ledger) == before
    with pytest.raises(DataError, match="the loop is not stopped"):
        resume(loop)


def test_what_another_loop_waits_for_is_not_stopped_with_one(refresh, ledger, pending):
    from workers.steering.loops import find_loop, resume, stop
    from workers.steering.replan import replan

    _, second = pending
    third = replan(
        {name: second[name] for name in ("animal_id", "session", "scan_idx")}, minutes=7.25
    )
    refresh()
    before = states(ledger)
    loop = find_loop(second["plan_id"])
    assert stop(loop, who="anna")["waiting"] == 0  # the third is made of the same images
    assert states(ledger) == before
    other = find_loop(third["plan_id"])
    assert stop(other, who="anna")["waiting"] == before["mei.Targets", "pending"]
    assert resume(loop) == before["mei.Targets", "pending"]
    resume(other)


def test_a_running_job_ends_or_is_stopped_as_one_asks(refresh, ledger, pending):
    import datajoint as dj

    from workers.queue.claims import Fenced, fence
    from workers.queue.lease import Ledger
    from workers.steering.loops import find_loop, resume, stop

    _, second = pending
    loop, book = find_loop(second["plan_id"]), Ledger(dj.conn(), "w1")
    book.register(pid=1, slots=1, queues="")
    claim = book.claim(["mei.Targets"])
    assert stop(loop, who="anna")["running"] == 1
    assert states(ledger)["mei.Targets", "running"] == 1
    assert stop(loop, who="anna", running=True)["running"] == 1
    with pytest.raises(Fenced), dj.conn().transaction:
        fence(dj.conn(), claim, book.worker, 1.0)
    assert resume(loop) >= 1
    assert states(ledger)["mei.Targets", "pending"] == 1


def test_removing_one_of_two_loops_leaves_the_other_whole(refresh, ledger, scan, compute):
    import schemas
    from schemas import closed_loop, experiment, mei, model, stimulus
    from schemas.decisions import tasks
    from workers.database import collect
    from workers.steering.loops import find_loop
    from workers.steering.remove import remove
    from workers.steering.replan import replan

    compute()
    everything = {table.full_table_name: table for table in schemas.tables()}

    def counted():
        return {name: len(table()) for name, table in everything.items()}

    def stored():
        _, book = refresh()
        return collect.collect(book, age_s=0)

    before, files = counted(), stored()
    tasks.register_loop(scan)
    second = replan(scan, targets=5, kinds=["mei", "rf"])
    compute()
    both = counted()
    loop = find_loop(second["plan_id"])
    told = remove(loop)
    assert counted() == both
    assert told["tables"]["closed_loop.Loop"] == 1
    assert told["tables"]["mei.MEI"] == 3
    assert "model.TrainedModel" not in told["tables"]
    assert told["bytes"] > 0
    done = remove(loop, delete=True)
    assert done == {**told, "deleted": True}
    after = counted()
    stay = (closed_loop.Recipe, closed_loop.PlanMethod, mei.TargetRule)
    kept = {table.full_table_name for table in stay}
    kept |= {table.full_table_name for table in (stimulus.Image, stimulus.ImageSet)}
    assert {name for name in after if after[name] != before[name]} <= kept
    assert stored()["orphans"] == files["orphans"]
    assert compute() == set()  # what the other loop has is all there
    with pytest.raises(DataError, match="no such plan"):
        find_loop(second["plan_id"])
    assert not ledger.Job & {"table_name": "mei.MEI"}
    assert experiment.Scan & scan
    assert model.TrainedModel()


def test_a_loop_that_is_not_there_is_an_error(database, scan):
    from workers.steering.loops import find_loop
    from workers.steering.replan import replan

    replan(scan, minutes=4)

    for name, message in (
        ("56/1", "names no loop"),
        ("99/1/1", "no such scan"),
        ("0123456789abcdef", "no such plan"),
        ("56/1/1", "loops are registered on 56/1/1.*name it by its plan"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            find_loop(name)
        assert "\n" not in str(caught.value)
