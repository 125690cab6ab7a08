"""What was shown on day 2, and whether it was the plan."""

from __future__ import annotations

import datajoint as dj
import numpy as np

from schemas import behavior, experiment, mei, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.planning import Plan
from schemas.store import number


@schema
class Presentation(dj.Manual):
    definition = """
    # Recording in which a plan was shown
    -> experiment.Scan
    ---
    -> Plan
    """


@schema
class Audit(dj.Computed):
    definition = """
    # What was really on the monitor, against the plan
    -> Presentation
    -> behavior.Sync
    ---
    n_planned       : int32          # trials of the plan
    n_shown         : int32          # trials of the recording
    n_usable        : int32          # trials that are scored
    audit_summary   : json           # counts of every status, delays
    """

    class Trial(dj.Part):
        definition = """
        # One planned trial, or one presentation that nobody planned
        -> master
        audit_idx   : int32          # row of the comparison, from 0
        ---
        planned_idx=null : int32     # trial of the plan; null if it was not planned
        -> [nullable] stimulus.Trial
        status      : varchar(16)    # ok dropped late short long unseen repeated wrong extra
        usable      : bool           # it is scored
        lateness_s=null : float64    # blank beyond the planned one and the scan's median (s)
        excess_s=null : float64      # time on beyond the planned (s)
        """

    def make_fetch(self, key):
        plan = (Presentation & key).fetch1("plan_id")
        planned = (Plan.Trial & {"plan_id": plan}).to_dicts(order_by="trial_idx")
        shown = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
        names = ("trial_idx", "image_hash", "duration_s", "blank_before_s")
        columns = {name: [row[name] for row in planned] for name in names}
        log = {name: [row[name] for row in shown] for name in ("trial_idx", "image_hash")}
        photodiode = experiment.Scan.files(key, "photodiode")
        return columns, log, (behavior.Sync & key).fetch1("trial_times"), photodiode

    def make_compute(self, key, columns, log, times, photodiode):
        import pandas as pd

        from pipeline.closed_loop.package.photodiode import read_flips
        from pipeline.closed_loop.presentation.audit import audit_presentation

        times = times.load()
        order = np.argsort(times[:, 0], kind="stable")  # by time, whatever the rig's numbering
        shown = pd.DataFrame({**log, "onset_s": times[:, 0], "offset_s": times[:, 1]})
        shown = shown.iloc[order].reset_index(drop=True)
        planned, shown = (
            frame.rename(columns={"image_hash": "image"})
            for frame in (pd.DataFrame(columns), shown)
        )
        flips = read_flips(experiment.existing(photodiode)[0]) if photodiode else None
        result = audit_presentation(planned, shown, flips=flips)
        rows = []
        for index, row in enumerate(result.per_trial.to_dict("records")):
            seen = int(row["shown_row"])
            rows.append(
                {
                    "audit_idx": index,
                    "planned_idx": None if row["trial_idx"] < 0 else int(row["trial_idx"]),
                    "trial_idx": None if seen < 0 else int(shown["trial_idx"][seen]),
                    "status": row["status"],
                    "usable": bool(row["usable"]),
                    "lateness_s": number(row["lateness_s"]),
                    "excess_s": number(row["excess_s"]),
                }
            )
        return rows, mei.as_json(result.summary)

    def make_insert(self, key, rows, summary):
        counts = {name: int(summary[name]) for name in ("n_planned", "n_shown", "n_usable")}
        self.insert1({**key, **counts, "audit_summary": summary})
        self.Trial.insert({**key, **row} for row in rows)
