"""Classical tuning, asked of the model: orientation and size of gratings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei.search import own_responses

from .base import Analysis, AnalysisContext, analyses


@analyses.register("orientation_tuning")
def orientation_tuning(
    context: AnalysisContext,
    *,
    orientations: int = 16,
    phases: int = 8,
    wavelengths_px: Sequence[float] = (4, 5.5, 7, 9, 12),
    radius_px: float = 8.0,
    rms: float = 0.5,
) -> Analysis:
    """Show gratings of all orientations in a window on the MEI, at the best wavelength.

    Parameters
    ----------
    context : AnalysisContext
    orientations, phases : int
        Evenly over 180 and 360 degrees.
    wavelengths_px : sequence of float
        (px at 64 columns)
    radius_px : float
        Of the window (px at 64 columns).
    rms : float
        Contrast of the grating inside (z-scored).

    Returns
    -------
    Analysis
        `preferred_deg`: direction across the stripes; `selectivity`: 1 - circular variance of the
        mean over phases; `modulation`: first harmonic over mean along phase at the best grating
        (a simple cell has 1 and more); `wavelength_px`: the best. Arrays `curve`
        (units, orientations): mean over phases at the best wavelength; `orientation_deg`.
    """
    scale = context.stimuli.shape[1] / 64
    angles = np.arange(orientations) * np.pi / orientations
    waves = scale * np.asarray(wavelengths_px, float)
    turns = np.arange(phases) * 2 * np.pi / phases
    rates = np.stack(
        [
            [
                [_respond(context, wave, angle, turn, scale * radius_px, rms) for turn in turns]
                for angle in angles
            ]
            for wave in waves
        ],
        axis=-1,
    )  # (orientations, phases, units, wavelengths)
    rates = np.moveaxis(rates, (2, 3), (0, 1))  # (units, wavelengths, orientations, phases)
    mean = rates.mean(3)
    rows = np.arange(len(rates))
    wave, angle = np.unravel_index(mean.reshape(len(rates), -1).argmax(1), mean.shape[1:])
    curve = mean[rows, wave]
    vector = (curve * np.exp(2j * angles)).sum(1) / np.maximum(curve.sum(1), 1e-12)
    wave_phase = rates[rows, wave, angle]
    harmonic = 2 * np.abs((wave_phase * np.exp(-1j * turns)).mean(1))
    return Analysis(
        {
            "preferred_deg": np.rad2deg(np.angle(vector) / 2) % 180,
            "selectivity": np.abs(vector),
            "modulation": harmonic / np.maximum(wave_phase.mean(1), 1e-12),
            "wavelength_px": waves[wave],
        },
        {"curve": curve.astype(np.float32), "orientation_deg": np.rad2deg(angles)},
    )


@analyses.register("size_tuning")
def size_tuning(
    context: AnalysisContext,
    *,
    radii_px: Sequence[float] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    phases: int = 8,
    orientations: int = 8,
    wavelengths_px: Sequence[float] = (4, 5.5, 7, 9, 12),
    rms: float = 0.5,
) -> Analysis:
    """Grow a grating of the best orientation and wavelength from the middle of the MEI.

    Parameters
    ----------
    context : AnalysisContext
    radii_px : sequence of float
        (px at 64 columns)
    phases, orientations, wavelengths_px, rms
        See `orientation_tuning`, which finds the grating.

    Returns
    -------
    Analysis
        `preferred_radius_px`; `suppression`: 1 - response at the largest radius over the largest
        response. Arrays `curve` (units, radii): mean over phases; `radius_px`.
    """
    grating = orientation_tuning(
        context,
        orientations=orientations,
        phases=phases,
        wavelengths_px=wavelengths_px,
        rms=rms,
    )
    angle = np.deg2rad(grating.units["preferred_deg"])
    wave = grating.units["wavelength_px"]
    radii = context.stimuli.shape[1] / 64 * np.asarray(radii_px, float)
    turns = np.arange(phases) * 2 * np.pi / phases
    curve = np.stack(
        [
            np.mean([_respond(context, wave, angle, turn, radius, rms) for turn in turns], axis=0)
            for radius in radii
        ],
        axis=1,
    )
    most = np.maximum(curve.max(1), 1e-12)
    return Analysis(
        {
            "preferred_radius_px": radii[curve.argmax(1)],
            "suppression": 1 - curve[:, -1] / most,
        },
        {"curve": curve.astype(np.float32), "radius_px": radii},
    )


def _respond(context, wavelength, angle, phase, radius, rms) -> NDArray[np.float32]:
    """Return the response of every unit to a grating in a soft-edged disc on its MEI."""
    stimuli = context.stimuli
    h, w = stimuli.shape
    energy = context.mei[:, 0].double().square().cpu().numpy()
    y, x = np.arange(h)[None, :, None], np.arange(w)[None, None]
    total = np.maximum(energy.sum((1, 2)), 1e-12)
    cy, cx = ((energy * axis).sum((1, 2)) / total for axis in (y, x))
    dy, dx = y - cy[:, None, None], x - cx[:, None, None]
    angle, wavelength = (np.broadcast_to(v, len(cy))[:, None, None] for v in (angle, wavelength))
    along = dx * np.cos(angle) + dy * np.sin(angle)
    disc = 1 / (1 + np.exp((np.hypot(dy, dx) - radius) / 0.5))  # edge of about a pixel
    images = np.sqrt(2) * rms * disc * np.cos(2 * np.pi * along / wavelength + phase)
    z = torch.as_tensor(images[:, None].astype(np.float32), device=stimuli.device)
    return own_responses(stimuli.cnn, z, stimuli.pick())
