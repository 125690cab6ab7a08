"""A folder on the rig while the recording goes on: what is there, missing, growing, refused."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, Finding
from pipeline.recording.bundle import STEPS, open_folder
from pipeline.recording.coverage import eye_video
from pipeline.recording.folder import Bundle
from pipeline.recording.summary import LABEL, finding_lines, summarize, wrapped

STATES = ("there", "growing", "missing", "absent", "refused", "waiting")
_LABELS = {
    "movie": ("frames", "fields", "rate", "pixel", "time"),
    "monitor": ("monitor",),
    "clocks": ("clocks",),
    "trials": ("trials", "repeats", "images"),
    "eye": ("pupil", "gaze"),
    "photodiode": ("photodiode",),
    "running": ("running",),
}
_OPTIONAL = {
    "clocks": ("clocks.csv",),
    "photodiode": ("photodiode.csv",),
    "running": ("treadmill.csv", "running.csv"),
}


@dataclass(frozen=True)
class Row:
    """One stream of a recording: its name, one of `STATES`, and what is known in words."""

    stream: str
    state: str
    text: str


@dataclass(frozen=True)
class Progress:
    """What a folder holds by now.

    Attributes
    ----------
    rows : list of Row
    findings : list of Finding
        Of the streams that were read.
    """

    rows: list[Row]
    findings: list[Finding] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether `inception ingest` would take the folder as it is, and nothing grows."""
        return all(row.state in ("there", "absent") for row in self.rows)

    def lines(self, width: int = 80) -> list[str]:
        """Return plain lines that are at most `width` wide."""
        found = []
        for row in self.rows:
            found += wrapped(row.state.ljust(LABEL - 3) + row.stream, row.text, width, LABEL + 8)
        found += finding_lines(self.findings, width)
        counts = {state: sum(row.state == state for row in self.rows) for state in STATES}
        odd = [
            f"{counts[s]} {s}" for s in ("refused", "missing", "growing", "waiting") if counts[s]
        ]
        last = "ready for ingest" if self.ready else f"not ready: {', '.join(odd)}"
        return [*found, last]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON types."""
        return {
            "ready": self.ready,
            "streams": {row.stream: {"state": row.state, "text": row.text} for row in self.rows},
            "findings": [
                {"name": one.name, "text": one.text, "remedy": one.remedy} for one in self.findings
            ],
        }


def check_folder(folder: str | Path, *, wait_s: float = 2.0) -> Progress:
    """Say which streams of a recording are there, missing, growing, or would be refused.

    Parameters
    ----------
    folder : path
        Of a recording that may be half finished.
    wait_s : float
        Files whose size differs after this time (s) are growing; 0 looks once.

    Returns
    -------
    Progress

    Raises
    ------
    DataError
        If there is no such folder.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DataError("no such folder", file=folder)
    before = _sizes(root)
    if wait_s > 0 and before:
        time.sleep(wait_s)
    after = _sizes(root)
    growing = {name: after[name] - before.get(name, 0) for name in after}
    growing = {name: more for name, more in growing.items() if more}
    try:
        bundle = open_folder(root)
    except DataError as error:
        there = (root / "recording.json").exists()
        rows = [Row("recording", "refused" if there else "missing", _without(root, error))]
        return Progress(rows + _only_files(after, growing))
    rows = [Row("recording", "there", dict(summarize(bundle).facts)["recording"])]
    for stream, step in STEPS.items():
        if row := _look(bundle, stream, step, growing):
            rows.append(row)
    return Progress(rows, bundle.findings)


def _sizes(root: Path) -> dict[str, int]:
    found = {}
    for path in sorted(root.rglob("*")):
        try:
            if path.is_file():
                found[path.relative_to(root).as_posix()] = path.stat().st_size
        except OSError:  # it was renamed since: the second look finds it
            continue
    return found


def _only_files(sizes: dict[str, int], growing: dict[str, int]) -> list[Row]:
    """Name files of which nothing can be said without recording.json."""
    return [
        Row(name, "growing" if name in growing else "waiting", f"{size / 1e6:,.2f} MB")
        for name, size in sizes.items()
        if "/" not in name and name != "recording.json"
    ]


def _look(bundle: Bundle, stream: str, step: Any, growing: dict[str, int]) -> Row | None:
    """Run one step and say how it went; None for one that is no stream and finds no fault."""
    needed, absent = _needed(bundle, stream)
    if absent:
        return Row(stream, "absent", absent)
    missing = [name for name in needed if not (bundle.folder / name).exists()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return Row(stream, "missing", ", ".join(missing[:5]) + more)
    said = len(bundle.findings)
    try:
        step(bundle)
    except DataError as error:
        del bundle.findings[said:]
        text = _without(bundle.folder, error)
        if more := _growth(bundle, stream, needed, growing):
            return Row(stream, "growing", f"{more}; so far: {text}")
        return Row(stream, "refused", text)
    facts = dict(summarize(bundle).facts)
    text = "; ".join(facts[label] for label in _LABELS.get(stream, ()) if label in facts)
    if stream not in _LABELS:
        return None
    more = _growth(bundle, stream, needed, growing)
    return Row(stream, "growing" if more else "there", f"{more}; {text}" if more else text)


def _needed(bundle: Bundle, stream: str) -> tuple[list[str], str]:
    """Return the files that a step reads, and why there are none if it is optional."""
    folder, said = bundle.folder, bundle.recording
    if stream in _OPTIONAL:
        found = [name for name in _OPTIONAL[stream] if (folder / name).exists()]
        return found, "" if found or stream == "clocks" else "no " + " or ".join(_OPTIONAL[stream])
    if stream == "movie":
        imaging = said.imaging
        names = [imaging.traces, imaging.masks] if imaging.traces else list(imaging.files)
        return [n for n in names if n] + ([] if imaging.traces else ["frame_times.csv"]), ""
    if stream == "monitor":
        return [said.monitor.calibration], ""
    if stream == "trials":
        return ["trials.csv"], ""
    if stream == "eye":
        if (folder / "pupil.csv").exists():
            return ["pupil.csv"], ""
        try:
            video = eye_video(folder)
        except DataError:  # several: the step itself says so
            return [], ""
        return (["eye_times.csv", video.name], "") if video else ([], "no pupil.csv or eye video")
    return [], ""


def _growth(bundle: Bundle, stream: str, needed: list[str], growing: dict[str, int]) -> str:
    """Say how much the files of a stream have grown, or the movie that it is compared with."""
    names = [name for name in growing if name in needed]
    if stream == "trials":
        names += [name for name in growing if name.startswith("images")]
    if not names:
        movie = _needed(bundle, "movie")[0]
        names = [name for name in growing if name in movie] if stream != "monitor" else []
    return ", ".join(f"{name} {growing[name] / 1e6:+,.2f} MB" for name in names[:3])


def _without(root: Path, error: DataError) -> str:
    return str(error).replace(f"{root}/", "")
