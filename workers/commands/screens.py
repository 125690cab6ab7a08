"""What a person sees of status, forecast and ancestry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

_LOOPS = 10  # plans whose next step is shown, the newest
_COUNTS = ("done", "due", "running", "error", "ignore")


def status_pane(found: dict[str, Any], by_stage: bool = False) -> Group:
    """Return tables of counts, of running jobs and of workers, and the forecast.

    Parameters
    ----------
    found : dict
        Of `workers.insight.status.status`.
    by_stage : bool
        One line for each stage instead of each table that has rows or work.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [
        f"worker {w['host']}:{w['pid']} ({w['state']}, {w['slots']} slot(s), "
        f"{w['queues'] or 'all queues'}, seen {w['seen_s']:.0f} s ago)"
        for w in found["workers"]
    ]
    lines += [] if lines else ["no workers"]
    lines += ahead_lines(found["ahead"])
    lines += next_lines(found["next"])
    if found["jobs_error"]:
        lines.append(f"{found['jobs_error']} jobs set aside: see `inception errors`")
    if found["jobs_handed_back"]:
        lines.append(
            f"{found['jobs_handed_back']} jobs handed back by a worker whose machine cannot do "
            f"them: {found['machine_fault']}"
        )
    if found["jobs_late"]:
        lines.append(
            f"{found['jobs_late']} jobs ignored: their plan was made without them at its deadline, "
            "or their loop is stopped"
        )
    counts = _stages(found) if by_stage else _tables(found)
    running = [_running(found["running"])] if found["running"] else []
    return Group(counts, *running, *(Text(line) for line in lines))


def next_lines(steps: list[dict[str, Any]]) -> list[str]:
    """Say what comes next of loops whose plan is made (`insight.next_step.next_steps`)."""
    shown = steps[-_LOOPS:]
    lines = [
        f"loop {step['scan']}, plan {step['plan_id']}: {step['state']}"
        + (f"; next: {step['next']}" if step["next"] else "")
        for step in shown
    ]
    return [f"{len(steps) - len(shown)} older plans"] * (len(steps) > len(shown)) + lines


def _grid(*names: str) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        grid.add_column(name, justify="left" if i == 0 else "right")
    return grid


def _tables(found: dict[str, Any]) -> Any:
    grid = _grid("table", "done", "due", "running", "error", "ignored", "s / job")
    for row in found["tables"]:
        if row["done"] or row["due"]:
            seconds = f"{row['seconds']:.2f}" if row["seconds"] is not None else ""
            grid.add_row(row["table"], *(str(row[name] or "") for name in _COUNTS), seconds)
    return grid


def _stages(found: dict[str, Any]) -> Any:
    grid = _grid("stage", "done", "due", "running", "error", "ignored")
    for row in found["stages"]:
        grid.add_row(row["stage"], *(str(row[name] or "") for name in _COUNTS))
    return grid


def _running(jobs: list[dict[str, Any]]) -> Any:
    grid = _grid("running", "since", "left", "try", "worker")
    for job in jobs:
        key = ", ".join(f"{name}={value}" for name, value in job["key"].items())
        left = "?" if job["left_s"] is None else span(job["left_s"]) if job["left_s"] else "overdue"
        where = job["worker"].rsplit("-", 1)[0]
        grid.add_row(
            f"{job['table']} {key}", span(job["elapsed_s"]), left, str(job["attempt"]), where
        )
    return grid


