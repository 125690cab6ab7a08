"""The process that computes: started by a slot, takes jobs over a socket, dies with its parent.

`workers.compute.slot` starts it with the number of the socket as first argument. A segmentation
fault, an endless loop or eaten memory ends this process and no other.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve jobs until the socket closes."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides what a signal means
    faulthandler.enable()
    _die_with(parent)
    link = Connection(int(sys.argv[1]))
    orders: queue.SimpleQueue = queue.SimpleQueue()
    setup = link.recv()
    threading.Thread(target=_listen, args=(link, orders), daemon=True).start()
    logging.basicConfig(level=setup["log_level"], format="%(name)s: %(message)s")
    try:
        tasks = _open(setup)
    except Exception as error:
        from workers.database.server import is_connection_error

        lost = is_connection_error(error)  # then a fresh process will have better luck
        time.sleep(1.0 if lost else 0.0)
        link.send(("broken", lost, _one_line(error), traceback.format_exc()))
        os._exit(1)
    link.send(("ready",))
    while True:
        claim = orders.get()
        answer = _work(tasks[claim.table_name], claim, setup)
        link.send(answer)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        with contextlib.suppress(OSError):  # if memory runs out, this process goes first
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    if os.getppid() != parent:
        os._exit(1)


def _listen(link: Connection, orders: queue.SimpleQueue) -> None:
    """Pass orders on; the end of the socket is the end of the worker and so of this process."""
    while True:
        try:
            orders.put(link.recv())
        except (EOFError, OSError):
            os._exit(1)


def _open(setup: dict[str, Any]) -> dict[str, Any]:
    from schemas.catalog import read_at_once
    from schemas.stored import identity
    from workers.database import opening, server
    from workers.queue import order, tables

    connection = server.wait_for_server(setup["home"])
    with read_at_once(connection, opening.databases(setup["prefix"])):
        loaded = order.load(setup["source"], setup["prefix"])
        tables.activate(setup["prefix"])
    identity.learn(connection, setup["prefix"])
    return loaded.tasks


def _work(task: Any, claim: Any, setup: dict[str, Any]) -> tuple:
    from workers.compute import environment
    from workers.compute.faults.classes import classify
    from workers.compute.make import make
    from workers.database import server
    from workers.queue import claims

    started = time.monotonic()
    try:
        with environment.device_of(task.queue):
            fresh = make(task.table(), claim, setup["worker"], setup["environment"])
    except claims.Fenced:
        return ("fenced", time.monotonic() - started)
    except BaseException as error:
        lost = server.is_connection_error(error) or not isinstance(error, Exception)
        return ("failed", classify(error), _one_line(error), traceback.format_exc(), lost)
    return ("done", fresh, time.monotonic() - started)


def _one_line(error: BaseException) -> str:
    from pipeline.errors import DataError

    text = " ".join(str(error).split())
    if isinstance(error, DataError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
