"""What a scan looks like, and whether it is fit for use."""

from __future__ import annotations

import datajoint as dj
import numpy as np

from pipeline.imaging.summary import summarize
from schemas.imaging.binding import schema
from schemas.imaging.chain import Motion, ScanInfo, corrected_movie


@schema
class SummaryImages(dj.Computed):
    definition = """
    # Images of the corrected movie, and a course over time
    -> Motion
    ---
    mean_image      : <npy@main>     # float32 (H, W), in grey levels of the microscope
    correlation_image : <npy@main>   # float32 (H, W): correlation with the eight neighbours (1)
    max_image       : <npy@main>     # float32 (H, W): maximum of binned frames, in grey levels
    intensity       : <npy@main>     # float32 (frames): mean of every frame, in grey levels
    bin_frames      : int32          # frames averaged for correlation and maximum
    """

    bin_s = 0.4

    def make_fetch(self, key):
        return Motion.fetch_corrections(key), (ScanInfo & key).fetch1("fps")

    def make_compute(self, key, corrections, fps):
        bins = max(1, round(self.bin_s * fps))
        return summarize(corrected_movie(key["field"], corrections), bin_frames=bins), bins

    def make_insert(self, key, summary, bins):
        self.insert1(
            {
                **key,
                "mean_image": np.asarray(summary.mean, np.float32),
                "correlation_image": np.asarray(summary.correlation, np.float32),
                "max_image": np.asarray(summary.maximum, np.float32),
                "intensity": np.asarray(summary.intensity, np.float32),
                "bin_frames": bins,
            }
        )
