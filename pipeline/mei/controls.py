"""What an MEI is compared with: stimuli of every kind for all target neurons at once.

All kinds have the norm of the MEI (and thereby its contrast) about mean grey, so that only the
pattern differs; `images` are what is shown, windows included, so that `masks` is None unless a kind
leaves the blending to the display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.registry import Registry
from pipeline.rng import generator

from .gabor import bank_parameters, describe, draw, drawn_bank
from .search import TopK, match_full, match_masked, own_responses, responses, views
from .synthesize import default_norm, synthesize

control_kinds = Registry("kind of control")

POOL_CHUNK = 256


@dataclass(frozen=True)
class ControlContext:
    """The neurons, their models and MEIs, and what there is to search.

    Attributes
    ----------
    cnn, ln : Module
        Frozen ensembles: z-scored (n, 1, h, w) to (n, units).
    units : int array, shape (units,)
        Columns of both models.
    mei_images : array, shape (units, h, w)
        Grey levels.
    mei_masks : array, shape (units, h, w), or None
    image_mean, image_sd : float
        Grey-level statistics of the models' z-scores.
    natural : array, shape (n, h, w), or None
        Natural images at the model's size (grey levels); never those of the test tier.
    norm : float or None
        L2 norm of z-scored images; None is the norm that synthesis takes by default.
    seed : int
    """

    cnn: nn.Module
    ln: nn.Module
    units: NDArray[np.integer]
    mei_images: NDArray
    mei_masks: NDArray | None
    image_mean: float
    image_sd: float
    natural: NDArray | None
    norm: float | None
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's image."""
        return tuple(np.shape(self.mei_images)[1:])

    @property
    def length(self) -> float:
        """The norm that every image gets."""
        return default_norm((1, *self.shape)) if self.norm is None else float(self.norm)

    @property
    def device(self) -> torch.device:
        """Where the CNN computes."""
        for tensor in (*self.cnn.parameters(), *self.cnn.buffers()):
            return tensor.device
        return torch.device("cpu")

    def zscore(self, images: NDArray) -> torch.Tensor:
        """Return z-scored images (n, 1, h, w) on the model's device."""
        z = (np.asarray(images, np.float32) - self.image_mean) / self.image_sd
        return torch.as_tensor(z[:, None].astype(np.float32), device=self.device)

    def pick(self) -> torch.Tensor:
        """Return the units as a tensor on the model's device."""
        return torch.as_tensor(np.asarray(self.units, np.int64), device=self.device)

    def grey(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Return z-scored images (n, 1, h, w) as grey levels (n, h, w)."""
        return (images[:, 0] * self.image_sd + self.image_mean).float().cpu().numpy()


@dataclass(frozen=True)
class Controls:
    """One stimulus for every neuron."""

    images: NDArray[np.float32]  # (units, h, w) grey levels
    masks: NDArray[np.float32] | None  # (units, h, w) if the display is to blend, else None
    activations: NDArray[np.float32]  # (units,) predicted response
    info: list[dict[str, Any]]  # (units,) JSON


@control_kinds.register("rf")
def receptive_field(
    context: ControlContext, *, method: str | None = None, params: dict[str, Any] | None = None
) -> Controls:
    """Make the linear receptive field: the MEI of the LN ensemble, by the same ascent and norm.

    Parameters
    ----------
    context : ControlContext
    method, params
        Of the ascent; default its defaults.
    """
    found = synthesize(
        context.ln,
        context.units,
        shape=(1, *context.shape),
        mean=context.image_mean,
        sd=context.image_sd,
        norm=context.length,
        method=method,
        params=params,
        seed=context.seed,
        device=context.device.type,
    )
    info = [
        {"ln_activation": float(a), "converged": bool(c), "silent": bool(s)}
        for a, c, s in zip(found.activations, found.converged, found.silent, strict=True)
    ]
    return _finished(context, context.zscore(found.images[:, 0]), info)


@control_kinds.register("gabor")
def best_gabor(
    context: ControlContext,
    *,
    phases_deg: Sequence[float] = (0, 90, 180, 270),
    wavelengths_px: Sequence[float] = (4, 7, 10, 15, 20),
    orientations: int = 8,
    sigmas_px: Sequence[float] = (2, 3, 5, 7, 9),
    n_dy: int = 7,
    n_dx: int = 13,
    max_shift: float = 0.3,
    shortlist: int | None = 32,
    refine: int = 2,
    refine_steps: int = 40,
    wavelength_range_px: Sequence[float] = (3, 30),
    sigma_range_px: Sequence[float] = (1, 12),
) -> Controls:
    """Find the most exciting Gabor: the published bank of 72,800, then a continuous ascent.

    Parameters
    ----------
    context : ControlContext
    phases_deg, wavelengths_px, orientations, sigmas_px, n_dy, n_dx, max_shift
        The bank; shifts are fractions of the frame. Distances are in pixels of a frame of 64
        columns and scale with the frame.
    shortlist : int, optional
        Evaluate only the Gabors most like the unit's MEI under the model; None evaluates all.
    refine : int
        How many of the best are ascended by gradient; 0 keeps to the bank.
    refine_steps : int
        Steps of that ascent.
    wavelength_range_px, sigma_range_px : (float, float)
        Limits of that ascent (at 64 columns).

    Returns
    -------
    Controls
        `info` holds the parameters, the bank's best activation, and the similarity (cosine) of
        the image to the MEI.
    """
    scale = context.shape[1] / 64
    table = bank_parameters(
        context.shape,
        phases_deg=tuple(phases_deg),
        wavelengths_px=tuple(scale * value for value in wavelengths_px),
        orientations=orientations,
        sigmas_px=tuple(scale * value for value in sigmas_px),
        n_dy=n_dy,
        n_dx=n_dx,
        max_shift=max_shift,
    )
    units = np.asarray(context.units, np.int64)
    count = max(refine, 1)
    if shortlist is None:
        top = TopK(len(units), count)
        for start, images in drawn_bank(table, context.shape, context.length, context.device):
            for part in range(0, len(images), POOL_CHUNK):
                some = images[part : part + POOL_CHUNK, None]
                index = start + part + np.arange(len(some))
                top.offer(index, responses(context.cnn, some, units))
    else:
        top = _rank_shortlist(context, table, units, max(shortlist, count), count)
    chosen = table[top.index]  # (units, count, 6)
    bank_best = top.values[:, 0]
    if refine and refine_steps:
        limits = [[scale * v for v in r] for r in (sigma_range_px, wavelength_range_px)]
        chosen = _refined(context, chosen, refine_steps, *limits)
    best, images = _best_of(context, chosen)
    mei = match_full(context.zscore(context.mei_images), 1.0)
    similarity = (mei * images / context.length).sum((1, 2, 3)).cpu().numpy()
    info = [
        {**describe(p), "bank_activation": float(a), "mei_similarity": float(s)}
        for p, a, s in zip(best, bank_best, similarity, strict=True)
    ]
    return _finished(context, images, info)


def _rank_shortlist(
    context: ControlContext, table: NDArray, units: NDArray, shortlist: int, count: int
) -> TopK:
    """Rank the Gabors most like each MEI (cosine) by the model's response to them."""
    mei = match_full(context.zscore(context.mei_images), 1.0).flatten(1)
    like = TopK(len(units), shortlist)
    for start, images in drawn_bank(table, context.shape, 1.0, context.device):
        cosine = (images.flatten(1) @ mei.T).cpu().numpy()
        like.offer(start + np.arange(len(images)), cosine)
    top = TopK(len(units), count)
    pairs = context.pick().repeat_interleave(shortlist)
    values = np.empty(len(pairs), np.float32)
    rows = torch.as_tensor(table[like.index.ravel()], dtype=torch.float32, device=context.device)
    for part in torch.arange(len(pairs), device=context.device).split(2048):
        images = draw(rows[part], context.shape, context.length)[:, None]
        values[part.cpu().numpy()] = own_responses(context.cnn, images, pairs[part])
    order = np.argsort(-values.reshape(len(units), shortlist), axis=1, kind="stable")[:, :count]
    top.values = np.take_along_axis(values.reshape(len(units), shortlist), order, 1)
    top.index = np.take_along_axis(like.index, order, 1)
    return top


def _refined(
    context: ControlContext, start: NDArray, steps: int, sigma_px, wavelength_px
) -> NDArray[np.float64]:
    """Ascend the model's response over Gabor parameters; returns start and end of each ascent."""
    n_units, count = start.shape[:2]
    units = context.pick().repeat_interleave(count)
    flat = torch.as_tensor(start.reshape(-1, 6), dtype=torch.float32, device=context.device)
    out = flat.clone()
    size = torch.tensor([1.0, 1.0, 0.15, 0.15, 0.15, 0.4], device=context.device)
    for index, view in views(context.cnn, units, (1, *context.shape)):
        # log sigma and log wavelength; every coordinate in units of a fair step
        free = flat[index].clone()
        free[:, 2:4] = free[:, 2:4].log()
        moment, square = torch.zeros_like(free), torch.zeros_like(free)
        best = torch.full((len(free),), -torch.inf, device=free.device)
        for step in range(steps + 1):
            free.requires_grad_(True)
            now = torch.cat([free[:, :2], free[:, 2:4].exp(), free[:, 4:]], 1)
            rates = view.rates(view.cut(draw(now, context.shape, context.length)[:, None]))
            (gradient,) = torch.autograd.grad(rates.sum(), free)
            with torch.no_grad():
                better = rates > best
                best = torch.where(better, rates, best)
                out[index[better]] = now.detach()[better]
                # Adam, so that responses of any unit and any coordinate are of one scale
                gradient = gradient * size
                moment = 0.8 * moment + 0.2 * gradient
                square = 0.95 * square + 0.05 * gradient**2
                unbias = (1 - 0.8 ** (step + 1)) / (1 - 0.95 ** (step + 1)) ** 0.5
                pace = 0.5 * (1 - step / (steps + 1))
                move = moment / (square.sqrt() + 1e-12) / unbias
                free = free.detach() + pace * size * move
                for column, limit in ((2, sigma_px), (3, wavelength_px)):
                    free[:, column].clamp_(*np.log(limit))
                free[:, 0].clamp_(0, context.shape[0] - 1)
                free[:, 1].clamp_(0, context.shape[1] - 1)
    ends = out.reshape(n_units, count, 6).cpu().numpy().astype(np.float64)
    return np.concatenate([ends, start], 1)


def _best_of(context: ControlContext, parameters: NDArray) -> tuple[NDArray, torch.Tensor]:
    """Return parameters (units, 6) and image of each unit's most exciting Gabor."""
    n_units, count = parameters.shape[:2]
    flat = torch.as_tensor(parameters, dtype=torch.float32, device=context.device).flatten(0, 1)
    images = draw(flat, context.shape, context.length)[:, None]
    values = own_responses(context.cnn, images, context.pick().repeat_interleave(count))
    best = values.reshape(n_units, count).argmax(1)
    rows = np.arange(n_units)
    return parameters[rows, best], images[torch.as_tensor(rows * count + best)]


@control_kinds.register("fni")
def best_full_image(context: ControlContext, *, top_k: int = 5) -> Controls:
    """Find the most exciting natural image, all at the same contrast.

    Parameters
    ----------
    context : ControlContext
    top_k : int
        How many of the best are named in `info`.
    """
    natural = _natural(context)
    units = np.asarray(context.units, np.int64)
    top = TopK(len(units), top_k)
    total, square = np.zeros((2, len(units)))
    for start in range(0, len(natural), POOL_CHUNK):
        part = match_full(context.zscore(natural[start : start + POOL_CHUNK]), context.length)
        values = responses(context.cnn, part, units)
        top.offer(start + np.arange(len(part)), values)
        total, square = total + values.sum(0), square + (values.astype(float) ** 2).sum(0)
    images = match_full(context.zscore(natural[top.index[:, 0]]), context.length)
    mean = total / len(natural)
    sd = np.sqrt(np.maximum(square / len(natural) - mean**2, 0))
    return _finished(context, images, _top_info(top, mean, sd))


@control_kinds.register("mni")
def best_masked_image(
    context: ControlContext,
    *,
    top_k: int = 5,
    max_images: int | None = None,
) -> Controls:
    """Find the most exciting natural image behind the mask of the MEI, matched inside of it.

    Parameters
    ----------
    context : ControlContext
    top_k : int
        How many of the best are named in `info`.
    max_images : int, optional
        Search only the first so many images; every neuron has its own windowed copies of them.

    Raises
    ------
    ValueError
        If there are no masks or images.
    """
    natural = _natural(context)[:max_images]
    if context.mei_masks is None:
        raise ValueError("'mni' needs the masks of the MEIs")
    units = context.pick()
    masks = torch.as_tensor(np.asarray(context.mei_masks, np.float32), device=context.device)
    top = TopK(len(units), top_k)
    total, square = np.zeros((2, len(units)))
    step = max(1, 2048 // max(len(units), 1))
    for start in range(0, len(natural), step):
        part = context.zscore(natural[start : start + step])  # (n, 1, h, w)
        windowed = match_masked(part, masks, context.length)  # (n, units, h, w)
        pairs = windowed.flatten(0, 1)[:, None]
        values = own_responses(context.cnn, pairs, units.repeat(len(part)))
        values = values.reshape(len(part), len(units))
        top.offer(start + np.arange(len(part)), values)
        total, square = total + values.sum(0), square + (values.astype(float) ** 2).sum(0)
    images = match_masked(context.zscore(natural[top.index[:, 0]]), masks[:, None], context.length)
    mean = total / len(natural)
    sd = np.sqrt(np.maximum(square / len(natural) - mean**2, 0))
    return _finished(context, images, _top_info(top, mean, sd))


def _natural(context: ControlContext) -> NDArray:
    if context.natural is None or not len(context.natural):
        raise ValueError("there are no natural images to search")
    if tuple(np.shape(context.natural)[1:]) != context.shape:
        raise ValueError(
            f"natural images must be {context.shape}, got {np.shape(context.natural)[1:]}; "
            "bring them to the model's size with to_model"
        )
    return context.natural


def _top_info(top: TopK, mean: NDArray, sd: NDArray) -> list[dict[str, Any]]:
    return [
        {
            "image_index": [int(i) for i in index if i >= 0],
            "image_activation": [float(v) for i, v in zip(index, values, strict=True) if i >= 0],
            "pool_mean": float(m),
            "pool_sd": float(s),
        }
        for index, values, m, s in zip(top.index, top.values, mean, sd, strict=True)
    ]


@control_kinds.register("phase_scrambled")
def phase_scrambled(context: ControlContext) -> Controls:
    """Scramble the phases of the MEI: the same spectrum, no pattern."""
    streams = (generator(context.seed, "phases", unit) for unit in context.units)
    noise = np.stack([stream.normal(size=context.shape) for stream in streams])
    turn = np.fft.fft2(noise)
    turn /= np.maximum(np.abs(turn), 1e-12)  # phases of real noise: the result is real
    deviation = np.asarray(context.mei_images, float) - context.image_mean
    scrambled = np.fft.ifft2(np.abs(np.fft.fft2(deviation)) * turn).real
    images = match_full(context.zscore(scrambled + context.image_mean), context.length)
    return _finished(context, images, [{} for _ in context.units])


@control_kinds.register("other_mei")
def other_mei(context: ControlContext) -> Controls:
    """Show the MEI of another neuron of the batch, the next one in the order of `units`."""
    if len(context.units) < 2:
        raise ValueError("'other_mei' needs at least two neurons")
    images = context.zscore(np.roll(np.asarray(context.mei_images), -1, axis=0))
    other = np.roll(np.asarray(context.units), -1)
    return _finished(context, images, [{"of_unit": int(unit)} for unit in other])


def _finished(context: ControlContext, images: torch.Tensor, info: list[dict]) -> Controls:
    activations = own_responses(context.cnn, images, context.pick())
    return Controls(context.grey(images), None, activations, info)
