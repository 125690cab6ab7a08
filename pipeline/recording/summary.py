"""What was understood of a recording, in about twenty lines that a person can check."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Finding
from pipeline.recording.coverage import cover
from pipeline.recording.folder import Bundle
from pipeline.recording.movie import gaps_of

LABEL = 12  # columns of the labels
RUNS_CM_S = 1.0  # speed from which the animal runs


@dataclass(frozen=True)
class Summary:
    """What was understood of a recording.

    Attributes
    ----------
    facts : tuple of (label, text)
        A line each.
    findings : tuple of Finding
        What can be used, but a person should know.
    """

    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    def lines(self, width: int = 80) -> list[str]:
        """Return plain lines that are at most `width` wide; findings follow with their remedies."""
        found = [line for label, text in self.facts for line in wrapped(label, text, width)]
        return found + finding_lines(self.findings, width)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON types."""
        return {
            "facts": dict(self.facts),
            "findings": [
                {"name": one.name, "text": one.text, "remedy": one.remedy} for one in self.findings
            ],
        }


def finding_lines(findings: Sequence[Finding], width: int = 80) -> list[str]:
    """Return findings as plain lines of at most `width`: name, text, and what to do."""
    found = []
    for one in findings:
        text = f"{one.name}: {one.text}" + (f" -> {one.remedy}" if one.remedy else "")
        found += textwrap.wrap(text, width, initial_indent="! ", subsequent_indent="  ")
    return found


def summarize(bundle: Bundle) -> Summary:
    """Say what was understood of a recording that was read.

    Parameters
    ----------
    bundle : Bundle
        Of `pipeline.recording.bundle.read_bundle`; of one that is read in part, what is known.

    Returns
    -------
    Summary
        The same for the same bundle; nothing is read or written.

    Examples
    --------
    >>> from pipeline.recording.bundle import read_bundle
    >>> summarize(read_bundle("nowhere"))
    Traceback (most recent call last):
    pipeline.errors.DataError: nowhere: no such folder
    """
    facts = [("recording", _identity(bundle))]
    facts += _imaging(bundle)
    facts += _clocks(bundle)
    facts += _trials(bundle)
    facts += _stimulus(bundle)
    facts += _behavior(bundle) + _lags(bundle)
    left = _left_out(bundle)
    facts.append(("left out", ", ".join(left) if left else "nothing"))
    counts = Counter(finding.name for finding in bundle.findings)
    names = [name if count == 1 else f"{name} ({count})" for name, count in counts.items()]
    facts.append(("warnings", ", ".join(names) if names else "none"))
    return Summary(tuple(facts), tuple(bundle.findings))


def wrapped(label: str, text: str, width: int = 80, indent: int = LABEL) -> list[str]:
    """Return a labelled text as lines of at most `width`, set in by `indent` columns."""
    first = label.ljust(indent - 1) + " "
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * indent) or [
        label
    ]


def _identity(bundle: Bundle) -> str:
    said = bundle.recording
    depth = "depth unknown" if said.depth_um is None else f"{said.depth_um:g} um deep"
    return (
        f"{said.animal_id}/{said.session}/{said.scan_idx} of {said.scan_ts:%Y-%m-%d %H:%M}, rig "
        f"{said.rig}; {said.brain_area}, {depth}, {said.indicator}"
        + (f"; answers plan {said.plan}" if said.plan else "")
    )


def _files(paths: Sequence[Path]) -> str:
    size = sum(path.stat().st_size for path in paths)
    unit, scale = next(
        u for u in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= u[1] or u[1] < 1e4
    )
    more = f" to {paths[-1].name} ({len(paths)} files)" if len(paths) > 1 else ""
    return f"{paths[0].name}{more}, {size / scale:,.1f} {unit}"


def _imaging(bundle: Bundle) -> list[tuple[str, str]]:
    timed = bundle.timed
    if timed is None or len(timed.time_s) < 2:
        return []
    scan, times = timed.scan, timed.time_s
    movie = bool(bundle.recording.imaging.files)
    shapes = Counter(f"{one.height_px} x {one.width_px} px" for one in scan.fields)
    fields = ", ".join(f"{count} of {shape}" for shape, count in shapes.items())
    depths = [one.z_um for one in scan.fields if one.z_um is not None]
    deep = f"; z {_listed(depths)} um" if len(depths) == scan.n_fields else ""
    saved = [str(number) for number in scan.channel_numbers]
    used = bundle.recording.imaging.channel
    channels = f"channel {used} of {', '.join(saved)} saved"
    facts = [("movie" if movie else "traces", _files(bundle.files["tiff" if movie else "traces"]))]
    if movie:
        text = f"{scan.n_frames:,} in the files, {bundle.pulses:,} frame times; "
        facts.append(("frames", f"{text}{len(times):,} frames have a time"))
        facts.append(("fields", f"{fields}{deep}; {channels}"))
    else:
        units = len(scan.movie().weights)
        facts.append(("frames", f"{len(times):,} in the traces of {units:,} units"))
        facts.append(("fields", fields))
    facts.append(("rate", _rate(scan, times, movie)))
    size, own = bundle.recording.imaging.um_per_px, scan.fields[0].um_per_px
    known = size or own
    if known is None:
        facts.append(("pixel", "size unknown"))
    else:
        side = scan.fields[0].height_px * known[0], scan.fields[0].width_px * known[1]
        where = "recording.json" if size else "the movie's header"
        text = f"{known[0]:.4g} x {known[1]:.4g} um by {where}: a field of "
        facts.append(("pixel", f"{text}{side[0]:.0f} x {side[1]:.0f} um"))
    gaps = gaps_of(times)
    text = f"{times[0]:.2f} to {times[-1]:.2f} s ({(times[-1] - times[0]) / 60:.1f} min); "
    if len(gaps):
        longest = gaps[np.argmax(np.diff(gaps, axis=1))]
        text += f"{len(gaps)} gaps, the longest {np.ptp(longest):.3g} s at {longest[0]:.1f} s"
    else:
        text += "no gap"
    return [*facts, ("time", text)]


