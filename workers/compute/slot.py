"""A place for one job at a time, in a process of its own that is replaced when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any

import psutil

from workers.compute.gpu import Gpu
from workers.queue.claims import Claim

# Python's own modules first, then this program, then its packages, then whatever else its parent
# can import: no file of the working folder, of PYTHONPATH or of a lab's project comes before them
_BEGIN = """
import sys
ours, *others = sys.argv[2:]
first = next((i for i, p in enumerate(sys.path) if p.endswith("-packages")), len(sys.path))
sys.path.insert(first, ours)
sys.path += [path for path in others if path not in sys.path]
from workers.compute.child import main
main()
"""
_START_S = 300.0  # longest time for a process to import everything and connect (s)


class Slot:
    """The parent's end of one computing process.

    Parameters
    ----------
    setup : dict
        `source, prefix, home, worker, environment, log_level`, see `workers.compute.child`.
    environment : dict
        Environment of the process.
    paths : list of str
        Where it finds modules: this program's folder, then others.
    memory : int
        Most resident memory of the process and its children (bytes).
    gpu : Gpu, optional
        The one that its jobs may use.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        environment: dict[str, str],
        paths: list[str],
        memory: int,
        gpu: Gpu | None = None,
    ) -> None:
        self.claim: Claim | None = None
        self.started = 0.0
        self.timeout_s: float | None = None
        self.ready = False
        self.cause: str | None = None  # why this process is about to be killed
        self.gpu = gpu
        if gpu is not None:
            environment = {**environment, "CUDA_VISIBLE_DEVICES": gpu.name}
        self._setup, self._environment, self._memory = setup, environment, memory
        self._paths = paths
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the slot
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._errors.seek(0)
        self._errors.truncate()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BEGIN, str(theirs.fileno()), *self._paths],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=self._environment,
            start_new_session=True,  # Ctrl-C in a terminal is the worker's business
        )
        theirs.close()
        self.link = Connection(ours.detach())
        self.link.send(self._setup)
        self.ready, self.cause, self.born = False, None, time.monotonic()

    @property
    def free(self) -> bool:
        """Whether the process is up and has no job."""
        return self.ready and self.claim is None

    def give(self, claim: Claim, timeout_s: float | None) -> bool:
        """Hand over a job; False if the process is gone."""
        self._errors.seek(0)
        self._errors.truncate()
        self.claim, self.started, self.timeout_s = claim, time.monotonic(), timeout_s
        try:
            self.link.send(claim)
        except OSError:
            return False
        return True

    def finish(self) -> None:
        """Forget the job, and leave the GPU to others."""
        self.claim = None
        if self.gpu is not None:
            self.gpu.release()

    def answer(self) -> tuple:
        """Return what the process says; `("died", kind, message, stack)` if it says nothing."""
        try:
            return self.link.recv()
        except (EOFError, OSError):
            self.process.wait()
            return ("died", *self._post_mortem())

    def _post_mortem(self) -> tuple[str, str, str]:
        code = self.process.returncode
        stack = self.tail()
        if self.cause is not None:
            return self.cause.split(":")[0], self.cause.split(":", 1)[1].strip(), stack
        if code == -signal.SIGILL:
            return "machine", "the processor lacks an instruction that a library uses", stack
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; the system was perhaps out of memory" if name == "SIGKILL" else ""
            return "crash", f"the process was ended by signal {-code} ({name}){hint}", stack
        return "crash", f"the process ended with exit code {code}", stack

    def tail(self, size: int = 4000) -> str:
        """Return the end of what the process printed during its job."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - size))
        return self._errors.read().decode("utf-8", "replace")

    def check(self) -> None:
        """Kill the process if its job takes too long or too much memory."""
        if self.cause is not None:
            return
        elapsed = time.monotonic() - self.started
        if not self.ready and time.monotonic() - self.born > _START_S:
            self.kill(f"timeout: the process was not ready after {_START_S:.0f} s")
        elif self.claim is not None and self.timeout_s and elapsed > self.timeout_s:
            self.kill(f"timeout: took longer than {self.timeout_s:g} s")
        elif self.claim is not None:
            used = self._resident()
            if used > self._memory:
                self.kill(
                    f"memory: {used / 2**30:.1f} GiB used, limit {self._memory / 2**30:.1f} GiB"
                )

    def _resident(self) -> int:
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            total = process.memory_info().rss
            total += sum(child.memory_info().rss for child in process.children(recursive=True))
        return total

    def kill(self, cause: str = "lost: killed by its worker") -> None:
        """Kill the process and whatever it started; its end is seen by `answer`."""
        self.cause = cause
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def replace(self) -> None:
        """Start a new process in place of one that ended or must not be used again."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process and forget its job."""
        self.kill()
        self.process.wait()
        self.link.close()
        self.finish()
