"""Slow drift of a field, which a verdict could depend on."""

from __future__ import annotations

from dataclasses import asdict

import datajoint as dj

from schemas import imaging
from schemas.closed_loop.binding import schema
from schemas.store import number


@schema
class Drift(dj.Computed):
    definition = """
    # Slow drift of a field within its session
    -> imaging.Motion
    ---
    drift_y_um_h=null : float64      # down (um/h), robust line through medians of 30 s
    drift_x_um_h=null : float64      # right (um/h); null if not measured, or in a minute
    drift_range_um=null : float64    # farthest from the median place (um)
    n_chunks        : int32          # medians; 0 if the motion was not measured
    """

    def make_fetch(self, key):
        field = (imaging.ScanInfo.Field & key).fetch1("um_per_px_y", "um_per_px_x")
        return (
            (imaging.Motion & key).fetch1("shifts", "motion_rms_px"),
            tuple(1.0 if size is None else size for size in field),
            (imaging.ScanInfo & key).fetch1("fps"),
        )

    def make_compute(self, key, motion, um_per_px, fps):
        from pipeline.closed_loop.checks.drift import slow_drift

        shifts, rms = motion
        if rms is None:
            return ({"y_um_h": None, "x_um_h": None, "range_um": None, "n_chunks": 0},)
        y, x = shifts.load()
        return (asdict(slow_drift(y * um_per_px[0], x * um_per_px[1], fps)),)

    def make_insert(self, key, found):
        self.insert1(
            {
                **key,
                "drift_y_um_h": number(found["y_um_h"]),
                "drift_x_um_h": number(found["x_um_h"]),
                "drift_range_um": number(found["range_um"]),
                "n_chunks": found["n_chunks"],
            }
        )
