"""Traces of the units of a field, and their deconvolved activity."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas.imaging.binding import schema
from schemas.imaging.methods import DeconvolutionMethod, FluorescenceMethod, StepOfRecipe
from schemas.imaging.motion import Motion, corrected_movie
from schemas.imaging.scan import ScanInfo
from schemas.imaging.segmentation import Segmentation, load_masks
from schemas.store import number


class FluorescenceInputs(NamedTuple):
    """What traces of a field are made of."""

    corrections: dict[str, Any]  # of Motion.fetch_corrections
    masks: dict[str, Any]  # of Segmentation.fetch_masks
    units: list[int]  # unit_id, in the order of the masks
    method: str
    params: dict[str, Any]


class ActivityInputs(NamedTuple):
    """What the activity of a field is made of."""

    traces: Any  # reference, (units, frames)
    fps: float  # (Hz)
    units: list[int]  # unit_id, in the order of the traces
    method: str
    params: dict[str, Any]


@schema
class Fluorescence(StepOfRecipe, dj.Computed):
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

    def make_fetch(self, key):
        given = FluorescenceInputs(
            Motion.fetch_corrections(key),
            Segmentation.fetch_masks(key),
            Segmentation.fetch_units(key),
            *FluorescenceMethod.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.imaging.extraction import fluorescence_methods

        movie = corrected_movie(key["field"], given.corrections)
        extract = fluorescence_methods[given.method]
        return given.units, extract(movie, *load_masks(given.masks), **given.params)

    def make_insert(self, key, units, result):
        names = ("raw", "neuropil", "corrected")
        arrays = {name: np.asarray(getattr(result, name), np.float32) for name in names}
        self.insert1({**key, **arrays})
        rows = zip(units, result.coefficient, result.snr, strict=True)
        self.Unit.insert(
            {**key, "unit_id": unit, "coefficient": number(coefficient), "snr": number(snr)}
            for unit, coefficient, snr in rows
        )


@schema
class Activity(StepOfRecipe, dj.Computed):
    definition = """
    # Deconvolved activity of the units of a field; rows in the order of unit_id
    -> Fluorescence
    -> DeconvolutionMethod
    ---
    activity        : <npy@main>     # float32 (units, frames), in activity_unit
    denoised        : <npy@main>     # float32 (units, frames): trace without its noise
    activity_unit   : varchar(32)    # spikes/frame or trace/frame
    """

    class Unit(dj.Part):
        definition = """
        # What the deconvolver found in one trace
        -> master
        -> Fluorescence.Unit
        ---
        noise=null  : float64        # frame-to-frame noise (units of the trace)
        rise_s=null : float64        # time constant of the rise (s)
        decay_s=null : float64       # time constant of the decay (s)
        """

    def make_fetch(self, key):
        given = ActivityInputs(
            (Fluorescence & key).fetch1("corrected"),
            (ScanInfo & key).fetch1("fps"),
            Segmentation.fetch_units(key),
            *DeconvolutionMethod.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.imaging.deconvolution import deconvolvers

        deconvolve = deconvolvers[given.method]
        return given.units, deconvolve(given.traces.load(), given.fps, **given.params)

    def make_insert(self, key, units, result):
        self.insert1(
            {
                **key,
                "activity": np.asarray(result.activity, np.float32),
                "denoised": np.asarray(result.denoised, np.float32),
                "activity_unit": result.activity_unit,
            }
        )
        rows = zip(units, result.noise, result.rise_s, result.decay_s, strict=True)
        self.Unit.insert(
            {
                **key,
                "unit_id": unit,
                "noise": number(noise),
                "rise_s": number(rise),
                "decay_s": number(decay),
            }
            for unit, noise, rise, decay in rows
        )
