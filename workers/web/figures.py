"""The report's figures of day 2, drawn by a process of their own: clicks do not wait for them.

Run as `python -m workers.web.figures PREFIX '{"animal_id": 1, ...}' FOLDER`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from pipeline.jsonfile import read_json

RESULT = "sections.json"
_MOST = 8  # loops whose figures are kept


class Figures:
    """Draws figures when they are asked for, and again when the tables have grown."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._folder: tempfile.TemporaryDirectory | None = None
        self._made: dict[tuple, tuple[Path, subprocess.Popen]] = {}
        self._lock = threading.Lock()

    def look(self, state: tuple, loop: dict[str, Any]) -> dict[str, Any]:
        """Return `state` (`drawing`, `ready` or `failed`), `folder` and `sections` of a loop.

        Parameters
        ----------
        state : tuple
            Loop, and what its figures depend on.
        loop : dict
            Key of `closed_loop.Loop`.
        """
        with self._lock:
            if state not in self._made:
                self._begin(state, loop)
            folder, process = self._made[state]
        if process.poll() is None:
            return {"state": "drawing", "sections": [], "folder": folder}
        if process.returncode:
            lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
            return {"state": "failed", "why": lines[-1] if lines else "", "folder": folder} | {
                "sections": []
            }
        return {"state": "ready", "sections": read_json(folder / RESULT), "folder": folder}

    def _begin(self, state: tuple, loop: dict[str, Any]) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="inception_figures_")
        while len(self._made) >= _MOST:
            old, process = self._made.pop(next(iter(self._made)))
            process.kill()
            process.wait()
            shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        words = [sys.executable, "-m", "workers.web.figures", self._prefix, json.dumps(loop)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*words, str(folder)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._made[state] = folder, process

    def close(self) -> None:
        """End what is being drawn, and remove what was."""
        for _, process in self._made.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        if self._folder is not None:
            self._folder.cleanup()


def draw(prefix: str, loop: dict[str, Any], folder: Path) -> None:
    """Write the figures of day 2 of a loop, and `sections.json` that says what they show."""
    from schemas import closed_loop
    from workers.database import embedded, opening
    from workers.report import day2
    from workers.report.context import LoopPage

    opening.open_made(embedded.connect(), "schemas", prefix)
    page = LoopPage((closed_loop.Loop & loop).fetch1(), folder, "loop")
    sections = [
        section for match in page.presentations() for section in day2.presentation(page, match)
    ]
    content = [
        {
            "title": section.title,
            "remarks": section.remarks,
            "pictures": [
                {"title": picture.title, "file": picture.file, "caption": picture.caption}
                for picture in section.pictures
            ],
        }
        for section in sections
    ]
    (folder / RESULT).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    draw(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
