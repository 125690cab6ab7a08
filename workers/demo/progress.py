"""What the demo says while it works: one line a step, on a terminal or into a file.

A terminal shows a bar that moves; a file gets a line when a step begins, when it ends, and every
`QUIET_S` in between, so that it is never silent for long. No line is longer than 80 columns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

QUIET_S = 15.0
WIDTH = 80
NAME_WIDTH, NOTE_WIDTH, BAR_WIDTH = 22, 34, 10  # with spinner, time and gaps 79 columns


class Steps:
    """The steps of a demo as they happen; a context that begins and ends the display.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to write; whether it is a terminal decides how.
    clock : callable
        Seconds, of which only differences count.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console()
        self._clock = clock
        self._live = _bars(self.console) if self.console.is_terminal else None
        self._start = self._said = clock()
        self._name, self._note = "", ""
        self._task: Any = None
        self._ended = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> Steps:
        if self._live is not None:
            self._live.start()
        else:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[Steps]:
        """Begin a step, and end it with what it noted last."""
        with self._lock:
            self._name, self._note = name, ""
            if self._live is not None:
                self._task = self._live.add_task(name, total=None, note="")
            else:
                self._line("begins")
        yield self
        with self._lock:
            if self._live is not None:
                self._live.update(self._task, total=1, completed=1, note=_cut(self._note or "done"))
            else:
                self._line(self._note or "done")
            self._name = ""

    def note(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Say how far the step is; `done` of `total` moves the bar."""
        with self._lock:
            self._note = text
            if self._live is not None:
                self._live.update(self._task, completed=done, total=total, note=_cut(text))

    def frames(self) -> Callable[[int, int], None]:
        """Return what a recording calls with frames done and frames in all."""
        start = self._clock()

        def show(done: int, total: int) -> None:
            left = (self._clock() - start) * (total - done) / max(done, 1)
            text = f"{done}/{total} frames"
            self.note(text if done >= total else f"{text}, {duration(left)} left", done, total)

        return show

    def say(self, text: str) -> None:
        """Write a line of its own."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def tick(self) -> None:
        """Write into a file how far the step is, if nothing was written for `QUIET_S`."""
        with self._lock:
            if self._name and self._clock() - self._said >= QUIET_S:
                self._line(self._note or "goes on")

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            self.tick()

    def _line(self, text: str) -> None:
        self._said = self._clock()
        minutes, seconds = divmod(int(self._said - self._start), 60)
        self.say(f"{minutes:3d}:{seconds:02d} {self._name}: {text}"[:WIDTH])


def _bars(console: Console) -> Progress:
    def column(width: int) -> Column:
        return Column(width=width, no_wrap=True, overflow="ellipsis")

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=column(NAME_WIDTH)),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[note]}", table_column=column(NOTE_WIDTH), markup=False),
        TimeElapsedColumn(),
        console=console,
    )


def _cut(text: str) -> str:
    return text if len(text) <= NOTE_WIDTH else text[: NOTE_WIDTH - 1] + "…"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(61.2), duration(300)
    ('61 s', '5 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
