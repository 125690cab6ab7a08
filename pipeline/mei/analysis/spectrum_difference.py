"""Spatial frequencies that MEIs have and linear receptive fields lack."""

from __future__ import annotations

import numpy as np

from .base import Analysis, AnalysisContext, analyses


@analyses.register("spectrum_difference", revision=2)
def spectrum_difference(context: AnalysisContext, *, bins: int = 16) -> Analysis:
    """Compare amplitude spectra of MEIs and RFs of one contrast (S7).

    Parameters
    ----------
    context : AnalysisContext
    bins : int
        Of radial frequency, 0 to 0.5 cycles/px.

    Returns
    -------
    Analysis
        `mei_frequency`, `rf_frequency`: mean radial frequency weighted by power (cycles/px).
        Arrays `difference` (units, h, w): amplitude of MEI minus RF, zero frequency in the
        center; `mei_radial`, `rf_radial` (units, bins): mean amplitude; `frequency` (bins,).
    """
    h, w = context.stimuli.shape
    fy, fx = np.fft.fftshift(np.fft.fftfreq(h)), np.fft.fftshift(np.fft.fftfreq(w))
    radius = np.hypot(fy[:, None], fx[None])
    ring = np.minimum((radius / 0.5 * bins).astype(int), bins)  # corners are left out
    count = np.maximum(np.bincount(ring.ravel(), minlength=bins + 1)[:bins], 1)
    columns, radial, maps = {}, {}, {}
    for name, images in (("mei", context.mei), ("rf", context.rf)):
        spectrum = np.fft.fft2(images[:, 0].cpu().numpy(), norm="ortho")
        maps[name] = np.abs(np.fft.fftshift(spectrum, axes=(1, 2)))
        power = (maps[name] ** 2).reshape(len(spectrum), -1)
        total = power.sum(1)
        moment = power @ radius.ravel()
        columns[f"{name}_frequency"] = np.where(
            total > 0, moment / np.maximum(total, 1e-30), np.nan
        )
        radial[f"{name}_radial"] = np.array(
            [np.bincount(ring.ravel(), m.ravel(), bins + 1)[:bins] / count for m in maps[name]],
            np.float32,
        ).reshape(-1, bins)
    difference = (maps["mei"] - maps["rf"]).astype(np.float32)
    frequency = (np.arange(bins) + 0.5) * 0.5 / bins
    return Analysis(columns, {"difference": difference, **radial, "frequency": frequency})
