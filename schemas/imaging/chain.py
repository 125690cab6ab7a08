"""From the frames of a scan to the deconvolved activity of its units.

Every step is keyed by the scan, the field and the methods so far, so that two recipes that differ
in the last step share all others. Movies are never stored: corrections are numbers, applied again
while frames stream.
"""

from __future__ import annotations

from typing import Any, ClassVar

import datajoint as dj
import numpy as np

from pipeline.csvfile import read_columns
from pipeline.errors import DataError
from pipeline.imaging.deconvolution import deconvolvers
from pipeline.imaging.extraction import fluorescence_methods
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.imaging.motion import motion_methods
from pipeline.imaging.movie import MotionCorrected, RasterCorrected
from pipeline.imaging.raster import raster_methods
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.masks import centroids, pack_masks, unpack_masks
from pipeline.recording.frames import TimedScan, open_timed
from pipeline.registry import config_hash
from schemas import experiment
from schemas.imaging.binding import schema
from schemas.method import MethodTable
from schemas.store import number

UNITS_PER_FIELD = 100_000  # unit_id = field * UNITS_PER_FIELD + row + 1: unique in a scan


@schema
class RasterMethod(MethodTable, dj.Lookup):
    definition = """
    # Estimate of the raster phase with its complete parameters
    raster_hash     : char(16)       # hash of method and parameters
    ---
    raster_method   : varchar(64)    # name in pipeline.imaging.raster
    raster_params   : json           # every keyword parameter, defaults filled in
    """
    registry = raster_methods


@schema
class MotionMethod(MethodTable, dj.Lookup):
    definition = """
    # Motion estimate with its complete parameters
    motion_hash     : char(16)       # hash of method and parameters
    ---
    motion_method   : varchar(64)    # name in pipeline.imaging.motion
    motion_params   : json           # every keyword parameter, defaults filled in
    """
    registry = motion_methods


@schema
class SegmentationMethod(MethodTable, dj.Lookup):
    definition = """
    # Segmenter with its complete parameters
    segmentation_hash : char(16)     # hash of method and parameters
    ---
    segmentation_method : varchar(64)  # name in pipeline.imaging.segmentation
    segmentation_params : json       # every keyword parameter, defaults filled in
    """
    registry = segmenters


@schema
class FluorescenceMethod(MethodTable, dj.Lookup):
    definition = """
    # Extraction of traces with its complete parameters
    fluorescence_hash : char(16)     # hash of method and parameters
    ---
    fluorescence_method : varchar(64)  # name in pipeline.imaging.extraction
    fluorescence_params : json       # every keyword parameter, defaults filled in
    """
    registry = fluorescence_methods


@schema
class DeconvolutionMethod(MethodTable, dj.Lookup):
    definition = """
    # Deconvolver with its complete parameters
    deconvolution_hash : char(16)    # hash of method and parameters
    ---
    deconvolution_method : varchar(64)  # name in pipeline.imaging.deconvolution
    deconvolution_params : json      # every keyword parameter, defaults filled in
    """
    registry = deconvolvers


@schema
class ImagingRecipe(dj.Lookup):
    definition = """
    # One method for every step from frames to activity
    imaging_hash    : char(16)       # hash of the five methods
    ---
    -> RasterMethod
    -> MotionMethod
    -> SegmentationMethod
    -> FluorescenceMethod
    -> DeconvolutionMethod
    """

    steps: ClassVar[dict[str, type]] = {
        "raster": RasterMethod,
        "motion": MotionMethod,
        "segmentation": SegmentationMethod,
        "fluorescence": FluorescenceMethod,
        "deconvolution": DeconvolutionMethod,
    }

    @classmethod
    def add(cls, methods: dict[str, dict[str, Any]] | None = None) -> dict:
        """Insert a recipe unless it is there, and return its key.

        Parameters
        ----------
        methods : dict, optional
            Step (raster, motion, segmentation, fluorescence, deconvolution) to
            `{"method": name, "params": {...}}`; what is left out is the recommended one.
        """
        methods = methods or {}
        unknown = sorted(set(methods) - set(cls.steps))
        if unknown:
            raise ValueError(f"no imaging step {unknown}; there are {sorted(cls.steps)}")
        row = {}
        for step, table in cls.steps.items():
            chosen = methods.get(step) or {}
            row.update(table.add(chosen.get("method"), chosen.get("params")))
        key = {"imaging_hash": config_hash(row)}
        cls.insert1({**key, **row}, skip_duplicates=True)
        return key


