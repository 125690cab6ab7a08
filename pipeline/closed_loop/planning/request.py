"""From the stimuli that are asked for and displayed to a plan, and why each of the rest is out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.closed_loop.names import LUMINANCE
from pipeline.errors import DataError
from pipeline.stimulus.kinds import MEI, NATURAL, name_of, names_of, stimulus_columns
from pipeline.stimulus.monitor import MonitorCurve

from .plan import PlanResult, plan_methods

NOT_READY = "not ready at the deadline"
WITHOUT_MEI = "its MEI was not ready at the deadline"
NOT_SHOWABLE = "its MEI cannot be shown"

Row = Mapping[str, Any]
Unit = tuple[str, int]  # dataset_hash, unit_index
Stimulus = tuple[Unit, str]  # of a unit, by its name

TARGET = (
    "dataset_hash",
    "unit_index",
    "kind",
    "variant",
    "image_hash",
    "target_rank",
    "predicted",
)


@dataclass(frozen=True)
class Request:
    """What a plan is made of.

    Attributes
    ----------
    asked : list of mapping
        Every stimulus that is asked for: `display, unit_index, unit_id, kind, variant`. Where
        `display` is None, no image can be meant, and `reason` says why.
    displayed : list of mapping
        Every displayed image: `display, dataset_hash, unit_index, target_rank, kind, variant,
        image_hash, mean_cd_m2, sd_cd_m2, clipped_fraction, ok, reason, predicted`.
    natural : mapping of image hash to array, uint8 (height, width)
        Natural images to show again, the most wanted first.
    curve : MonitorCurve
        Of the monitor that shows them.
    method : str
        Name in `plan_methods`.
    params : mapping
        Keyword parameters of the method.
    """

    asked: list[Row]
    displayed: list[Row]
    natural: Mapping[str, NDArray[np.uint8]]
    curve: MonitorCurve
    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Planned:
    """A plan as rows of tables.

    Attributes
    ----------
    totals : dict
        `n_trials, n_images, n_targets, n_repeats, total_s`, and `dropped`: what is left out, each
        with `unit_index, unit_id, kind, variant, image_hash, reason`.
    images : list of dict
        `image_hash, kind, variant, mean_cd_m2, sd_cd_m2, clipped_fraction`, by hash.
    targets : list of dict
        `dataset_hash, unit_index, kind, variant, image_hash, target_rank, predicted`.
    trials : list of dict
        `trial_idx, image_hash, duration_s, blank_before_s`, in order of presentation.
    """

    totals: dict[str, Any]
    images: list[dict[str, Any]]
    targets: list[dict[str, Any]]
    trials: list[dict[str, Any]]


def make_plan(request: Request) -> Planned:
    """Plan the presentation of all that can be shown in time.

    Raises
    ------
    DataError
        If no unit has an MEI that can be shown.
    ValueError
        If the method refuses: less than one target fits the time.
    """
    good = [row for row in request.displayed if row["ok"]]
    units = _best_first(good, len(request.displayed))
    chosen = {  # of several displays of one stimulus of a unit, the last
        (_unit(row), name_of(row)): row for row in good if _unit(row) in units
    }
    lists = {
        name: [chosen.get((unit, name), {}).get("image_hash") for unit in units]
        for name in names_of(good)
    }
    natural = list(request.natural)
    result = plan_methods[request.method]({**lists, NATURAL: natural}, **request.params)
    used = dict(zip(result.trials["image"], result.trials["kind"], strict=True))
    late = _late(result, units)
    planned = [  # an image of a target that is left out may be shown: another target shares it
        row
        for stimulus, row in chosen.items()
        if row["image_hash"] in used and stimulus not in late
    ]
    dropped = [
        *_left_out(request, chosen, planned, late),
        *_natural_left_out(request, used, result),
    ]
    images = _image_rows(request, used, good)
    totals = {
        "n_trials": len(result.trials),
        "n_images": len(images),
        "n_targets": len({row["unit_index"] for row in planned}),
        "n_repeats": int(result.repeats),
        "total_s": float(result.total_s),
        "dropped": dropped,
    }
    targets = [{name: row[name] for name in TARGET} for row in planned]
    return Planned(totals, images, targets, _trial_rows(result))


def _unit(row: Row) -> Unit:
    return row["dataset_hash"], row["unit_index"]


def _best_first(good: list[Row], displayed: int) -> list[Unit]:
    """Return the units whose MEI can be shown, the best target first."""
    rank = {_unit(row): row["target_rank"] for row in good if name_of(row) == MEI}
    if not rank:
        raise DataError(
            "no MEI can be shown",
            field="DisplayMethod",
            found=f"{displayed} images, none within tolerance",
            remedy="choose a lower contrast or another luminance",
        )
    return sorted(rank, key=lambda unit: (rank[unit], unit))


def _late(result: PlanResult, units: list[Unit]) -> dict[Stimulus, str]:
    """Return the stimuli of targets that the method leaves out, and its reason."""
    return {
        (units[entry["target"]], name): entry["reason"]
        for entry in result.dropped
        if entry["target"] is not None
        for name in entry["images"]
    }


def _image_rows(request: Request, used: Mapping[str, str], good: list[Row]) -> list[dict]:
    """Return every image of the plan, once."""
    table = request.curve.table
    known: dict[str, Row] = {
        image: {
            "mean_cd_m2": float(table[pixels].mean()),
            "sd_cd_m2": float(table[pixels].std()),
            "clipped_fraction": 0.0,
        }
        for image, pixels in request.natural.items()
    }
    known |= {row["image_hash"]: row for row in good}
    return [
        {
            "image_hash": image,
            **stimulus_columns(name),
            **{column: known[image].get(column) for column in LUMINANCE},
        }
        for image, name in sorted(used.items())
    ]


def _trial_rows(result: PlanResult) -> list[dict[str, Any]]:
    return [
        {
            "trial_idx": int(trial.trial_idx),
            "image_hash": trial.image,
            "duration_s": float(trial.duration_s),
            "blank_before_s": float(trial.blank_before_s),
        }
        for trial in result.trials.itertuples()
    ]


def _left_out(
    request: Request,
    chosen: Mapping[Stimulus, Row],
    planned: list[Row],
    late: Mapping[Stimulus, str],
) -> list[dict[str, Any]]:
    """Return every stimulus of a target that is not planned, and why; what is unknown is None."""
    displayed = {(*row["display"], row["unit_index"]): row for row in request.displayed}
    taken = {(_unit(row), name_of(row), row["image_hash"]) for row in planned}
    with_mei = {unit for unit, name in chosen if name == MEI}

    def display_of(wanted: Row) -> Row | None:
        return displayed.get((*(wanted["display"] or ()), wanted["unit_index"]))

    waiting = {  # units whose MEI is not displayed
        wanted["unit_index"]
        for wanted in request.asked
        if wanted["display"] is not None and name_of(wanted) == MEI and display_of(wanted) is None
    }

    def reason(wanted: Row, row: Row | None) -> str:
        if wanted["display"] is None:
            return wanted["reason"]
        if row is None:
            return NOT_READY
        if not row["ok"]:
            return f"not displayable: {row['reason']}" if row["reason"] else "not displayable"
        if _unit(row) not in with_mei:
            return WITHOUT_MEI if wanted["unit_index"] in waiting else NOT_SHOWABLE
        stimulus = _unit(row), name_of(row)
        if chosen[stimulus] is not row:
            return "another image of this kind and variant is planned"
        return late.get(stimulus, _in_silence(request))

    found = []
    for wanted in request.asked:
        row = display_of(wanted)
        if row is not None and (_unit(row), name_of(row), row["image_hash"]) in taken:
            continue
        entry = {name: wanted[name] for name in ("unit_index", "unit_id", "kind", "variant")}
        image = None if row is None else row["image_hash"]
        found.append({**entry, "image_hash": image, "reason": reason(wanted, row)})
    return found


def _natural_left_out(
    request: Request, used: Mapping[str, str], result: PlanResult
) -> list[dict[str, Any]]:
    """Return the natural images that are not shown again, as `_left_out` does."""
    why = {image: entry["reason"] for entry in result.dropped for image in entry["images"].values()}
    nobody = {"unit_index": None, "unit_id": None, "kind": NATURAL, "variant": 0}
    return [
        {**nobody, "image_hash": image, "reason": why.get(image, _in_silence(request))}
        for image in request.natural
        if image not in used
    ]


def _in_silence(request: Request) -> str:
    return f"left out by the plan method {request.method!r}"
