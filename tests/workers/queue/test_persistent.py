"""How long a statement waits for a server that is down; no database is needed."""

import time

import pytest

from workers.database import server
from workers.queue.persistent import Persistent


@pytest.fixture
def down(monkeypatch):
    """A connection to a server that is down, with the number of tries."""
    monkeypatch.setattr(server, "revive", lambda connection: None)

    class Down:
        tries = 0

        def query(self, *_):
            self.tries += 1
            raise ConnectionError("refused")

    return Down()


def test_a_statement_has_one_try_once_nothing_is_waited_for(down):
    statements = Persistent(down)
    statements.give_up_after(0.0)
    with pytest.raises(server.Stopped):
        statements.execute("SELECT 1")
    assert down.tries == 1


def test_a_deadline_counts_instead_of_the_word_to_stop(down):
    """A worker that was told to stop gives its jobs back all the same."""
    statements = Persistent(down, stop=lambda: True)
    with pytest.raises(server.Stopped):
        statements.rows("SELECT 1")
    assert down.tries == 1
    statements.give_up_after(0.5)
    began = time.monotonic()
    with pytest.raises(server.Stopped):
        statements.rows("SELECT 1")
    assert down.tries > 3
    assert 0.5 <= time.monotonic() - began < 5.0


def test_a_lost_connection_is_counted_when_it_comes_back(down, monkeypatch):
    statements = Persistent(down)

    def once():
        if not statements.reconnects:
            raise ConnectionError("gone")
        return "there"

    assert statements.persist(once) == "there"
    assert statements.reconnects == 1
