"""One response a trial and unit, and the state of the animal on every trial."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from schemas import behavior, imaging
from schemas.dataset.binding import schema
from schemas.method import Methods, MethodTable


@schema
class ResponseMethod(MethodTable, dj.Lookup):
    definition = """
    # Response window with its complete parameters
    response_hash   : char(16)       # hash of method and parameters
    ---
    response_method : varchar(64)    # name in pipeline.dataset.windows
    response_params : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.dataset", "response_windows")


@schema
class ResponseTask(dj.Manual):
    definition = """
    # Decision to read one response a trial from a scan's activity
    -> imaging.ImagingTask
    -> ResponseMethod
    ---
    min_soma_probability=0.5 : float64  # (1) units below are left out
    min_snr=3.0     : float64        # (1) units with a lower trace SNR are left out
    """


@schema
class Responses(dj.Computed):
    definition = """
    # One response per trial and unit of a scan
    -> ResponseTask
    -> behavior.Sync
    ---
    responses       : <npy@main>     # float32 (trials, units), a.u.; by trial_idx and unit_id
    n_trials        : int32          # trials; NaN where the window leaves the recording
    n_units         : int32          # units
    """

    class Unit(dj.Part):
        definition = """
        # A unit that passed, and its column
        -> master
        unit_id     : int32          # of imaging.Segmentation.Unit
        ---
        -> imaging.Activity.Unit
        response_column : int32      # column of the response array, from 0
        delay_s     : float64        # when the unit is scanned after the start of a frame (s)
        """

    @property
    def key_source(self):
        """Tasks whose scan has its activity in every field."""
        tasks = ResponseTask * behavior.Sync
        fields = ResponseTask.proj() * imaging.ImagingRecipe * imaging.ScanInfo.Field.proj()
        return (tasks & imaging.ScanInfo.proj()) - (fields - imaging.Activity.proj())

    def make_fetch(self, key):
        recipe = imaging.ImagingRecipe & key
        limits = (ResponseTask & key).fetch1("min_soma_probability", "min_snr")
        fields = []
        for activity in (imaging.Activity & key & recipe).keys(order_by="field"):
            quality = imaging.Segmentation.Unit.proj("soma_probability", "y_px")
            found = quality * imaging.Fluorescence.Unit.proj("snr") & activity
            rows = found.to_dicts(order_by="unit_id")
            kept = [row for row, unit in enumerate(rows) if _passes(unit, *limits)]
            scan = (imaging.ScanInfo.Field & activity).fetch1(
                "delay_s", "line_period_s", "height_px"
            )
            fields.append(
                {
                    "key": activity,
                    "activity": (imaging.Activity & activity).fetch1("activity"),
                    "rows": kept,
                    "unit_id": [rows[row]["unit_id"] for row in kept],
                    "delay_s": [scan_delay(rows[row]["y_px"], *scan) for row in kept],
                }
            )
        times = (behavior.Sync & key).fetch1("frame_times", "trial_times")
        return fields, times, *ResponseMethod.fetch_method(key)

    def make_compute(self, key, fields, times, method, params):
        from pipeline.dataset import response_windows

        frame_times, trial_times = (reference.load() for reference in times)
        activity = np.concatenate(
            [f["activity"].load(mmap_mode="r")[f["rows"]].astype(np.float32) for f in fields]
        )
        if not len(activity):
            raise DataError(
                "no unit passes",
                field="min_soma_probability, min_snr",
                remedy="lower the limits in dataset.ResponseTask",
            )
        units = [
            {**field["key"], "unit_id": unit_id, "delay_s": delay}
            for field in fields
            for unit_id, delay in zip(field["unit_id"], field["delay_s"], strict=True)
        ]
        n = min(activity.shape[1], len(frame_times))
        responses = response_windows[method](
            activity[:, :n],
            frame_times[:n],
            trial_times[:, 0],
            trial_times[:, 1] - trial_times[:, 0],
            np.array([unit["delay_s"] for unit in units]),
            **params,
        )
        return units, np.asarray(responses, np.float32)

    def make_insert(self, key, units, responses):
        n_trials, n_units = responses.shape
        self.insert1({**key, "responses": responses, "n_trials": n_trials, "n_units": n_units})
        self.Unit.insert(
            {**key, **unit, "response_column": column} for column, unit in enumerate(units)
        )


def _passes(unit: dict[str, Any], min_soma_probability: float, min_snr: float) -> bool:
    """Tell whether a unit is kept; one of unknown shape is, one of unknown noise is not."""
    soma = unit["soma_probability"]
    return (soma is None or soma >= min_soma_probability) and (unit["snr"] or 0.0) >= min_snr


def scan_delay(y_px: float, delay_s: float, line_period_s: float, height_px: int) -> float:
    """Return when a row is scanned after the start of a frame (s)."""
    return float(delay_s + (y_px - (height_px - 1) / 2) * line_period_s)


@schema
class BehaviorWindow(MethodTable, dj.Lookup):
    definition = """
    # How pupil and running are read on a trial, with complete parameters
    window_hash     : char(16)       # hash of method and parameters
    ---
    window_method   : varchar(64)    # name in pipeline.dataset.behavior
    window_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.dataset", "behavior_windows")


@schema
class TrialBehaviorTask(dj.Manual):
    definition = """
    # Decision to read the animal's state on the trials of a scan
    -> behavior.BehaviorTask
    -> BehaviorWindow
    """


class BehaviorInputs(NamedTuple):
    """What the state of the animal on every trial is made of; all but the method references."""

    pupil: Any  # (samples, 5)
    speed: Any  # (samples, 2)
    trial_times: Any  # (trials, 2)
    method: str
    params: dict[str, Any]


@schema
class TrialBehavior(dj.Computed):
    definition = """
    # State of the animal on every trial of a scan; NaN where it is not known
    -> TrialBehaviorTask
    -> behavior.Pupil
    -> behavior.Treadmill
    ---
    behavior        : <npy@main>     # float64 (trials, 3): radius (px), change (px/s), speed (cm/s)
    pupil_center    : <npy@main>     # float64 (trials, 2): x, y (px); by trial_idx
    n_complete      : int32          # trials without any NaN
    """

    def make_fetch(self, key):
        given = BehaviorInputs(
            (behavior.Pupil & key).fetch1("pupil"),
            (behavior.Treadmill & key).fetch1("speed"),
            (behavior.Sync & key).fetch1("trial_times"),
            *BehaviorWindow.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.dataset import behavior_windows

        eye, wheel = given.pupil.load(), given.speed.load()
        time_and_eye = eye[:, :4].T if len(eye) else (None,) * 4
        time_and_speed = wheel.T if len(wheel) else (None,) * 2
        onset = given.trial_times.load()[:, 0]
        sample = behavior_windows[given.method]
        result = sample(*time_and_eye, *time_and_speed, onset, **given.params)
        return (
            np.asarray(result.behavior, np.float64),
            np.asarray(result.pupil_center, np.float64),
        )

    def make_insert(self, key, state, center):
        known = np.isfinite(np.concatenate([state, center], axis=1)).all(axis=1)
        self.insert1(
            {**key, "behavior": state, "pupil_center": center, "n_complete": int(known.sum())}
        )