def span(seconds: float) -> str:
    """Write a time span for people: `12 s`, `3 min`, `5.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def ahead_lines(ahead: dict[str, Any]) -> list[str]:
    """Return the forecast, one sentence a line: see `workers.insight.forecast.forecast`."""
    lines = []
    for loop in ahead["loops"]:
        name = f"loop {loop['scan']}"
        deadline = f", deadline {_clock(loop['deadline'])}" if loop["deadline"] else ""
        if loop["stopped"] is not None:
            resume = f"`inception resume {loop['plan_id']}` goes on"
            lines.append(
                f"{name}: stopped by {loop['stopped']}, {loop['jobs']} jobs left; {resume}"
            )
            continue
        if loop["stuck"]:
            until = (
                f"no package before {_clock(loop['deadline'])}, then of what is ready,"
                if loop["deadline"]
                else "no package"
            )
            lines.append(
                f"{name}: {until} while {len(loop['stuck'])} jobs are set aside: {loop['stuck'][0]}"
            )
        elif loop["ready_at"] is None:
            lines.append(f"{name}: no worker serves the queues of {loop['jobs']} jobs{deadline}")
        else:
            late = " LATE: planned then of what is ready" if loop["in_time"] is False else ""
            bound, least = ("not before", "at least ") if loop["unmeasured"] else ("ready at", "")
            known = loop["seconds"] > 0 or not loop["unmeasured"]
            left = f"{least}{span(loop['seconds'])}" if known else "for how long is not known yet"
            lines.append(
                f"{name}: package {bound} {_clock(loop['ready_at'])}{deadline}{late}; "
                f"{loop['jobs']} jobs left, {left}"
            )
        if loop["unmeasured"]:
            lines.append(f"    not measured yet: {', '.join(loop['unmeasured'])}")
    if not ahead["slots"]:
        lines.append("nobody works: the forecast assumes one worker that starts now")
    if ahead["queue_s"] is None:
        lines.append("some queue with jobs is served by no worker")
    elif ahead["queue_s"] > 0:
        lines.append(f"the jobs that are due now take {span(ahead['queue_s'])}")
    return lines or ["nothing is to be computed"]


def _clock(moment: str) -> str:
    """Write an ISO time as a clock time, with the date unless it is today."""
    import datetime

    when = datetime.datetime.fromisoformat(moment).astimezone()
    today = when.date() == datetime.datetime.now().astimezone().date()
    return f"{when:%H:%M}" if today else f"{when:%Y-%m-%d %H:%M}"


def ancestry_lines(steps: list[dict[str, Any]]) -> list[str]:
    """Return the ancestry of a result (`insight.ancestry.ancestry`), the raw data first."""
    from workers.insight.ancestry import sentence

    lines = []
    for step in steps:
        lines.append(step["table"] + (f" (and {step['more']} more)" if step["more"] else ""))
        for row in step["rows"]:
            name = f" ({row['unit']})" if "unit" in row else ""
            lines.append(f"    {sentence(row['key'])}{name}")
            if row["computed"]:
                lines.append(f"        {_made(row['computed'])}")
            elif row["values"]:
                lines.append(f"        {sentence(row['values'])}")
    return lines


def _made(computed: dict[str, Any]) -> str:
    where = f"{computed['host']}, {computed['device'] or 'device not recorded'}"
    packages = computed["environment"] or "not recorded"
    ended = f"{computed['ended_at']:%Y-%m-%d %H:%M:%S}"
    return (
        f"computed {ended} UTC in {computed['duration_s']:.2f} s on {where}; "
        f"code {computed['version']}, packages {packages}, attempt {computed['attempt']}"
    )


def migration_lines(found: dict[str, Any]) -> list[str]:
    """Say what a migration did or would do (`database.migration.look`), one thing a line."""
    lines = [f"missing table {name}" for name in found["tables"]]
    lines += [f"missing column {column['name']}" for column in found["columns"]]
    for step in found["steps"]:
        lines.append(f"step to version {step['version']}: {step['title']}")
        lines += [f"    {sql}" for sql in step["sql"]]
    lines += [f"in the way: {problem}" for problem in found["problems"]]
    versions = f"version {found['found']}, this code's is {found['expected']}"
    if "compared" in found:
        tables, rows = found["compared"]["tables"], found["compared"]["rows"]
        lines.append(f"was {versions}: migrated; {rows} rows of {tables} tables are unchanged")
    elif found["tables"] or found["columns"] or found["steps"] or found["problems"]:
        lines.append(f"{versions}; nothing changed: without --dry-run it is done")
    else:
        lines.append(f"{versions}: nothing to do")
    return lines