@schema
class ImagingTask(dj.Manual):
    definition = """
    # Decision to process a scan by a recipe
    -> experiment.Scan
    -> ImagingRecipe
    """


@schema
class ScanInfo(dj.Imported):
    definition = """
    # What the files of a scan hold
    -> experiment.Scan
    ---
    n_fields        : int16          # fields
    n_channels      : int16          # saved channels
    n_frames        : int32          # complete frames (volumes) that have a time
    fps             : float64        # frames (volumes) per second, by the rig's frame times (Hz)
    bidirectional   : bool           # rows alternate in direction
    """

    class Field(dj.Part):
        definition = """
        # One imaged rectangle
        -> master
        field       : int16          # from 0
        ---
        height_px   : int32          # rows (px)
        width_px    : int32          # columns (px)
        um_per_px_y=null : float64   # height of a pixel (um); null if unknown
        um_per_px_x=null : float64   # width of a pixel (um); null if unknown
        x_um=null   : float64        # center, right positive (um, coordinates of the microscope)
        y_um=null   : float64        # center, down positive (um, coordinates of the microscope)
        z_um=null   : float64        # depth (um, coordinates of the microscope)
        delay_s     : float64        # middle line after the start of the frame (s)
        line_period_s : float64      # from one line to the next (s)
        """

    class Finding(dj.Part):
        definition = """
        # What was left out or corrected when frames and their times were read
        -> master
        finding_idx : int16          # from 0
        ---
        finding     : varchar(64)    # name of the kind, as in docs/formats.md
        finding_text : varchar(1024) # what was found and what was done
        """

    @property
    def key_source(self):
        """Scans that somebody wants processed."""
        return experiment.Scan & ImagingTask

    def make_fetch(self, key):
        return (recording_files(key),)

    def make_compute(self, key, files):
        timed = _timed(files)
        scan, times = timed.scan, timed.time_s
        channel_position(scan, files)
        fields = [
            {
                "field": field.index,
                "height_px": field.height_px,
                "width_px": field.width_px,
                "um_per_px_y": None if field.um_per_px is None else number(field.um_per_px[0]),
                "um_per_px_x": None if field.um_per_px is None else number(field.um_per_px[1]),
                "x_um": number(field.x_um),
                "y_um": number(field.y_um),
                "z_um": number(field.z_um),
                "delay_s": float(field.delay_s),
                "line_period_s": float(field.line_period_s),
            }
            for field in scan.fields
        ]
        info = {
            "n_fields": scan.n_fields,
            "n_channels": scan.n_channels,
            "n_frames": min(scan.n_frames, len(times)),
            "fps": float(scan.fps),
            "bidirectional": bool(scan.bidirectional),
        }
        return info, fields, [(item.name, item.text) for item in timed.findings]

    def make_insert(self, key, info, fields, findings):
        self.insert1({**key, **info})
        self.Field.insert({**key, **field} for field in fields)
        self.Finding.insert(
            {**key, "finding_idx": index, "finding": name, "finding_text": text[:1024]}
            for index, (name, text) in enumerate(findings)
        )


def recording_files(key: dict[str, Any]) -> dict[str, Any]:
    """Return the raw files of a scan and what the bundle says about them (fetch only)."""
    row = (experiment.Scan & key).fetch1()
    return {
        "tiff": experiment.Scan.files(row, "tiff"),
        "traces": experiment.Scan.files(row, "traces"),
        "masks": experiment.Scan.files(row, "masks"),
        "times": experiment.Scan.files(row, "frame_times"),
        "channel": row["channel"],
        "um_per_px": (row["um_per_px_y"], row["um_per_px_x"]),
    }


def frame_times(files: dict[str, Any]) -> np.ndarray:
    """Return when each frame began (s, clock of the frames), shape (frames,)."""
    return _timed(files).time_s


