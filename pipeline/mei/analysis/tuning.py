"""How a neuron's response falls when its MEI is moved or loses contrast."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei.controls.altered import shifted
from pipeline.mei.search import own_responses

from .base import Analysis, AnalysisContext, analyses


@analyses.register("jitter_tuning", revision=2)
def jitter_tuning(context: AnalysisContext, *, most_px: int = 5) -> Analysis:
    """Move MEI and RF over a grid of shifts and ask the CNN, and the LN model for its RF.

    Parameters
    ----------
    context : AnalysisContext
    most_px : int
        Largest shift each way: 11 x 11 maps by default. Gray moves in (the published maps wrap).

    Returns
    -------
    Analysis
        `mei_width_px`, `rf_width_px`: diameter of the circle of the area where the response is
        at least half of the largest. Arrays `mei`, `rf_in_ln`, `rf_in_cnn`
        (units, 2 most_px + 1, 2 most_px + 1): response at every shift (down, right).
    """
    stimuli = context.stimuli
    maps = {
        "mei": _shift_map(stimuli.cnn, context.mei, context, most_px),
        "rf_in_ln": _shift_map(stimuli.ln, context.rf, context, most_px),
        "rf_in_cnn": _shift_map(stimuli.cnn, context.rf, context, most_px),
    }
    columns = {
        "mei_width_px": _half_width(maps["mei"]),
        "rf_width_px": _half_width(maps["rf_in_ln"]),
    }
    return Analysis(columns, maps)


def _shift_map(model, images: torch.Tensor, context, most: int) -> NDArray[np.float32]:
    side = 2 * most + 1
    pixels, units = images.cpu().numpy(), context.stimuli.pick()
    out = np.empty((len(units), side, side), np.float32)
    for dy in range(-most, most + 1):
        for dx in range(-most, most + 1):
            moved = torch.as_tensor(shifted(pixels, dy, dx), device=images.device)
            out[:, dy + most, dx + most] = own_responses(model, moved, units)
    return out


def _half_width(maps: NDArray) -> NDArray[np.float64]:
    flat = maps.reshape(len(maps), -1)
    area = (flat >= 0.5 * flat.max(1, keepdims=True)).sum(1)
    return np.where(flat.max(1) > 0, 2 * np.sqrt(area / np.pi), np.nan)


@analyses.register("contrast_tuning")
def contrast_tuning(
    context: AnalysisContext, *, n_contrasts: int = 30, lowest: float = 0.02
) -> Analysis:
    """Scale the MEI about mean gray from faint to the largest contrast that does not clip.

    Parameters
    ----------
    context : AnalysisContext
    n_contrasts : int
        Evenly from `lowest` times the largest gain to it, so that every unit has its own.
    lowest : float
        Share of the largest gain.

    Returns
    -------
    Analysis
        `monotonic`: 1 if the response never falls; `saturation_rms`: rms contrast (z-scored) at
        which nine tenths of the largest response are reached; `most_rms`: the largest rms
        contrast without clipping. Arrays `rms`, `activations` (units, n_contrasts).
    """
    stimuli = context.stimuli
    low, high = (edge - stimuli.image_mean for edge in (0.0, 255.0))
    grey = context.mei[:, 0].cpu().numpy() * stimuli.image_sd
    with np.errstate(divide="ignore"):  # an image without contrast may be scaled without end
        up = high / grey.max((1, 2)).clip(0)
        down = low / grey.min((1, 2)).clip(None, 0)
    most = np.minimum(up, down)
    most = np.where(np.isfinite(most), most, 1.0)
    gains = most[:, None] * np.linspace(lowest, 1.0, n_contrasts)
    rates = np.empty(gains.shape, np.float32)
    for step in range(n_contrasts):
        gain = torch.as_tensor(gains[:, step].astype(np.float32), device=stimuli.device)
        images = context.mei * gain[:, None, None, None]
        rates[:, step] = own_responses(stimuli.cnn, images, stimuli.pick())
    rms = gains * stimuli.length / np.sqrt(np.prod(stimuli.shape))
    first = (rates >= 0.9 * rates.max(1, keepdims=True)).argmax(1)
    columns = {
        "monotonic": (np.diff(rates, axis=1) >= -1e-6).all(1).astype(float),
        "saturation_rms": rms[np.arange(len(rms)), first],
        "most_rms": rms[:, -1],
    }
    return Analysis(columns, {"rms": rms.astype(np.float32), "activations": rates})
