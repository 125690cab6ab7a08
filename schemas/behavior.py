"""Clocks of a recording brought together, pupil and running on the rig's clock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.csvfile import read_columns
from schemas import experiment, imaging, stimulus
from schemas.method import Methods, MethodTable
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.behavior.clocks import ClockMap

schema = dj.Schema()
log = logging.getLogger("inception.behavior")


@schema
class PupilMethod(MethodTable, dj.Lookup):
    definition = """
    # Pupil tracker with its complete parameters
    pupil_hash      : char(16)       # hash of method and parameters
    ---
    pupil_method    : varchar(64)    # name in pipeline.behavior.pupil
    pupil_params    : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.behavior.pupil", "pupil_trackers")


@schema
class TreadmillMethod(MethodTable, dj.Lookup):
    definition = """
    # Estimate of running speed with its complete parameters
    treadmill_hash  : char(16)       # hash of method and parameters
    ---
    treadmill_method : varchar(64)   # name in pipeline.behavior.treadmill
    treadmill_params : json          # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.behavior.treadmill", "treadmill_methods")


@schema
class BehaviorTask(dj.Manual):
    definition = """
    # Decision how to follow the pupil and the treadmill of a scan
    -> experiment.Scan
    -> PupilMethod
    -> TreadmillMethod
    """


@schema
class Sync(dj.Imported):
    definition = """
    # Frames and trials of a scan on the rig's clock
    -> experiment.Scan
    ---
    frame_times     : <npy@main>     # float64 (frames): start of every frame (s, rig clock)
    trial_times     : <npy@main>     # float64 (trials, 2): on, off (s, rig clock), by trial_idx
    n_frames        : int32          # number of frame times
    n_trials        : int32          # number of trials
    duration_s      : float64        # from the first to the last frame (s)
    """

    class Stream(dj.Part):
        definition = """
        # Clock of one stream: rig = rig_zero + rate * (stream - stream_zero)
        -> master
        stream      : varchar(16)    # frames, trials, eye or treadmill
        ---
        stream_zero_s : float64      # (s, clock of the stream)
        rig_zero_s  : float64        # (s, rig clock)
        rate        : float64        # seconds of the rig per second of the stream (1)
        drift_ppm   : float64        # what the stream's clock gains (us/s)
        residual_s  : float64        # root mean square distance of the pairs from the line (s)
        n_pairs     : int32          # pairs of times; 0: the stream is on the rig's clock
        """

    def make(self, key):
        """Read frame times and clock pairs; small enough for one transaction."""
        trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
        times = np.array([[t["onset_s"], t["offset_s"]] for t in trials], np.float64).reshape(-1, 2)
        clocks, rows = self._clocks(key)
        frames = clocks["frames"].to_rig(imaging.frame_times(imaging.recording_files(key)))
        self.insert1(
            {
                **key,
                "frame_times": frames,
                "trial_times": clocks["trials"].to_rig(times),
                "n_frames": len(frames),
                "n_trials": len(times),
                "duration_s": float(frames[-1] - frames[0]),
            }
        )
        self.Stream.insert({**key, **row} for row in rows)

    @staticmethod
    def _clocks(key: dict[str, Any]) -> tuple[dict[str, ClockMap], list[dict[str, Any]]]:
        from pipeline.recording.streams import STREAMS, clock_of, read_clocks

        pairs: dict[str, list[list[float]]] = {}
        for path in experiment.existing(experiment.Scan.files(key, "clocks")):
            pairs = read_clocks(path)
        clocks, rows = {}, []
        for stream in STREAMS:
            clock = clocks[stream] = clock_of(pairs, stream)
            rows.append(
                {
                    "stream": stream,
                    "stream_zero_s": float(clock.stream_zero_s),
                    "rig_zero_s": float(clock.rig_zero_s),
                    "rate": float(clock.rate),
                    "drift_ppm": float(clock.drift_ppm),
                    "residual_s": float(clock.residual_s),
                    "n_pairs": len(pairs.get(stream, [])),
                }
            )
        return clocks, rows

    @classmethod
    def clock(cls, key: dict[str, Any], stream: str) -> ClockMap:
        """Return the clock of one stream of a scan."""
        from pipeline.behavior.clocks import ClockMap

        row = cls.Stream & {name: key[name] for name in cls.primary_key} & {"stream": stream}
        return ClockMap(*row.fetch1("stream_zero_s", "rig_zero_s", "rate"))


@schema
class Pupil(dj.Imported):
    definition = """
    # Pupil of a scan on the rig's clock; no samples where there was no eye camera
    -> Sync
    -> PupilMethod
    ---
    pupil           : <npy@main>     # float64 (samples, 5): time (s), x, y, radius (px), confidence
    pupil_source    : varchar(16)    # video, csv or none
    n_samples       : int32          # number of samples
    valid_fraction=null : float64    # (1) share of samples with a radius
    radius_median_px=null : float64  # median radius (px)
    """

    class Failure(dj.Part):
        definition = """
        # Why most frames of the video have no pupil
        -> master
        ---
        problem     : varchar(500)   # in words, with the number of frames
        tried=null  : <npy@main>     # uint8 (H, W, 3): some of them, with what came nearest
        """

    @property
    def key_source(self):
        """Scans and methods asked for."""
        return (Sync * PupilMethod) & BehaviorTask

    def make_fetch(self, key):
        files = {
            kind: experiment.Scan.files(key, kind) for kind in ("eye_video", "eye_times", "pupil")
        }
        clock = (Sync.Stream & key & {"stream": "eye"}).fetch1(
            "stream_zero_s", "rig_zero_s", "rate"
        )
        return files, clock, *PupilMethod.fetch_method(key)

    def make_compute(self, key, files, clock, method, params):
        from pipeline.behavior.clocks import ClockMap
        from pipeline.behavior.pupil import pupil_trackers
        from pipeline.behavior.tried import picture_of
        from pipeline.recording.frames import pair_by_count
        from pipeline.recording.streams import read_pupil

        failure = None
        if files["pupil"]:
            (path,) = experiment.existing(files["pupil"])
            columns = read_pupil(path)
            confidence = np.isfinite(columns["radius_px"]).astype(np.float64)
            table = np.stack([*columns.values(), confidence], axis=1)
            source = "csv"
        elif files["eye_video"]:
            (video,) = experiment.existing(files["eye_video"])
            (times,) = experiment.existing(files["eye_times"])
            time = read_columns(times, ["frame", "time_s"], rising="time_s")["time_s"]
            found = pupil_trackers[method](video, **params)
            time, findings = pair_by_count(len(found.radius_px), time, file=times)
            for finding in findings:
                log.warning("%s", finding)
            n = len(time)
            parts = (found.center_x_px, found.center_y_px, found.radius_px, found.confidence)
            table = np.stack([time, *(part[:n] for part in parts)], axis=1)
            source = "video"
            if found.problem:
                picture = picture_of(found.tried) if found.tried else None
                failure = (found.problem, picture)
        else:
            table, source = np.zeros((0, 5)), "none"
        table[:, 0] = ClockMap(*clock).to_rig(table[:, 0])
        return np.asarray(table, np.float64), source, failure

    def make_insert(self, key, table, source, failure):
        valid = np.isfinite(table[:, 3])
        self.insert1(
            {
                **key,
                "pupil": table,
                "pupil_source": source,
                "n_samples": len(table),
                "valid_fraction": number(valid.mean()) if len(table) else None,
                "radius_median_px": number(np.median(table[valid, 3])) if valid.any() else None,
            }
        )
        if failure is not None:
            self.Failure.insert1({**key, "problem": failure[0][:500], "tried": failure[1]})


class TreadmillInputs(NamedTuple):
    """What the running speed is made of."""

    files: dict[str, list[tuple]]  # of experiment.Scan.files, by kind: treadmill, running
    wheel: tuple  # diameter (cm) and counts per revolution
    clock: tuple  # of ClockMap
    method: str
    params: dict[str, Any]


@schema
class Treadmill(dj.Imported):
    definition = """
    # Running speed of a scan on the rig's clock; no samples where there was no treadmill
    -> Sync
    -> TreadmillMethod
    ---
    speed           : <npy@main>     # float64 (samples, 2): time (s), speed (cm/s; NaN in gaps)
    n_samples       : int32          # number of samples
    mean_abs_speed_cm_s=null : float64  # mean of the absolute speed (cm/s)
    """

    @property
    def key_source(self):
        """Scans and methods asked for."""
        return (Sync * TreadmillMethod) & BehaviorTask

    def make_fetch(self, key):
        wheel = (experiment.Scan & key).fetch1("treadmill_diameter_cm", "treadmill_counts_per_rev")
        clock = (Sync.Stream & key & {"stream": "treadmill"}).fetch1(
            "stream_zero_s", "rig_zero_s", "rate"
        )
        files = {kind: experiment.Scan.files(key, kind) for kind in ("treadmill", "running")}
        return (TreadmillInputs(files, wheel, clock, *TreadmillMethod.fetch_method(key)),)

    def make_compute(self, key, given):
        from pipeline.behavior.clocks import ClockMap
        from pipeline.behavior.treadmill import treadmill_methods
        from pipeline.recording.streams import read_running, read_treadmill

        if given.files["running"]:  # a rig that keeps speed, not counts
            (path,) = experiment.existing(given.files["running"])
            columns = read_running(path)
            time = ClockMap(*given.clock).to_rig(columns["time_s"])
            return (np.stack([time, columns["speed_cm_s"]], axis=1),)
        if not given.files["treadmill"]:
            return (np.zeros((0, 2)),)
        (path,) = experiment.existing(given.files["treadmill"])
        columns = read_treadmill(path)
        time = ClockMap(*given.clock).to_rig(columns["time_s"])
        speed_of = treadmill_methods[given.method]
        found = speed_of(time, columns["counts"], *given.wheel, **given.params)
        return (np.stack([found.time_s, found.speed_cm_s], axis=1).astype(np.float64),)

    def make_insert(self, key, table):
        valid = np.isfinite(table[:, 1])
        mean = number(np.abs(table[valid, 1]).mean()) if valid.any() else None
        self.insert1({**key, "speed": table, "n_samples": len(table), "mean_abs_speed_cm_s": mean})