def open_recording(files: dict[str, Any]):
    """Open what `recording_files` lists: TIFF files, or traces and masks."""
    return _timed(files).scan


def _timed(files: dict[str, Any]) -> TimedScan:
    """Open a movie with the times of its frames, or traces and masks with theirs."""
    size = files["um_per_px"]
    um_per_px = None if None in size else tuple(size)
    if not files["tiff"]:
        (traces,) = experiment.existing(files["traces"])
        (masks,) = experiment.existing(files["masks"])
        scan = open_extracted(traces, masks, um_per_px=um_per_px)
        return TimedScan(scan, scan.time_s)
    (path,) = experiment.existing(files["times"])
    times = read_columns(path, ["frame", "time_s"], rising="time_s")["time_s"]
    paths = experiment.existing(files["tiff"])
    return open_timed(paths, times, file=path, um_per_px=um_per_px)


def channel_position(scan, files: dict[str, Any]) -> int:
    """Return the 0-based position of the indicator's channel among those saved."""
    saved = list(scan.channel_numbers)
    if files["channel"] not in saved:
        raise DataError(
            "channel was not saved",
            file="recording.json",
            field="imaging.channel",
            found=files["channel"],
            expected=f"one of {saved}",
        )
    return saved.index(files["channel"])


def field_movie(files: dict[str, Any], field: int):
    """Return the uncorrected movie of one field."""
    scan = open_recording(files)
    return scan.movie(field, channel_position(scan, files))


@schema
class RasterPhase(dj.Computed):
    definition = """
    # Offset between the two directions of a bidirectional scan
    -> ScanInfo.Field
    -> RasterMethod
    ---
    raster_px       : float64        # content of odd rows against even rows, right positive (px)
    drift_px=null   : float64        # change of the offset over the scan (px)
    """

    @property
    def key_source(self):
        """Fields and methods of the recipes asked for."""
        return (ScanInfo.Field * RasterMethod) & (ImagingTask * ImagingRecipe)

    def make_fetch(self, key):
        return recording_files(key), *RasterMethod.fetch_method(key)

    def make_compute(self, key, files, method, params):
        return (raster_methods[method](field_movie(files, key["field"]), **params),)

    def make_insert(self, key, result):
        self.insert1(
            {**key, "raster_px": float(result.raster_px), "drift_px": number(result.drift_px)}
        )


@schema
class Motion(dj.Computed):
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

    @property
    def key_source(self):
        """Fields and methods of the recipes asked for."""
        return (RasterPhase * MotionMethod) & (ImagingTask * ImagingRecipe)

    def make_fetch(self, key):
        raster = (RasterPhase & key).fetch1("raster_px")
        return recording_files(key), raster, *MotionMethod.fetch_method(key)

    def make_compute(self, key, files, raster, method, params):
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
    raw = field_movie(corrections["files"], field)
    y, x = corrections["shifts"].load()
    blocks = {}
    if corrections["block_centers"][0]:
        block_y, block_x = corrections["block_shifts"].load()
        centers = tuple(np.asarray(c, float) for c in corrections["block_centers"])
        blocks = {"block_y_shifts": block_y, "block_x_shifts": block_x, "block_centers": centers}
    return MotionCorrected(RasterCorrected(raw, corrections["raster_px"]), y, x, **blocks)


