"""How a field moved, in numbers: movies are never stored, corrections applied while streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np

from schemas.imaging.binding import schema
from schemas.imaging.methods import MotionMethod, RasterMethod, StepOfRecipe
from schemas.imaging.opening import field_movie, recording_files
from schemas.imaging.scan import ScanInfo  # noqa: F401  named in a definition
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.imaging.movie import MotionCorrected


@schema
class RasterPhase(StepOfRecipe, dj.Computed):
    definition = """
    # Offset between the two directions of a bidirectional scan
    -> ScanInfo.Field
    -> RasterMethod
    ---
    raster_px       : float64        # content of odd rows against even rows, right positive (px)
    drift_px=null   : float64        # change of the offset over the scan (px)
    """

    def make_fetch(self, key):
        return recording_files(key), *RasterMethod.fetch_method(key)

    def make_compute(self, key, files, method, params):
        from pipeline.imaging.raster import raster_methods

        return (raster_methods[method](field_movie(files, key["field"]), **params),)

    def make_insert(self, key, result):
        self.insert1(
            {**key, "raster_px": float(result.raster_px), "drift_px": number(result.drift_px)}
        )


@schema
class Motion(StepOfRecipe, dj.Computed):
    definition = """
    # How a field moved; numbers only, applied while streaming
    -> RasterPhase
    -> MotionMethod
    ---
    shifts          : <npy@main>     # float32 (2, frames): y and x displacement of the content (px)
    block_shifts    : <npy@main>     # float32 (2, frames, down, across): shift of blocks (px)
    block_y_px      : json           # rows of the block centers (px); empty if rigid
    block_x_px      : json           # columns of the block centers (px); empty if rigid
    template        : <npy@main>     # float32 (H, W): what frames were compared with
    correlation_before=null : float64  # (1) frames with the template, uncorrected
    correlation_after=null : float64   # (1) frames with the template, corrected
    motion_rms_px=null : float64     # root mean square displacement (px); null if not measured
    outlier_fraction=null : float64  # (1) share of frames whose shift was not believed
    accepted=null   : bool           # false: correcting made it worse, all shifts are zero
    crispness_before=null : float64  # rms slope of the mean image, uncorrected (gray levels/px)
    crispness_after=null : float64   # rms slope of the mean image, corrected (gray levels/px)
    worse_fraction=null : float64    # (1) share of frames less like the others after correction
    plane_similarity : json          # likeness to the first stretch over time (1); falls by z drift
    z_drift=null    : float64        # (1) 1 - lowest plane_similarity
    """

    def make_fetch(self, key):
        raster = (RasterPhase & key).fetch1("raster_px")
        return recording_files(key), raster, *MotionMethod.fetch_method(key)

    def make_compute(self, key, files, raster, method, params):
        from pipeline.imaging.motion import motion_methods
        from pipeline.imaging.movie import RasterCorrected

        movie = RasterCorrected(field_movie(files, key["field"]), raster)
        return (motion_methods[method](movie, **params),)

    def make_insert(self, key, result):
        blocks = result.block_centers
        rigid = blocks is None or result.block_y_shifts is None
        frames, measured = len(result.y_shifts), bool(np.isfinite(result.rms_px))
        block_shifts = (
            np.zeros((2, frames, 0, 0), np.float32)
            if rigid
            else np.stack([result.block_y_shifts, result.block_x_shifts]).astype(np.float32)
        )
        self.insert1(
            {
                **key,
                "shifts": np.stack([result.y_shifts, result.x_shifts]).astype(np.float32),
                "block_shifts": block_shifts,
                "block_y_px": [] if rigid else np.asarray(blocks[0], float).tolist(),
                "block_x_px": [] if rigid else np.asarray(blocks[1], float).tolist(),
                "template": np.asarray(result.template, np.float32),
                "correlation_before": number(result.correlation_before),
                "correlation_after": number(result.correlation_after),
                "motion_rms_px": number(result.rms_px),
                "outlier_fraction": float(np.mean(result.outliers)) if measured else None,
                "accepted": bool(result.accepted) if measured else None,
                "crispness_before": number(result.crispness_before),
                "crispness_after": number(result.crispness_after),
                "worse_fraction": number(result.worse_fraction),
                "plane_similarity": np.asarray(result.plane_similarity, float).tolist(),
                "z_drift": number(result.z_drift),
            }
        )

    @classmethod
    def fetch_corrections(cls, key: dict[str, Any]) -> dict[str, Any]:
        """Return all that `corrected_movie` needs (references and numbers, no arrays)."""
        shifts, block_shifts, block_y, block_x = (cls & key).fetch1(
            "shifts", "block_shifts", "block_y_px", "block_x_px"
        )
        return {
            "files": recording_files(key),
            "raster_px": (RasterPhase & key).fetch1("raster_px"),
            "shifts": shifts,
            "block_shifts": block_shifts,
            "block_centers": (block_y, block_x),
        }


def corrected_movie(field: int, corrections: dict[str, Any]) -> MotionCorrected:
    """Return the raster- and motion-corrected movie of one field, streamed from the raw files."""
    from pipeline.imaging.movie import MotionCorrected, RasterCorrected

    raw = field_movie(corrections["files"], field)
    y, x = corrections["shifts"].load()
    blocks = {}
    if corrections["block_centers"][0]:
        block_y, block_x = corrections["block_shifts"].load()
        centers = tuple(np.asarray(c, float) for c in corrections["block_centers"])
        blocks = {"block_y_shifts": block_y, "block_x_shifts": block_x, "block_centers": centers}
    return MotionCorrected(RasterCorrected(raw, corrections["raster_px"]), y, x, **blocks)
