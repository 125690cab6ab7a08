"""Scans that were extracted elsewhere: traces and masks instead of a movie.

Such a scan walks through the same steps as a movie, each by its method ``extracted``: the movie
that it shows is its mean image over and over, nothing is found to correct, masks and traces are
those given. Neuropil, weights and probabilities of somata that came with them (from
`pipeline.imaging.importers`, for example) are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.extraction import FluorescenceResult, fluorescence_methods, trace_snr
from pipeline.imaging.motion import MotionResult, motion_methods
from pipeline.imaging.movie import Movie, MovieBase
from pipeline.imaging.raster import RasterResult, raster_methods
from pipeline.imaging.segmentation import SegmentationResult, segmenters
from pipeline.imaging.segmentation.mask_files import read_masks
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.imaging.tiff.scan import FieldInfo
from pipeline.npy import npz_names, read_npz

REJECTED = 0.49  # most probable that a unit is which whoever extracted it took for no cell


class ExtractedMovie(MovieBase):
    """The mean image, over and over, with the given masks and traces attached."""

    bidirectional = False

    def __init__(
        self,
        weights: PixelStack,
        mean_image: NDArray[np.float32],
        fluorescence: NDArray[np.float32],
        fps: float,
        um_per_px: tuple[float, float] | None,
        given: dict[str, NDArray] | None = None,
    ) -> None:
        self.given = given or {}
        self.weights, self.mean_image, self.fluorescence = weights, mean_image, fluorescence
        self.shape = (fluorescence.shape[1], *mean_image.shape)
        self.fps, self.um_per_px = fps, um_per_px

    def _read(self, start: int, stop: int) -> NDArray:
        return np.broadcast_to(self.mean_image, (stop - start, *self.mean_image.shape))


class ExtractedScan:
    """A scan of one field and one channel that has traces but no movie.

    Attributes
    ----------
    time_s : array, shape (frames,)
        Start of every frame (s).
    findings : list of Finding
        What was left out.
    n_frames, n_fields, n_channels, fps, bidirectional, fields, channel_numbers, header
        As of `pipeline.imaging.tiff.scan.Scan`.
    """

    def __init__(
        self,
        movie: ExtractedMovie,
        time_s: NDArray[np.float64],
        findings: list[Finding] | None = None,
    ) -> None:
        self._movie, self.time_s, self.findings = movie, time_s, findings or []
        self.n_frames, height, width = movie.shape
        self.n_fields = self.n_channels = 1
        self.channel_numbers = [1]
        self.fps, self.bidirectional = movie.fps, False
        self.header: dict[str, object] = {}
        delay, line = (float(seconds) for seconds in movie.given.get("timing", np.zeros(2)))
        size = movie.um_per_px
        self.fields = [FieldInfo(0, height, width, size, None, None, None, delay, line)]

    def movie(self, field: int = 0, channel: int = 0) -> ExtractedMovie:
        """Return the one movie."""
        if (field, channel) != (0, 0):
            raise ValueError(f"an extracted scan has field 0 and channel 0, not {field}, {channel}")
        return self._movie


def open_extracted(
    traces: str | os.PathLike,
    masks: str | os.PathLike,
    *,
    um_per_px: tuple[float, float] | None = None,
) -> ExtractedScan:
    """Open traces and masks of a scan.

    Parameters
    ----------
    traces : path
        npz with `time_s` (frames) and `fluorescence` (units, frames); optionally `raw` and
        `neuropil` (units, frames).
    masks : path
        npz with `masks` bool (units, H, W) or lists of their pixels, as `read_masks` takes them,
        and `mean_image` (H, W); optionally `weights` (units, H, W), `soma_probability` (units) and
        `keep` (units), `timing` (2): the middle line after the start of the frame, and from one
        line to the next (s). A unit without a pixel is left out.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um).

    Raises
    ------
    DataError
        If an array is missing, does not fit the others, or times do not increase.
    """
    traces, masks = Path(traces), Path(masks)
    first = _arrays(traces, ("time_s", "fluorescence"), ("raw", "neuropil"))
    second = _arrays(masks, ("mean_image",), ("soma_probability", "keep", "timing"))
    for name, array in {**first, **second}.items():
        if array.dtype.kind not in "biuf":
            file = traces if name in first else masks
            raise DataError("is no array of numbers", file=file, field=name, found=array.dtype)
    time = np.asarray(first["time_s"], np.float64)
    fluorescence = np.asarray(first["fluorescence"], np.float32)
    mean = np.asarray(second["mean_image"], np.float32)
    if time.ndim != 1 or len(time) < 2 or not np.isfinite(time).all() or (np.diff(time) <= 0).any():
        raise DataError(
            "frame times do not increase",
            file=traces,
            field="time_s",
            found=time.shape,
            expected="finite, rising (frames,)",
        )
    if fluorescence.ndim != 2 or fluorescence.shape[1] != len(time) or not len(fluorescence):
        raise DataError(
            "traces do not fit the times",
            file=traces,
            field="fluorescence",
            found=fluorescence.shape,
            expected=f"(units, {len(time)})",
        )
    weights = read_masks(masks)
    if len(weights) != len(fluorescence):
        raise DataError(
            "masks do not fit the traces",
            file=masks,
            field="masks",
            found=weights.shape,
            expected=f"({len(fluorescence)}, H, W)",
        )
    if mean.shape != weights.shape[1:] or not np.isfinite(mean).all():
        raise DataError(
            "mean image does not fit the masks",
            file=masks,
            field="mean_image",
            found=mean.shape,
            expected=f"finite {weights.shape[1:]}",
        )
    units = fluorescence.shape[:1]
    fits = {
        "raw": (traces, first, fluorescence.shape),
        "neuropil": (traces, first, fluorescence.shape),
        "soma_probability": (masks, second, units),
        "keep": (masks, second, units),
        "timing": (masks, second, (2,)),
    }
    given = {}
    for name, (file, arrays, expected) in fits.items():
        if name not in arrays:
            continue
        given[name] = np.asarray(arrays[name], np.float32)
        if given[name].shape != expected:
            raise DataError(
                "array does not fit the others",
                file=file,
                field=name,
                found=given[name].shape,
                expected=expected,
            )
    findings, rows = [], np.flatnonzero(weights.counts > 0)
    if not len(rows):
        raise DataError("no mask has a pixel", file=masks, found=f"{len(weights)} masks")
    if len(rows) < len(weights):
        empty = np.flatnonzero(weights.counts == 0)
        text = f"{len(empty)} units without a pixel are left out, the first is {empty[0]}"
        findings.append(Finding("units-left-out", f"{masks.name}: {text}"))
        weights, fluorescence = weights.select(rows), fluorescence[rows]
        given = {name: v if name == "timing" else v[rows] for name, v in given.items()}
    fps = 1 / float(np.median(np.diff(time)))
    movie = ExtractedMovie(weights, mean, fluorescence, fps, um_per_px, given)
    return ExtractedScan(movie, time, findings)


def _arrays(
    path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, NDArray]:
    arrays = read_npz(path, (*names, *optional))
    if any(name not in arrays for name in names):
        raise DataError("array is missing", file=path, found=npz_names(path), expected=names)
    return arrays


def _source(movie: Movie) -> ExtractedMovie:
    """Return the extracted movie under its (empty) corrections."""
    inner = movie
    while not isinstance(inner, ExtractedMovie):
        if not hasattr(inner, "movie"):
            raise ValueError("method 'extracted' is for scans that came with traces and masks")
        inner = inner.movie
    return inner


@raster_methods.register("extracted", revision=2)
def extracted_raster(movie: Movie) -> RasterResult:
    """Correct nothing; the change over the scan was not measured."""
    _source(movie)
    return RasterResult(0.0, float("nan"))


@motion_methods.register("extracted", revision=2)
def extracted_motion(movie: Movie) -> MotionResult:
    """Correct nothing; what no frame was seen for is NaN."""
    frames = movie.shape[0]
    zero = np.zeros(frames, np.float32)
    return MotionResult(
        zero,
        zero.copy(),
        _source(movie).mean_image,
        float("nan"),
        float("nan"),
        float("nan"),
        np.zeros(frames, bool),
        True,
        worse_fraction=float("nan"),
    )


@segmenters.register("extracted", revision=3)
def extracted_masks(movie: Movie) -> SegmentationResult:
    """Return the given masks in the order of the traces, uniformly weighted if not given.

    Where the file says which units were kept, `soma_probability` is at least 0.5 for those and at
    most 0.49 for the others, whatever probability it gives besides.
    """
    source = _source(movie)
    unknown = np.full(len(source.weights), np.nan, np.float32)
    probability = source.given.get("soma_probability", unknown.copy())
    if "keep" in source.given:
        known = np.nan_to_num(probability, nan=0.5)
        kept = source.given["keep"] != 0
        probability = np.where(kept, np.maximum(known, 0.5), np.minimum(known, REJECTED))
    return SegmentationResult(
        source.weights.as_masks(),
        source.weights,
        unknown,
        probability.astype(np.float32),
        source.mean_image,
        np.zeros_like(source.mean_image),
    )


@fluorescence_methods.register("extracted", revision=2)
def extracted_traces(
    movie: Movie, masks: NDArray[np.bool_], weights: NDArray[np.floating]
) -> FluorescenceResult:
    """Return the given traces, taken as corrected already."""
    source = _source(movie)
    traces = source.fluorescence
    if len(masks) != len(traces):
        raise ValueError(f"{len(masks)} masks do not fit {len(traces)} traces")
    return FluorescenceResult(
        source.given.get("raw", traces),
        source.given.get("neuropil", np.zeros_like(traces)),
        traces,
        np.full(len(traces), np.nan, np.float32),
        trace_snr(traces, source.fps),
    )
