"""The MEI itself, altered, or another's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.mei.search import match_full, own_responses
from pipeline.rng import generator, normal_rows

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("mei")
def most_exciting(context: ControlContext) -> Controls:
    """Show the MEI itself, so that it goes the way of its controls."""
    images = np.asarray(context.mei_images, np.float32)
    answers = own_responses(context.cnn, context.zscore(images), context.pick())
    return Controls(images, None, answers, [{} for _ in context.units])


@control_kinds.register("phase_scrambled")
def phase_scrambled(context: ControlContext) -> Controls:
    """Scramble the phases of the MEI: the same spectrum, no pattern."""
    noise = normal_rows(context.seed, "phases", context.units, context.shape)
    turn = np.fft.fft2(noise)
    turn /= np.maximum(np.abs(turn), 1e-12)  # phases of real noise: the result is real
    deviation = np.asarray(context.mei_images, float) - context.image_mean
    scrambled = np.fft.ifft2(np.abs(np.fft.fft2(deviation)) * turn).real
    images = match_full(context.zscore(scrambled + context.image_mean), context.length)
    return finished(context, images, [{} for _ in context.units])


@control_kinds.register("other_mei")
def other_mei(context: ControlContext) -> Controls:
    """Show the MEI of another neuron of the batch, the next one in the order of `units`."""
    if len(context.units) < 2:
        raise ValueError("'other_mei' needs at least two neurons")
    images = context.zscore(np.roll(np.asarray(context.mei_images), -1, axis=0))
    other = np.roll(np.asarray(context.units), -1)
    return finished(context, images, [{"of_unit": int(unit)} for unit in other])


@control_kinds.register("jittered")
def jittered(context: ControlContext, *, distance_px: float = 3.0) -> Controls:
    """Move the MEI a few pixels away, in a direction drawn for every neuron; gray moves in.

    Parameters
    ----------
    context : ControlContext
    distance_px : float
        In pixels of a frame of 64 columns; scales with the frame, and is rounded to whole pixels.
    """
    distance = distance_px * context.shape[1] / 64
    deviation = np.asarray(context.mei_images, float) - context.image_mean
    moved, info = np.zeros_like(deviation), []
    for row, unit in enumerate(context.units):
        angle = generator(context.seed, "direction", unit).uniform(0, 2 * np.pi)
        dy, dx = (round(distance * part) for part in (np.sin(angle), np.cos(angle)))
        moved[row] = shifted(deviation[row], dy, dx)
        info.append({"shift_y_px": dy, "shift_x_px": dx})
    images = match_full(context.zscore(moved + context.image_mean), context.length)
    return finished(context, images, info)


def shifted(image: NDArray, dy: int, dx: int) -> NDArray:
    """Return an image (..., h, w) moved down and right; 0 moves in."""
    h, w = image.shape[-2:]
    out = np.zeros_like(image)
    if abs(dy) < h and abs(dx) < w:
        to_y, to_x = slice(max(dy, 0), h + min(dy, 0)), slice(max(dx, 0), w + min(dx, 0))
        at_y, at_x = slice(max(-dy, 0), h + min(-dy, 0)), slice(max(-dx, 0), w + min(-dx, 0))
        out[..., to_y, to_x] = image[..., at_y, at_x]
    return out


@control_kinds.register("spectrum_noise")
def spectrum_noise(context: ControlContext) -> Controls:
    """Draw noise with the MEI's spectrum averaged over orientations: its scale, nothing else."""
    h, w = context.shape
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None])
    ring = np.round(frequency * max(h, w)).astype(int)
    members = np.bincount(ring.ravel())
    out = np.zeros((len(context.units), h, w))
    for row, unit in enumerate(context.units):
        deviation = np.asarray(context.mei_images[row], float) - context.image_mean
        power = np.abs(np.fft.fft2(deviation)) ** 2
        radial = np.bincount(ring.ravel(), power.ravel()) / np.maximum(members, 1)
        noise = generator(context.seed, "spectrum", unit).normal(size=context.shape)
        out[row] = np.fft.ifft2(np.fft.fft2(noise) * np.sqrt(radial[ring])).real
    images = match_full(context.zscore(out + context.image_mean), context.length)
    return finished(context, images, [{} for _ in context.units])
