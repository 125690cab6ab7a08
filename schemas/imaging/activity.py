"""Deconvolved activity."""

from __future__ import annotations

import datajoint as dj
import numpy as np

from pipeline.imaging.deconvolution import deconvolvers
from schemas.imaging.binding import schema
from schemas.imaging.chain import (
    DeconvolutionMethod,
    Fluorescence,
    ImagingRecipe,
    ImagingTask,
    ScanInfo,
    Segmentation,
)
from schemas.store import number


@schema
class Activity(dj.Computed):
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

    @property
    def key_source(self):
        """Fields and methods of the recipes asked for."""
        return (Fluorescence * DeconvolutionMethod) & (ImagingTask * ImagingRecipe)

    def make_fetch(self, key):
        units = (Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id").tolist()
        return (
            (Fluorescence & key).fetch1("corrected"),
            (ScanInfo & key).fetch1("fps"),
            units,
            *DeconvolutionMethod.fetch_method(key),
        )

    def make_compute(self, key, traces, fps, units, method, params):
        return units, deconvolvers[method](traces.load(), fps, **params)

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