def _rate(scan: Any, times: NDArray, movie: bool) -> str:
    rate = 1 / float(np.median(np.diff(times)))
    text = f"{rate:.4g} Hz by the frame times"
    stamps = getattr(scan, "frame_seconds", None)
    if stamps is not None and len(stamps) > 2:
        place = np.diff(np.asarray(scan.frame_place, np.float64))
        same = np.diff(scan.frame_run) == 0
        if (steps := np.diff(stamps)[same]).size and (steps > 0).all():
            text += f", {1 / float(np.median(steps / place[same])):.4g} Hz by the time stamps"
    elif movie and getattr(scan, "header", None):
        text += f", {scan.own_fps:.4g} Hz by the header"
    return text + ("; lines run in both directions" if movie and scan.bidirectional else "")


def _listed(values: Sequence[float]) -> str:
    texts = [f"{value:g}" for value in values]
    return ", ".join(texts if len(texts) < 6 else [*texts[:3], "...", texts[-1]])


def _clocks(bundle: Bundle) -> list[tuple[str, str]]:
    own = [line.split(": ", 2) for line in bundle.clock_report]
    texts = [f"{line[1].removeprefix('clock of ')}: {line[2]}" for line in own]
    return [("clocks", "; ".join(texts) if texts else "all streams on the rig's clock")]


def _trials(bundle: Bundle) -> list[tuple[str, str]]:
    trials = bundle.trials
    if not trials:
        return []
    onset, offset = (_on_rig(bundle, "trials", trials[n]) for n in ("onset_s", "offset_s"))
    shown, blank = offset - onset, np.sort(onset)[1:] - offset[np.argsort(onset)][:-1]
    text = f"{len(onset):,} of {_span(shown, 's')}"
    text += f", {_span(blank, 's')} apart" if len(blank) else ""
    text += f"; {onset.min():.1f} to {offset.max():.1f} s"
    if bundle.timed is not None and bundle.frames is not None:
        times = bundle.clocks["frames"].to_rig(bundle.timed.time_s)
        inside = (onset >= times[0]) & (offset <= times[-1])
        text += f"; {inside.sum():,} within the frames"
        gaps = gaps_of(times)
        hit = np.zeros(len(onset), bool)
        for low, high in gaps:
            hit |= (onset < high) & (offset > low)
        text += f", {hit.sum():,} of them in gaps" if hit.any() else ""
    counts = Counter(Counter(trials["image_hash"]).values())
    often = [f"{n:,} shown {'once' if k == 1 else f'{k} times'}" for k, n in sorted(counts.items())]
    if len(often) > 4:
        often = [*often[:2], "...", often[-1]]
    return [("trials", text), ("repeats", ", ".join(often))]


def _on_rig(bundle: Bundle, stream: str, time_s: Any) -> NDArray[np.float64]:
    return bundle.clocks[stream].to_rig(np.asarray(time_s, np.float64))


def _span(values: NDArray, unit: str, digits: int = 2) -> str:
    low, high = (float(value) for value in np.percentile(values, [1, 99]))
    if f"{low:.{digits}f}" == f"{high:.{digits}f}":
        return f"{low:.{digits}f} {unit}"
    return f"{low:.{digits}f} to {high:.{digits}f} {unit}"


def _stimulus(bundle: Bundle) -> list[tuple[str, str]]:
    facts = []
    images = list(bundle.images.values())
    curve = bundle.curve
    if images:
        height, width = images[0].shape
        low, high = min(int(one.min()) for one in images), max(int(one.max()) for one in images)
        means = np.array([one.mean() for one in images])
        text = f"{len(images):,} of {height} x {width} px, gray {low} to {high}, "
        text += f"mean {means.mean():.0f}"
        if curve is not None:
            light = [float(curve.table[one].mean()) for one in images[:500]]
            text += f" ({np.mean(light):.3g} cd/m2)"
        facts.append(("images", text))
    if bundle.missing:
        text = f"{len(bundle.missing):,} named by hash only: the database has to know them"
        facts.append(("images", text))
    if curve is not None:
        monitor, (dark, bright) = bundle.recording.monitor, curve.luminance_range
        first, last = curve.pixel_range
        text = f"{dark:.3g} to {bright:.3g} cd/m2 at gray {first:.0f} to {last:.0f}, gamma "
        text += f"{curve.gamma_fit().gamma:.2f}; {monitor.width_px} x {monitor.height_px} px"
        facts.append(("monitor", text))
    if (seen := bundle.flips) is not None:
        known = seen.delay_s[np.isfinite(seen.delay_s)]
        text = f"{int(seen.seen.sum()):,} of {len(seen.seen):,} trials seen"
        if len(known):
            text += f", lag {np.median(known) * 1e3:+.0f} ms ({_span(known * 1e3, 'ms', 0)})"
        facts.append(("photodiode", f"{text}; {seen.n_unexplained:,} other flips"))
    return facts


