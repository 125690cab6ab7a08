"""Verbs that steer a loop: who is a target, plan again, stop, remove, look at a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.commands.common import (
    PREFIX,
    Home,
    Json,
    Prefix,
    Scan,
    iso_time,
    open_existing,
    plain,
    say,
    scan_key,
    wake,
)

app = typer.Typer()
LoopName = Annotated[
    str,
    typer.Argument(
        metavar="LOOP", help="Its scan, such as 1/1/1, if that has one loop; or a plan."
    ),
]


@app.command()
def targets(
    scan: Scan,
    include: Annotated[
        list[int] | None,
        typer.Option(metavar="UNIT", help="Always a target; a unit's number, repeatable."),
    ] = None,
    exclude: Annotated[
        list[int] | None, typer.Option(metavar="UNIT", help="Never a target; repeatable.")
    ] = None,
    undecide: Annotated[
        list[int] | None, typer.Option(metavar="UNIT", help="Leave it to the rule; repeatable.")
    ] = None,
    why: Annotated[str | None, typer.Option(metavar="TEXT", help="Reason of the decision.")] = None,
    who: Annotated[str | None, typer.Option(metavar="NAME", help="Who decides [login].")] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """List the units of the newest loop on a scan: targets or not, and why; decide about some.

    Plans that exist keep their targets; `inception replan` makes one that follows the decisions.
    """
    key = scan_key(scan)
    wanted = [(True, include or []), (False, exclude or []), (None, undecide or [])]
    named = [unit for _, units in wanted for unit in units]
    if len(set(named)) < len(named):
        raise typer.BadParameter("a unit is named twice")
    if named and not why:
        raise typer.BadParameter("a decision needs its reason: --why TEXT")
    if why and not named:
        raise typer.BadParameter("--why is for --include, --exclude and --undecide")
    open_existing(prefix)
    from workers.queue.jobs import user_name
    from workers.steering import decide as hand

    cells = [(hand.unit_key(key, unit), choice) for choice, units in wanted for unit in units]
    hand.decide_all(cells, why=why or "", who=who or user_name())
    rows = hand.targets(key)
    if as_json:
        print(json.dumps(plain(rows)))
        return
    for row in rows:
        print(_target_line(row))
    if any(row["differs"] for row in rows):
        print(f"decided since the loop was registered: `inception replan {scan}` plans by it")


def _target_line(row: dict[str, Any]) -> str:
    place = "not selected yet" if row["kept"] is None else f"target {row['target_rank'] + 1}"
    place = "no target" if row["kept"] is False else place
    line = f"{row['unit_id']:>9d}  {place:<16s}  {row['reason'] or ''}".rstrip()
    if row["differs"]:
        what = {True: "included", False: "excluded", None: "left to the rule"}[row["included"]]
        line += f"; NOW {what}" + (f": {row['why']} ({row['who']})" if row["why"] else "")
    return line


@app.command()
def replan(
    scan: Scan,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Length of day 2.")] = None,
    target_count: Annotated[
        int | None, typer.Option("--targets", min=1, help="Neurons to target.")
    ] = None,
    kinds: Annotated[
        str | None, typer.Option(help="Kinds of stimuli, mei among them: mei,rf,mni.")
    ] = None,
    natural: Annotated[
        int | None, typer.Option(min=0, help="Most natural images of day 1 to show again.")
    ] = None,
    exclude_field: Annotated[
        list[int] | None,
        typer.Option(metavar="FIELD", help="Exclude all units of a field; repeatable."),
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Reason to exclude a field.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="When the package is needed, local ISO time.")
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Plan a scan again: other numbers or kinds, and what was decided by hand since.

    What the plans share is computed once: traces, models, and the MEIs of targets of both.
    """
    key, due = scan_key(scan), iso_time(deadline)
    open_existing(prefix)
    from workers.queue.jobs import user_name
    from workers.steering import replan as again

    if exclude_field:
        fields = ", ".join(map(str, exclude_field))
        reason = why or f"field {fields} is left out"
        again.exclude_fields(key, exclude_field, why=reason, who=user_name())
    made = again.replan(
        key,
        minutes=minutes,
        targets=target_count,
        kinds=None if kinds is None else [kind.strip() for kind in kinds.split(",")],
        natural=natural,
        deadline=due,
    )
    wake()
    text = f"plan {made['plan_id']} is to be made of {scan}; run `inception worker` next"
    say(plain(made), as_json, text)


@app.command()
def stop(
    loop: LoopName,
    running: Annotated[
        bool, typer.Option("--running", help="Stop the jobs under way, too; else they end.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Stop a loop: its waiting jobs are not started, unless another loop needs them."""
    open_existing(prefix)
    from workers.queue.jobs import user_name
    from workers.steering import loops

    counts = loops.stop(loops.find_loop(loop), who=user_name(), running=running)
    text = f"loop {loop} is stopped: {counts['waiting']} jobs wait"
    if counts["running"]:
        text += f", {counts['running']} under way {'were stopped' if running else 'will end'}"
    say(counts, as_json, f"{text}; `inception resume {loop}` goes on")


@app.command()
def resume(
    loop: LoopName, home: Home = None, prefix: Prefix = PREFIX, as_json: Json = False
) -> None:
    """Resume a stopped loop."""
    open_existing(prefix)
    from workers.steering import loops

    waiting = loops.resume(loops.find_loop(loop))
    wake()
    text = f"loop {loop} goes on: {waiting} jobs wait; run `inception worker` next"
    say({"waiting": waiting}, as_json, text)


@app.command()
def remove(
    loop: LoopName,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only told.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Delete a loop with its tasks, results and jobs; what others need stays, and the recordings.

    Without --yes nothing changes: the rows and bytes that would go are listed.
    """
    open_existing(prefix)
    from workers.steering.loops import find_loop
    from workers.steering.remove import remove as take_out

    found = take_out(find_loop(loop), delete=yes)
    lines = [f"{rows:8d}  {name}" for name, rows in found["tables"].items()]
    what = (
        f"{found['rows']} rows of {len(found['tables'])} tables, {found['files']} files "
        f"({found['bytes'] / 1e6:.1f} MB) and {found['jobs']} jobs"
    )
    lines.append(f"removed: {what}" if yes else f"{what} would go; --yes removes them")
    say(plain(found), as_json, "\n".join(lines))


@app.command()
def trace(
    unit: Annotated[
        str, typer.Argument(metavar="UNIT", help="animal/session/scan/unit, such as 1/1/1/100012.")
    ],
    out: Annotated[Path, typer.Argument(help="File to write: .csv or .npz.")],
    imaging: Annotated[
        str | None, typer.Option(metavar="HASH", help="Which recipe, if there are several.")
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write the trace of a unit: time, fluorescence, activity, and what was shown."""
    scan, _, number = unit.rpartition("/")
    key = scan_key(scan)
    if not number.isdigit():
        raise typer.BadParameter(f"{unit!r} is not animal/session/scan/unit, such as 1/1/1/100012")
    if out.suffix not in (".csv", ".npz"):
        raise typer.BadParameter(f"{out.name}: unknown suffix; use .csv or .npz")
    open_existing(prefix)
    from workers.steering.decide import unit_key
    from workers.steering.trace import trace as trace_of
    from workers.steering.trace import write_trace

    found = trace_of(unit_key(key, int(number)), imaging_hash=imaging)
    frames = write_trace(found, out)
    text = f"unit {number}, {frames} frames, activity in {found.activity_unit}, written to {out}"
    say({"frames": frames, "file": str(out)}, as_json, text)
