"""Command line: one stage of behavior on files.

python -m pipeline.behavior pupil eye.avi --out pupil.csv --times eye_times.csv
python -m pipeline.behavior pupil face.mp4 --set region=[260,200,440,360] --set polarity=bright --out pupil.csv
python -m pipeline.behavior pupil eyeDLC.csv --method deeplabcut --fps 30 --out pupil.csv
python -m pipeline.behavior treadmill treadmill.csv --diameter-cm 15 --counts-per-rev 8000 --out speed.csv
python -m pipeline.behavior pulses frame_clock.csv --out frame_times.csv
"""  # noqa: E501  lines to copy

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.counters import lost_frames
from pipeline.behavior.pulses import POLARITIES, pulse_onsets
from pipeline.behavior.pupil import NoPupil, Tried, pupil_trackers
from pipeline.behavior.treadmill import running_periods, treadmill_methods
from pipeline.behavior.tried import picture_of
from pipeline.csvfile import read_columns
from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.imaging.options import add_method, chosen, run


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 if the data cannot be used, 2 on a usage error."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.behavior",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "Follow the pupil in a video, or read what another program found."
    pupil = commands.add_parser("pupil", help=text, description=text)
    pupil.add_argument(
        "video",
        help="eye video, or by --method a table of DeepLabCut, Lightning Pose, SLEAP or facemap",
    )
    pupil.add_argument("--times", help="csv with frame,time_s; else frames are --fps apart")
    pupil.add_argument("--fps", type=float, default=30.0, help="frames per second; default 30")
    pupil.set_defaults(command=_pupil)
    add_method(pupil, pupil_trackers)
    text = "Turn the counts of a rotary encoder into running speed."
    treadmill = commands.add_parser("treadmill", help=text, description=text)
    treadmill.add_argument("counts", help="csv with time_s,counts")
    treadmill.add_argument("--diameter-cm", type=float, required=True, help="of the wheel")
    treadmill.add_argument("--counts-per-rev", type=float, required=True)
    treadmill.set_defaults(command=_treadmill)
    add_method(treadmill, treadmill_methods)
    text = "Find the pulses in a recorded voltage: frame_times.csv of its frame clock."
    pulses = commands.add_parser("pulses", help=text, description=text)
    pulses.add_argument("trace", help="csv with time_s,level of every sample")
    pulses.add_argument("--polarity", choices=POLARITIES, default="auto", help="way of a pulse")
    pulses.add_argument("--back", type=float, default=0.25, help="share to fall to between pulses")
    pulses.set_defaults(command=_pulses)
    for one in (pupil, treadmill, pulses):
        one.add_argument("--out", required=True, help="csv to write")
        one.add_argument("--json", action="store_true", help="report as JSON")
    return run(parser, arguments)


def _pupil(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(pupil_trackers, options)
    try:
        found = method(options.video, **params)
    except NoPupil as error:
        raise DataError(f"{error}; see {_draw(options.out, error.tried)}") from error
    frames = len(found.radius_px)
    if options.times:
        time = read_columns(options.times, ("time_s",), nan=("time_s",), at_least=1)["time_s"]
        if len(time) != frames:
            raise DataError(
                "times do not fit the video",
                file=options.times,
                found=len(time),
                expected=f"{frames} frames",
            )
    else:
        if not options.fps > 0:
            raise ValueError(f"--fps must be positive; got {options.fps}")
        time = np.arange(frames) / options.fps
    columns = {
        "time_s": time,
        "center_x_px": found.center_x_px,
        "center_y_px": found.center_y_px,
        "radius_px": found.radius_px,
        "confidence": found.confidence,
    }
    write_csv(options.out, columns)
    if found.problem:
        picture = f"see {_draw(options.out, found.tried)}; " if found.tried else ""
        rest = f"{picture}the other frames are in {options.out}"
        raise DataError(found.problem, file=options.video, remedy=rest)
    seen = np.isfinite(found.radius_px)
    return {
        "file": options.out,
        "frames": frames,
        "seen": float(seen.mean()) if frames else 0.0,
        "radius_median_px": float(np.median(found.radius_px[seen])) if seen.any() else None,
    }


def _draw(out: str, tried: tuple[Tried, ...]) -> str:
    """Write a picture of frames without a pupil beside the table; return its path."""
    path = Path(out).with_suffix(".tried.png")
    good, content = cv2.imencode(".png", picture_of(tried))
    if not good:
        raise DataError("cannot be drawn", file=path)
    try:
        with written_whole(path) as partial:
            Path(partial).write_bytes(content.tobytes())
    except OSError as error:
        raise DataError("cannot be written", file=path, found=error.strerror) from error
    return str(path)


def _treadmill(options: argparse.Namespace) -> dict[str, Any]:
    method, params = chosen(treadmill_methods, options)
    names = ("time_s", "counts")
    read = read_columns(options.counts, names, nan=names, at_least=1)
    found = method(
        read["time_s"], read["counts"], options.diameter_cm, options.counts_per_rev, **params
    )
    write_csv(options.out, {"time_s": found.time_s, "speed_cm_s": found.speed_cm_s})
    periods = running_periods(found.time_s, found.speed_cm_s)
    known = found.speed_cm_s[np.isfinite(found.speed_cm_s)]
    return {
        "file": options.out,
        "samples": len(found.time_s),
        "gaps": int(np.isnan(found.speed_cm_s).sum()),
        "mean_abs_speed_cm_s": float(np.abs(known).mean()) if len(known) else None,
        "running_periods": len(periods),
        "running_s": float(np.diff(periods, axis=1).sum()),
    }


def _pulses(options: argparse.Namespace) -> dict[str, Any]:
    read = read_columns(options.trace, ("time_s", "level"), rising="time_s", nan=("level",))
    try:
        rows = pulse_onsets(read["level"], polarity=options.polarity, back=options.back)
    except DataError as error:
        raise DataError(str(error), file=options.trace, field="level") from None
    time = read["time_s"][rows]
    write_csv(options.out, {"frame": np.arange(len(time)), "time_s": time})
    lost = lost_frames(time)
    return {
        "file": options.out,
        "pulses": len(time),
        "fps": float(1 / np.median(np.diff(time))) if len(time) > 1 else None,
        "missing": int(lost.sum()),
    }


def write_csv(path: str | os.PathLike, columns: dict[str, NDArray]) -> None:
    """Write columns of numbers, whole or not at all; NaN is written as such.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    table, head = np.column_stack(list(columns.values())), ",".join(columns)
    try:
        with written_whole(path) as partial:
            np.savetxt(partial, table, fmt="%.9g", delimiter=",", header=head, comments="")
    except OSError as error:
        raise DataError("cannot be written", file=path, found=error.strerror) from error


if __name__ == "__main__":
    sys.exit(main())