@schema
class Segmentation(dj.Computed):
    definition = """
    # Units of a field
    -> Motion
    -> SegmentationMethod
    ---
    n_units         : int32          # number of units
    mask_start      : <npy@main>     # int64 (units + 1): where each unit's pixels begin
    mask_pixel      : <npy@main>     # int32 (pixels): row * width + column, from 0
    mask_weight     : <npy@main>     # float32 (pixels): share of the pixel in the unit's trace (1)
    """

    class Unit(dj.Part):
        definition = """
        # One unit
        -> master
        unit_id     : int32          # unique in a scan: field * 100000 + row of the arrays + 1
        ---
        y_px        : float64        # center in the motion-corrected mean image, down (px)
        x_px        : float64        # center in the motion-corrected mean image, right (px)
        area_px     : int32          # pixels of the mask
        score=null  : float64        # (1) size of transients over noise; the segmenter's order
        soma_probability=null : float64  # (1) that it is a cell body
        """

    @property
    def key_source(self):
        """Fields and methods of the recipes asked for."""
        return (Motion * SegmentationMethod) & (ImagingTask * ImagingRecipe)

    def make_fetch(self, key):
        return Motion.fetch_corrections(key), *SegmentationMethod.fetch_method(key)

    def make_compute(self, key, corrections, method, params):
        movie = corrected_movie(key["field"], corrections)
        result = segmenters[method](movie, **params)
        packed = pack_masks(result.masks, result.weights)
        centre = centroids(*packed, width=movie.shape[2])
        units = [
            {
                "unit_id": key["field"] * UNITS_PER_FIELD + row + 1,
                "y_px": float(centre[row, 0]),
                "x_px": float(centre[row, 1]),
                "area_px": int(packed[0][row + 1] - packed[0][row]),
                "score": number(result.score[row]),
                "soma_probability": number(result.soma_probability[row]),
            }
            for row in range(len(result.masks))
        ]
        if len(units) >= UNITS_PER_FIELD:
            raise DataError("too many units in a field", found=len(units), expected=UNITS_PER_FIELD)
        return packed, units

    def make_insert(self, key, packed, units):
        start, pixel, weight = packed
        self.insert1(
            {
                **key,
                "n_units": len(units),
                "mask_start": start,
                "mask_pixel": pixel,
                "mask_weight": weight,
            }
        )
        self.Unit.insert({**key, **unit} for unit in units)

    @classmethod
    def fetch_masks(cls, key: dict[str, Any]) -> dict[str, Any]:
        """Return what `load_masks` needs (references and numbers, no arrays)."""
        start, pixel, weight = (cls & key).fetch1("mask_start", "mask_pixel", "mask_weight")
        height, width = (ScanInfo.Field & key).fetch1("height_px", "width_px")
        return {"start": start, "pixel": pixel, "weight": weight, "shape": (height, width)}


def load_masks(packed: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return masks bool and weights float32, both (units, H, W), of `Segmentation.fetch_masks`."""
    parts = (packed[name].load() for name in ("start", "pixel", "weight"))
    return unpack_masks(*parts, tuple(packed["shape"]))


@schema
class Fluorescence(dj.Computed):
    definition = """
    # Traces of the units of a field; rows in the order of unit_id
    -> Segmentation
    -> FluorescenceMethod
    ---
    raw             : <npy@main>     # float32 (units, frames): weighted mean of pixels, gray levels
    neuropil        : <npy@main>     # float32 (units, frames): surroundings, gray levels
    corrected       : <npy@main>     # float32 (units, frames): without neuropil, not smoothed
    """

    class Unit(dj.Part):
        definition = """
        # Quality of one trace
        -> master
        -> Segmentation.Unit
        ---
        coefficient=null : float64   # (1) share of the neuropil that was in the raw trace
        snr=null    : float64        # (1) size of transients over noise
        """

    @property
    def key_source(self):
        """Fields and methods of the recipes asked for."""
        return (Segmentation * FluorescenceMethod) & (ImagingTask * ImagingRecipe)

    def make_fetch(self, key):
        units = (Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id").tolist()
        return (
            Motion.fetch_corrections(key),
            Segmentation.fetch_masks(key),
            units,
            *FluorescenceMethod.fetch_method(key),
        )

    def make_compute(self, key, corrections, packed, units, method, params):
        movie = corrected_movie(key["field"], corrections)
        masks, weights = load_masks(packed)
        return units, fluorescence_methods[method](movie, masks, weights, **params)

    def make_insert(self, key, units, result):
        names = ("raw", "neuropil", "corrected")
        arrays = {name: np.asarray(getattr(result, name), np.float32) for name in names}
        self.insert1({**key, **arrays})
        rows = zip(units, result.coefficient, result.snr, strict=True)
        self.Unit.insert(
            {**key, "unit_id": unit, "coefficient": number(coefficient), "snr": number(snr)}
            for unit, coefficient, snr in rows
        )
