"""What a scan looks like, and whether it is fit for use."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas.imaging.binding import schema
from schemas.imaging.motion import Motion, RasterPhase, corrected_movie
from schemas.imaging.opening import field_movie
from schemas.imaging.scan import ScanInfo
from schemas.method import Methods, MethodTable
from schemas.pictures import ShowsPictures, rows_of
from schemas.store import number


@schema
class SummaryImages(ShowsPictures, dj.Computed):
    definition = """
    # Images of the corrected movie, and a course over time
    -> Motion
    ---
    mean_image      : <npy@main>     # float32 (H, W), in gray levels of the microscope
    correlation_image : <npy@main>   # float32 (H, W): correlation with the eight neighbors (1)
    max_image       : <npy@main>     # float32 (H, W): maximum of binned frames, in gray levels
    l6_image        : <npy@main>     # float32 (H, W): L6 norm of transients, in gray levels
    intensity       : <npy@main>     # float32 (frames): mean of every frame, in gray levels
    contrast        : <npy@main>     # float32 (frames): 99th - 1st percentile, in gray levels
    bin_frames      : int32          # frames averaged for correlation, maximum and L6
    """

    bin_s = 0.4

    def pictures(self, most):
        """Return mean and correlation image of the first fields."""
        found = []
        for row in rows_of(self, most // 2):
            for name in ("mean_image", "correlation_image"):
                label = f"field {row['field']}: {name.replace('_', ' ')}"
                found.append((label, row[name].load()))
        return found

    def make_fetch(self, key):
        return Motion.fetch_corrections(key), (ScanInfo & key).fetch1("fps")

    def make_compute(self, key, corrections, fps):
        from pipeline.imaging.summary import summarize

        bins = max(1, round(self.bin_s * fps))
        return summarize(corrected_movie(key["field"], corrections), bin_frames=bins), bins

    def make_insert(self, key, summary, bins):
        self.insert1(
            {
                **key,
                "mean_image": np.asarray(summary.mean, np.float32),
                "correlation_image": np.asarray(summary.correlation, np.float32),
                "max_image": np.asarray(summary.maximum, np.float32),
                "l6_image": np.asarray(summary.l6, np.float32),
                "intensity": np.asarray(summary.intensity, np.float32),
                "contrast": np.asarray(summary.contrast, np.float32),
                "bin_frames": bins,
            }
        )


@schema
class QualityMethod(MethodTable, dj.Lookup):
    definition = """
    # Check of a scan with its complete limits; every method in this table is run on every field
    quality_hash    : char(16)       # hash of method and parameters
    ---
    quality_method  : varchar(64)    # name in pipeline.imaging.quality
    quality_params  : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.quality", "quality_methods")


class QualityInputs(NamedTuple):
    """What is known of a field before it is judged."""

    files: dict[str, Any]  # of recording_files
    intensity: Any  # reference, (frames,)
    contrast: Any  # reference, (frames,)
    raster_drift_px: float | None
    motion_rms_px: float | None  # None: of traces alone
    motion_outliers: float | None
    motion_accepted: bool | None
    method: str
    params: dict[str, Any]


@schema
class Quality(dj.Computed):
    definition = """
    # Whether a field is fit for use, by the limits of a method
    -> SummaryImages
    -> QualityMethod
    ---
    fit=null        : bool           # nothing is out of its limits; null if nothing was measured
    mean_intensity=null : float64    # mean over pixels and frames (gray levels)
    contrast=null   : float64        # 99th - 1st percentile, mean over frames (gray levels)
    intensity_drift=null : float64   # (1) change over the scan, as a share of the mean
    photon_gain=null : float64       # quantal size (gray levels per photon)
    zero_level=null : float64        # level without light (gray levels)
    photons=null    : float64        # mean light (photons per pixel and frame)
    saturated=null  : float64        # (1) share of pixels at the ceiling
    epileptiform_per_min=null : float64  # brief events of the whole field (1/min)
    """

    class Finding(dj.Part):
        definition = """
        # One number out of its limits
        -> master
        finding     : varchar(32)    # photons, contrast, intensity_drift, saturated, ...
        ---
        value       : float64        # what was found (unit of the column; px, um or 1)
        allowed     : float64        # the limit (unit of the value)
        meaning     : varchar(128)   # what it means, and what can be done
        """

    def make_fetch(self, key):
        given = QualityInputs(
            Motion.fetch_corrections(key)["files"],
            *(SummaryImages & key).fetch1("intensity", "contrast"),
            (RasterPhase & key).fetch1("drift_px"),
            *(Motion & key).fetch1("motion_rms_px", "outlier_fraction", "accepted"),
            *QualityMethod.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.imaging.quality import Evidence, not_measured, quality_methods

        if given.motion_rms_px is None:  # traces alone: their movie is made of the given images
            return (not_measured(),)
        evidence = Evidence(
            raw=field_movie(given.files, key["field"]),
            intensity=given.intensity.load(),
            contrast=given.contrast.load(),
            raster_drift_px=given.raster_drift_px,
            motion_rms_px=given.motion_rms_px,
            motion_outliers=given.motion_outliers,
            motion_accepted=bool(given.motion_accepted),
        )
        return (quality_methods[given.method](evidence, **given.params),)

    def make_insert(self, key, found):
        self.insert1(
            {
                **key,
                "fit": found.fit,
                "mean_intensity": number(found.mean_intensity),
                "contrast": number(found.contrast),
                "intensity_drift": number(found.intensity_drift),
                "photon_gain": number(found.gain.gain),
                "zero_level": number(found.gain.zero_level),
                "photons": number(found.photons),
                "saturated": number(found.saturated),
                "epileptiform_per_min": number(found.epileptiform_per_min),
            }
        )
        self.Finding.insert(
            {
                **key,
                "finding": finding.name,
                "value": finding.value,
                "allowed": finding.limit,
                "meaning": finding.text,
            }
            for finding in found.findings
        )
