"""When a worker looks at what; moments are numbers here, no clock and no database."""

from workers.compute.options import Options
from workers.compute.schedule import Schedule


def schedule(**options):
    made = Schedule(Options(**options))
    made.begin(100.0)
    return made


def test_a_run_without_a_duration_is_never_over():
    assert not schedule().is_over(1e12)
    assert not schedule(run_duration=10.0).is_over(110.0)
    assert schedule(run_duration=10.0).is_over(110.1)
    assert schedule(run_duration=0.0).is_over(100.1)


def test_expired_leases_are_looked_at_twice_in_a_lease():
    made = schedule(lease_s=30.0)
    assert [made.reap_is_due(now) for now in (100.0, 110.0, 115.0, 115.1, 120.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_full_queue_is_claimed_from_at_once_and_an_empty_one_after_a_pause():
    made = schedule(sleep_duration=2.0)
    assert made.look_is_due(100.0)
    made.claimed(all_busy=True)
    assert made.claim_is_due(100.1)
    made.claimed(all_busy=False)
    assert not made.claim_is_due(100.2)
    assert made.claim_is_due(102.1)
    made.job_ended()  # its row may have made something possible
    assert made.claim_is_due(100.3)


def test_tables_after_a_new_row_are_refreshed_but_not_all_the_time():
    made = schedule()
    assert not made.refresh_is_due(100.0)
    made.row_made(["a", "b"])
    assert made.refresh_is_due(100.0)
    assert made.take_dirty() == {"a", "b"}
    assert not made.refresh_is_due(100.0)
    made.refreshed(100.0, 100.4)  # two seconds of pause after 0.4 of work
    made.row_made(["a"])
    assert not made.refresh_is_due(102.3)
    assert made.refresh_is_due(102.5)


def test_jobs_that_nobody_waits_for_are_looked_for_before_the_next_claim():
    made = schedule()
    made.refreshed(100.0, 100.4)
    made.settled(["plan"])
    assert made.refresh_is_due(100.5)
    assert made.take_dirty() == {"plan"}
    made.missed(["plan"])  # another worker was at it: as patient as ever
    assert not made.refresh_is_due(100.6)


def test_all_tables_are_looked_at_once_after_the_last_row():
    made = schedule()
    assert not made.take_ended()
    made.row_made(["a"])
    assert made.take_ended()
    assert not made.has_dirty
    assert not made.take_ended()


def test_looks_in_a_row_that_found_nothing_end_a_worker():
    made = schedule(max_idled_cycle=1)
    made.claimed(all_busy=False)
    made.looked(busy=False)
    assert made.idle
    assert not made.idled_enough
    made.looked(busy=True)
    assert not made.idle
    made.looked(busy=False)
    made.looked(busy=False)
    assert made.idled_enough
    endless = schedule()
    endless.claimed(all_busy=False)
    endless.looked(busy=False)
    assert not endless.idled_enough