def _covered(bundle: Bundle, stream: str, time_s: NDArray) -> str:
    """Say how many samples there are, how fast, and for how much of the scan."""
    time = _on_rig(bundle, stream, time_s)
    rate = 1 / float(np.median(np.diff(time)))
    text = f"{len(time):,} samples, {rate:.3g} Hz"
    if bundle.frames is None:
        return text
    begin, end = bundle.clocks["frames"].to_rig(np.array(bundle.frames))
    return f"{text}, {cover(time, begin, end)[0]:.0%} of the scan"


def _lags(bundle: Bundle) -> list[tuple[str, str]]:
    """Say when every stream begins and ends against the frames."""
    if bundle.frames is None:
        return []
    begin, end = bundle.clocks["frames"].to_rig(np.array(bundle.frames))
    streams = {
        "pupil": ("eye", bundle.columns.get("pupil", bundle.columns.get("eye_times"))),
        "running": ("treadmill", bundle.columns.get("running")),
    }
    texts = []
    for name, (stream, columns) in streams.items():
        if columns is not None:
            time = _on_rig(bundle, stream, columns["time_s"])
            texts.append(f"{name} begins {time[0] - begin:+.2f} s, ends {time[-1] - end:+.2f} s")
    return [("lags", f"{'; '.join(texts)} against the frames")] if texts else []


def _behavior(bundle: Bundle) -> list[tuple[str, str]]:
    facts = []
    if (pupil := bundle.columns.get("pupil")) is not None:
        known = np.isfinite(pupil["radius_px"])
        text = f"{_covered(bundle, 'eye', pupil['time_s'])}, known in {known.mean():.0%}"
        facts.append(
            ("pupil", f"pupil.csv: {text}; radius {_span(pupil['radius_px'][known], 'px', 1)}")
        )
        x, y = (pupil[name][np.isfinite(pupil[name])] for name in ("center_x_px", "center_y_px"))
        if len(x) and len(y):
            facts.append(("gaze", f"x {_span(x, 'px', 1)}, y {_span(y, 'px', 1)}"))
    elif (video := bundle.video) is not None and "eye_times" in bundle.columns:
        name = bundle.files["eye_video"][0].name
        text = f"{name}: {video.frames:,} frames of {video.height_px} x {video.width_px} px; "
        text += _covered(bundle, "eye", bundle.columns["eye_times"]["time_s"])
        facts.append(("pupil", f"{text}; workers track it"))
    else:
        facts.append(("pupil", "none: models do without pupil and gaze"))
    if (running := bundle.columns.get("running")) is not None:
        kind = "treadmill" if "treadmill" in bundle.files else "running"
        speed = running["speed_cm_s"]
        known = speed[np.isfinite(speed)]
        text = f"{_covered(bundle, 'treadmill', running['time_s'])}; "
        text += f"{_span(known, 'cm/s', 1)}, runs {(np.abs(known) >= RUNS_CM_S).mean():.0%}"
        facts.append(("running", f"{bundle.files[kind][0].name}: {text} of the time"))
    else:
        facts.append(("running", "none: models do without running"))
    return facts


def _left_out(bundle: Bundle) -> list[str]:
    """Count frames, times, trials and samples that are not used."""
    left = []
    timed = bundle.timed
    if timed is not None and bundle.recording.imaging.files:
        frames, times = timed.scan.n_frames, len(timed.time_s)
        left += [f"{frames - times:,} frames without a time"] if frames > times else []
        per = round(bundle.pulses / max(times, 1)) or 1
        spare = bundle.pulses - times * per
        left += [f"{spare:,} times without a frame"] if spare > 0 else []
    if bundle.trials and bundle.frames is not None:
        onset, offset = (
            _on_rig(bundle, "trials", bundle.trials[n]) for n in ("onset_s", "offset_s")
        )
        begin, end = bundle.clocks["frames"].to_rig(np.array(bundle.frames))
        lost = int(((onset > end) | (offset < begin)).sum())
        left += [f"{lost:,} trials outside of the frames"] if lost else []
    if (pupil := bundle.columns.get("pupil")) is not None:
        blind = int((~np.isfinite(pupil["radius_px"])).sum())
        left += [f"{blind:,} samples without a pupil"] if blind else []
    left += [one.text for one in bundle.findings if one.name == "units-left-out"]
    return left
