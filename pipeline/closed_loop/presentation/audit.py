"""What was really on the monitor, trial by trial, against the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.closed_loop.package.photodiode import check_flips
from pipeline.closed_loop.presentation.alignment import align
from pipeline.errors import DataError, Finding

STATUSES = ("ok", "dropped", "late", "short", "long", "unseen", "repeated", "wrong", "extra")
NEEDED = {"planned": ("trial_idx", "image"), "shown": ("trial_idx", "image", "onset_s", "offset_s")}


@dataclass(frozen=True)
class Audit:
    """One row for every planned trial and for every presentation that nobody planned.

    Attributes
    ----------
    per_trial : DataFrame
        `trial_idx` (planned; -1 for an unplanned presentation), `shown_row` (row of the log; -1 if
        dropped), `shown_trial_idx` (as logged; -1 if dropped), `image`, `shown_image`, `status`,
        `usable`, `onset_s`, `offset_s`, `shown_s` (time on), `excess_s` (time on minus planned),
        `lateness_s` (onset minus what blank and schedule ask for, relative to the scan's median).
        Statuses: ok; dropped (never shown); late, short, long (times off by more than the
        tolerance); repeated (the image before once more, in the place of a trial or between
        two); wrong (another image); extra (not planned at all); unseen (the photodiode saw no
        flip to this trial's level).
    summary : dict
        Count of each status, `n_planned, n_shown, n_usable, usable_fraction, blank_overhead_s`
        (median), `duration_median_s, duration_sd_s, duration_histogram` ({edges_s, counts}),
        `clock_ratio` (rig seconds per planned second on the screen) and `truncated_after`
        (trial_idx of the last planned trial shown, if the log ends early).
    findings : list of Finding
        Of the photodiode.
    """

    per_trial: pd.DataFrame
    summary: dict
    findings: list[Finding] = field(default_factory=list)


def audit_presentation(
    planned: pd.DataFrame,
    shown: pd.DataFrame,
    *,
    late_s: float = 0.025,
    short_s: float = 0.05,
    long_s: float = 0.05,
    names: Mapping[str, str] | None = None,
    flips: pd.DataFrame | None = None,
) -> Audit:
    """Compare the planned with the shown trials.

    Trials are aligned as sequences of images, so that a dropped trial does not make every later
    one wrong, even if the log numbers its own trials.

    Parameters
    ----------
    planned : DataFrame
        `trial_idx, image, duration_s, blank_before_s`; image is a content hash.
    shown : DataFrame
        The log: `trial_idx, image, onset_s, offset_s` and optionally `blank_before_s`. An image
        may be a content hash, ``<hash>.png``, or a name that `names` resolves.
    late_s : float
        A trial is late if it comes this much after its time, beyond the median overhead of the
        scan. Waiting for a 60-Hz refresh adds up to 8 ms to that, one refresh missed up to 25 ms.
    short_s, long_s : float
        Tolerance of the time on the screen (published: 50 ms).
    names : mapping of file name to content hash, optional
    flips : DataFrame, optional
        Log or sampled trace of a photodiode, `time_s, level`
        (`pipeline.closed_loop.package.photodiode`).

    Raises
    ------
    DataError
        If a column is missing, the log is empty, times are not numbers or do not increase.
    """
    for name, frame in {"planned": planned, "shown": shown}.items():
        missing = [column for column in NEEDED[name] if column not in frame]
        if missing:
            raise DataError(f"{name} trials lack columns {missing}", found=list(frame.columns)[:12])
        number = pd.to_numeric(frame["trial_idx"], errors="coerce")
        if not (number % 1 == 0).all():
            raise DataError(
                f"numbers of {name} trials are no whole numbers",
                file="trials.csv",
                field="trial_idx",
                found=str(frame["trial_idx"][~(number % 1 == 0)].iloc[0])[:40],
            )
    if not len(shown):
        raise DataError("the log has no trial", expected=f"{len(planned)} trials")
    log = _read_log(shown, names or {})
    plan_image = planned["image"].astype(str).to_numpy(object)
    codes, _ = pd.factorize(np.concatenate([plan_image, log["image"]]))
    plan_idx = planned["trial_idx"].to_numpy(np.int64)
    left, right = align(codes[: len(planned)], codes[len(planned) :], plan_idx, log["trial_idx"])

    def take(values: NDArray, rows: NDArray, missing: Any) -> NDArray:
        taken = values[np.maximum(rows, 0)]
        return np.where(rows >= 0, taken, missing)

    duration = _column(planned, "duration_s", len(planned))
    blank = _column(planned, "blank_before_s", len(planned))
    excess = take(log["shown_s"], right, np.nan) - take(duration, left, np.nan)
    # an image that went off early lengthens the blank, one that stayed delays the onset: neither
    # makes the next one late
    late = take(log["blank_s"], right, np.nan) - take(blank, left, np.nan)
    period = take(log["onset_s"], right, np.nan) - take(blank, left, np.nan)
    period[1:] -= (take(log["onset_s"], right, np.nan) + take(duration, left, np.nan))[:-1]
    late[1:] = np.fmin(late[1:], period[1:])
    # after a gap the blank holds the missing trial, or nothing at all: it says nothing
    together = (left >= 0) & (right >= 0)
    unbroken = together & np.concatenate([[True], together[:-1]])
    overhead = float(np.nanmedian(late[unbroken])) if np.isfinite(late[unbroken]).any() else 0.0
    late = np.where(unbroken, late - overhead, np.nan)

    same = together & (
        take(codes[: len(planned)], left, -1) == take(codes[len(planned) :], right, -2)
    )
    shown_code = codes[len(planned) :]
    again = np.concatenate([[False], shown_code[1:] == shown_code[:-1]])
    status = np.full(len(left), "ok", object)
    with np.errstate(invalid="ignore"):  # NaN: not known, not a fault
        status[late > late_s] = "late"
        status[excess > long_s] = "long"
        status[excess < -short_s] = "short"
    seen = None
    if flips is not None:
        if missing := [column for column in ("time_s", "level") if column not in flips]:
            raise DataError(
                "column is missing",
                file="photodiode.csv",
                field=missing[0],
                found=list(flips.columns)[:12],
                expected="time_s,level",
            )
        seen = check_flips(
            flips["time_s"],
            flips["level"],
            take(plan_idx, left, -1),
            take(log["onset_s"], right, np.nan),
        )
        status[together & ~seen.seen] = "unseen"
    status[~same] = "wrong"
    status[left < 0] = "extra"
    status[(right >= 0) & ~same & take(again, right, False).astype(bool)] = "repeated"
    status[right < 0] = "dropped"

    table = pd.DataFrame(
        {
            "trial_idx": take(plan_idx, left, -1).astype(np.int64),
            "shown_row": right.astype(np.int64),
            "shown_trial_idx": take(log["trial_idx"], right, -1).astype(np.int64),
            "image": take(plan_image, left, None),
            "shown_image": take(log["image"], right, None),
            "status": status,
            "usable": status == "ok",
            "onset_s": take(log["onset_s"], right, np.nan),
            "offset_s": take(log["offset_s"], right, np.nan),
            "shown_s": take(log["shown_s"], right, np.nan),
            "excess_s": excess,
            "lateness_s": late,
        }
    )
    summary = _summary(table, left, right, overhead, duration + blank)
    if seen is not None:
        known = seen.delay_s[np.isfinite(seen.delay_s)]
        summary |= {
            "photodiode_delay_s": float(np.median(known)) if len(known) else None,
            "photodiode_unexplained": seen.n_unexplained,
            "photodiode_notes": [finding.text for finding in seen.findings],
        }
    return Audit(table, summary, [] if seen is None else seen.findings)


def _read_log(shown: pd.DataFrame, names: Mapping[str, str]) -> dict[str, NDArray]:
    onset, offset = (
        pd.to_numeric(shown[c], errors="coerce").to_numpy(float) for c in ("onset_s", "offset_s")
    )
    bad = np.flatnonzero(~(np.isfinite(onset) & np.isfinite(offset) & (offset > onset)))
    if len(bad):
        raise DataError(
            f"{len(bad)} trials without a time on the screen",
            file="trials.csv",
            field=f"row {bad[0]}",
            found=f"onset {onset[bad[0]]}, offset {offset[bad[0]]}",
            expected="onset_s < offset_s, both numbers",
        )
    if (back := np.flatnonzero(np.diff(onset) <= 0)).size:
        raise DataError(
            "onsets do not increase",
            file="trials.csv",
            field=f"row {back[0] + 1}",
            found=f"{onset[back[0] + 1]} after {onset[back[0]]}",
        )
    image = np.array([_resolve(str(name), names) for name in shown["image"]], object)
    blank = np.concatenate([[np.nan], onset[1:] - offset[:-1]])
    logged = _column(shown, "blank_before_s", len(shown))
    blank[0] = logged[0]
    return {
        "trial_idx": shown["trial_idx"].to_numpy(np.int64),
        "image": image,
        "onset_s": onset,
        "offset_s": offset,
        "shown_s": offset - onset,
        "blank_s": blank,
    }


def _resolve(name: str, names: Mapping[str, str]) -> str:
    if name in names:
        return names[name]
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem = last[:-4] if last.lower().endswith(".png") else last
    return names.get(last, names.get(stem, stem))


def _column(frame: pd.DataFrame, name: str, n: int) -> NDArray[np.float64]:
    if name not in frame:
        return np.full(n, np.nan)
    return pd.to_numeric(frame[name], errors="coerce").to_numpy(float)


def _summary(
    table: pd.DataFrame, left: NDArray, right: NDArray, overhead: float, planned_s: NDArray
) -> dict:
    counts = {status: int((table.status == status).sum()) for status in STATUSES}
    on = table.shown_s[np.isfinite(table.shown_s)].to_numpy()
    first, last = np.floor(on.min() * 60), np.ceil(on.max() * 60)
    if last - first > 400:  # one frozen image must not make a million bins
        edges = np.linspace(on.min(), on.max(), 101)
    else:
        edges = np.arange(first - 0.5, last + 1.5) / 60
    histogram = np.histogram(on, edges)[0]
    rows = np.flatnonzero(left >= 0)
    shown_rows = rows[right[rows] >= 0]
    last = int(shown_rows[-1]) if len(shown_rows) else -1
    cut = int(table.trial_idx[last]) if len(shown_rows) and last < rows[-1] else None
    # elapsed rig time over elapsed planned time, between unbroken neighbors
    ok = np.flatnonzero(
        (left[1:] == left[:-1] + 1)
        & (right[1:] == right[:-1] + 1)
        & (left[:-1] >= 0)
        & (right[:-1] >= 0)
    )
    rig = table.offset_s.to_numpy()[ok + 1] - table.offset_s.to_numpy()[ok]
    plan = planned_s[left[ok + 1]]
    known = np.isfinite(plan)
    ratio = float(np.median(rig[known] / plan[known])) if known.any() else None
    n_planned = int((left >= 0).sum())
    return {
        **counts,
        "n_planned": n_planned,
        "n_shown": int((right >= 0).sum()),
        "n_usable": int(table.usable.sum()),
        "usable_fraction": float(table.usable.sum() / max(n_planned, 1)),
        "blank_overhead_s": overhead,
        "duration_median_s": float(np.median(on)),
        "duration_sd_s": float(on.std()),
        "duration_histogram": {"edges_s": edges.round(5).tolist(), "counts": histogram.tolist()},
        "clock_ratio": ratio,
        "truncated_after": cut,
    }
