"""R1 and R2: kill storms, in which DataJoint's own reservations lose keys."""

import pytest
from servers import is_ours
from storms import FULL, QUARTER, storm

pytestmark = pytest.mark.tables

SIZES = [
    pytest.param(QUARTER, id="quarter"),
    pytest.param(FULL, id="full", marks=pytest.mark.reliability),
]


@pytest.mark.parametrize("size", SIZES)
def test_r1_killed_workers_lose_nothing(fleet, size, record):
    record(storm(fleet, size))


@pytest.mark.parametrize("size", SIZES)
def test_r2_killed_workers_and_servers_lose_nothing(fleet, server, size, record):
    figures = storm(fleet, size, server=server)
    record(figures)
    assert len(figures["back_s"]) == size.restarts
    assert max(figures["back_s"]) <= 10.0


def test_a_server_that_others_use_is_not_killed(monkeypatch):
    monkeypatch.setenv("DJ_HOST", "db.example.org")
    assert not is_ours()
    monkeypatch.setenv("DJ_HOST", "127.0.0.1")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert not is_ours()
