"""Images made for neurons: all (unit, start) pairs under a model in one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from pipeline.device import evaluating, pick_device
from pipeline.model.combination import mean_and_sd
from pipeline.parameters import check_indices
from pipeline.registry import Choice

from . import diverse as _diverse  # noqa: F401  registers the method
from . import methods as _methods  # noqa: F401  registers the methods
from .ascent import Ascended, Problem, ascent_methods
from .given import Groups, as_module, known_of
from .given.models import Model, checked_output
from .objectives.own import reads_own_unit
from .parts import Scene
from .parts.ties import first_best
from .resume import Checkpoint
from .search import own_responses
from .view import View, exact_units

Objective = Callable[[View, torch.Tensor], torch.Tensor]

DEFAULT_RMS = 0.25  # contrast of an image without a given norm: 12 in z-scored pixels at 36 x 64
TRACE_POINTS = 51
FRAMES_AT_ONCE = 192  # pairs in one batch when whole frames pass the model
CROPS_AT_ONCE = 1024


@dataclass(frozen=True)
class Synthesis:
    """Synthesized images; arrays follow the order of the units asked for."""

    images: NDArray[np.float32]  # (units, C, H, W) gray levels, the best start's
    activations: NDArray[np.float32]  # (units,) predicted response to them
    all_images: NDArray[np.float32]  # (units, starts, C, H, W)
    all_activations: NDArray[np.float32]  # (units, starts)
    trace: NDArray[np.float32]  # (points, units, starts) objective
    trace_steps: NDArray[np.int64]  # (points,) ascent step of each point
    converged: NDArray[np.bool_]  # (units,) of the best start
    restarted: NDArray[np.int64]  # (units,) draws after the first because the unit was silent
    silent: NDArray[np.bool_]  # (units,) no start found a gradient: mean gray, not converged
    norm: float  # asked for, z-scored L2
    member_activations: NDArray[np.float32]  # (units, members) of the ensemble; one if it is none
    member_sd: NDArray[np.float32]  # (units,) over members by their shares; NaN if there is one
    held_out: NDArray[np.float32]  # (units,) response of a model that took no part, or NaN


def default_norm(shape: tuple[int, ...]) -> float:
    """Return the L2 norm, in z-scored pixels, of an image of rms contrast 0.25 training sd.

    That is 12 for 36 x 64: about what 10 +- 2 cd/m2 over the frame is on a gamma-2 monitor (rms
    10-15 of about 60 gray levels), and what the published system used as `train_norm` (11).

    Examples
    --------
    >>> default_norm((1, 36, 64))
    12.0
    """
    return float(DEFAULT_RMS * np.sqrt(np.prod(shape)))


def synthesize(
    model: Model,
    units: ArrayLike | Sequence[Sequence[int]],
    *,
    shape: Sequence[int] | None = None,
    mean: float | None = None,
    sd: float | None = None,
    norm: float | None = None,
    method: str | None = None,
    objective: Choice | Objective = None,
    starts: int = 1,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    held_out: Model | None = None,
    checkpoint: str | PathLike | None = None,
) -> Synthesis:
    """Make the images that an ascent method finds for units of a model.

    Results depend neither on the order of `units`, nor on `batch_size`, nor on what else is in the
    call, up to rounding: responses agree to 1e-4 of themselves, images to 0.01 gray levels. The
    random stream belongs to seed, unit and start, gradients are normalized image by image, and no
    choice hangs on the last bit of a response (`ties`). The same holds between processors for one
    model, unless two different images excite a unit equally to five digits but not to rounding.

    Parameters
    ----------
    model : Module, Ensemble, Encoder, or sequence of these
        A module takes z-scored images (n, C, h, w) to responses (n, units), and is evaluated in
        `eval` mode. Ensembles and encoders answer in the units of their data set, at mean behavior
        and gaze, with the exact crops of their receptive fields. A sequence is the mean of its
        members.
    units : int array or mask, shape (units,), or sequence of sequences of int
        Columns of the model's output. Of a sequence of groups, each group gets one image, which
        excites the mean of its units.
    shape : (int, int, int), optional
        Channels, height and width. Default that of the model; (1, 36, 64) for a module without
        `input_shape`.
    mean, sd : float, optional
        Gray-level statistics that the model's z-scores refer to. Default the model's own; a module
        without `image_mean` and `image_sd` needs them.
    norm : float, optional
        L2 norm in z-scored pixels; default `default_norm(shape)`.
    method : str, optional
        Name in `ascent_methods`; default its default.
    objective : str, dict or function, optional
        Name in `objectives`, or ``f(view, images) -> (n,)`` as `pipeline.mei.objectives` describes;
        the same as ``params={"objective": ...}``. A function sees whole frames, unless its
        attribute `own_unit` says that it reads no other unit than the image's own.
    starts : int
        Independent starts of every unit; the one with the largest objective, the first of those
        that are equal up to rounding, is the unit's image.
    seed : int
    params : dict, optional
        Parameters of the method that differ from its defaults.
    device : str, optional
        Default CUDA if there, else the CPU.
    batch_size : int, optional
        Pairs at a time; default as memory asks.
    progress : function, optional
        Called as ``progress(pairs_done, pairs)``.
    held_out : Module, Ensemble or Encoder, optional
        A model of the same units, such as a member that was left out, asked for its response to
        the finished images.
    checkpoint : path, optional
        Folder in which finished batches are kept, and found again by the same call.

    Returns
    -------
    Synthesis

    Raises
    ------
    ValueError
        If a unit does not exist, a method or parameter is unknown, a model gives something else
        than (n, units), or a number is not what it can be.

    Examples
    --------
    >>> filters = torch.eye(6 * 8)[[20, 27]]  # two neurons that see one pixel each
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False), nn.Softplus())
    >>> _ = model[1].weight.data.copy_(filters)
    >>> how = {"shape": (1, 6, 8), "mean": 110, "sd": 50, "norm": 3.0}
    >>> synthesize(model, [0, 1], **how).images.reshape(2, -1).argmax(1)
    array([20, 27])

    An objective of one's own: drive the first neuron and not the second.

    >>> def only_first(view, images):
    ...     both = view.all_units(images)
    ...     return both[:, 0] - both[:, 1]
    >>> made = synthesize(model, [0], objective=only_first, **how)
    >>> [int(made.images.argmax()), int(made.images.argmin())]
    [20, 27]
    """
    if type(starts) is not int or starts < 1:
        raise ValueError(f"starts must be a whole number >= 1, got {starts!r}")
    if norm is not None and not (np.isfinite(norm) and norm > 0):
        raise ValueError(f"norm must be > 0 in z-scored pixels, got {norm}")
    given = as_module(model)
    shape, mean, sd = known_of(given).settle(shape, mean, sd)
    where = pick_device(device)
    scene = Scene(shape, mean, sd, default_norm(shape) if norm is None else float(norm))
    name = method or ascent_methods.default
    own, params = _settle_objective(name, objective, dict(params or {}))
    complete = ascent_methods.complete(name, params)
    module = _on_device(given, where)
    with evaluating(module):
        module, chosen, asked = _choose(module, units, scene, where)
        if held_out is not None:
            judge = _on_device(as_module(held_out), where)
        pair_units = np.repeat(chosen, starts)
        pair_starts = np.tile(np.arange(starts), len(chosen))
        parts: list[tuple[NDArray, Ascended]] = []
        done = 0
        settings = {"method": name, "params": complete, "scene": asdict(scene), "seed": seed}
        settings |= ascent_methods.revised(name, complete)
        kept = None if checkpoint is None else Checkpoint(checkpoint, module, settings, own)
        crop_pays = complete["crop"] and reads_own_unit(complete, own)
        for index, crop in _batches(module, pair_units, starts, crop_pays, batch_size):
            what = pair_units[index], pair_starts[index]
            part = None if kept is None else kept.load(*what, crop)
            if part is None:
                view = View(module, torch.as_tensor(what[0], device=where), shape, crop)
                part = ascent_methods[name](Problem(view, scene, *what, seed, own), **complete)
                if kept is not None:
                    kept.save(*what, crop, part)
            parts.append((index, part))
            done += len(index)
            if progress is not None:
                progress(done, len(pair_units))
    shares = getattr(module, "shares", None)
    shares = None if shares is None else shares.cpu().numpy()[:, chosen]
    made = _collect(parts, len(chosen), starts, scene, shares)
    wild = np.flatnonzero(~np.isfinite(made.activations))
    if len(wild):
        raise ValueError(
            f"the ascent of output {chosen[wild[0]]} ends at {made.activations[wild[0]]} "
            f"({len(wild)} of {len(chosen)} units); expected a finite one: look at the weights"
        )
    if held_out is None:
        return made
    z = torch.as_tensor((made.images - scene.mean) / scene.sd, dtype=torch.float32).to(where)
    with evaluating(judge):
        judge, chosen, _ = _choose(judge, asked, scene, where)
        answer = own_responses(judge, z, torch.as_tensor(chosen, device=where))
    return replace(made, held_out=answer)


def _settle_objective(
    method: str, objective: Choice | Objective, params: dict[str, Any]
) -> tuple[Objective | None, dict[str, Any]]:
    """Return the objective if it is a function, and parameters with the one that is named."""
    named = params.get("objective")
    if objective is not None and named is not None:
        raise ValueError("give the objective once: by objective=, or in params")
    if callable(named):
        objective = params.pop("objective")
    if callable(objective):
        return _checked(objective), params
    if objective is None:
        return None, params
    known = ascent_methods.defaults(method)
    if "objective" in known or "ascent" not in known:
        return None, {**params, "objective": objective}
    first = params.get("ascent", known["ascent"])
    first = {"name": first} if isinstance(first, str) else dict(first)
    return None, {**params, "ascent": {**first, "objective": objective}}


def _checked(function: Objective) -> Objective:
    """Return an objective that raises ValueError unless it gives one number an image."""

    def checked(view: View, images: torch.Tensor) -> torch.Tensor:
        value = function(view, images)
        if not isinstance(value, torch.Tensor) or value.shape != (len(images),):
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            called = getattr(function, "__name__", type(function).__name__)
            raise ValueError(
                f"objective {called} must give one number an image, a tensor of shape "
                f"({len(images)},), got {got}"
            )
        return value

    for mark in ("own_unit", "rough"):
        if hasattr(function, mark):
            setattr(checked, mark, getattr(function, mark))
    checked.__wrapped__ = function  # type: ignore[attr-defined]  # what a checkpoint is named after
    return checked


def _on_device(model: nn.Module, device: torch.device) -> nn.Module:
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.device.type != device.type for tensor in tensors):
        model = copy.deepcopy(model).to(device)  # the caller's own stays where it is
    return model


def _choose(
    model: nn.Module, units: Any, scene: Scene, device: torch.device
) -> tuple[nn.Module, NDArray[np.int64], Any]:
    """Return the module to ascend, its columns, and what was asked for in a form to ask again."""
    if isinstance(units, Iterable) and not isinstance(units, (str, np.ndarray)):
        units = list(units)  # groups may differ in length
    with torch.no_grad():
        out = checked_output(model(torch.zeros((2, *scene.shape), device=device)), 2)
    n_units = out.shape[1]
    if np.isscalar(units) or not len(units) or np.ndim(units[0]) == 0:
        chosen = check_indices(units, n_units)
        return model, chosen, chosen
    groups = [check_indices(group, n_units, "units of a group") for group in units]
    if not all(len(group) for group in groups):
        raise ValueError("a group of units is empty")
    return Groups(model, groups, n_units).eval(), np.arange(len(groups)), groups


def _batches(model: nn.Module, units: NDArray, starts: int, crop: bool, size: int | None):
    """Yield indices of pairs to do together, and whether they are crops.

    All starts of a unit are in one batch: some methods make them as a set.
    """
    exact = exact_units(model, units) if crop else np.zeros(len(units), bool)
    for flag, default in ((True, CROPS_AT_ONCE), (False, FRAMES_AT_ONCE)):
        index = np.flatnonzero(exact == flag)
        step = max(1, (size or default) // starts) * starts
        for start in range(0, len(index), step):
            yield index[start : start + step], flag


def _collect(parts, n_units: int, starts: int, scene: Scene, shares: NDArray | None) -> Synthesis:
    n = n_units * starts
    steps = max((len(done.trace) - 1 for _, done in parts), default=0)
    kept = np.unique(np.linspace(0, steps, TRACE_POINTS).round().astype(np.int64))
    images = np.zeros((n, *scene.shape), np.float32)
    activations, value = np.zeros((2, n), np.float32)
    members = np.zeros((n, parts[0][1].members.shape[1] if parts else 1), np.float32)
    trace = np.zeros((len(kept), n), np.float32)
    converged, silent, restarted = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64)
    for index, done in parts:
        images[index], activations[index] = done.images, done.activations
        trace[:, index] = done.trace[kept]
        value[index] = done.value
        converged[index], silent[index] = done.converged, done.silent
        restarted[index], members[index] = done.restarted, done.members

    def table(values: NDArray) -> NDArray:
        return values.reshape(n_units, starts, *values.shape[1:])

    best = first_best(np.where(table(silent), -np.inf, table(value)))
    rows = np.arange(n_units)
    grey = table(images * scene.sd + scene.mean)
    return Synthesis(
        images=grey[rows, best],
        activations=table(activations)[rows, best],
        all_images=grey,
        all_activations=table(activations),
        trace=trace.reshape(len(kept), n_units, starts),
        trace_steps=kept,
        converged=table(converged)[rows, best],
        restarted=table(restarted)[rows, best],
        silent=table(silent)[rows, best],
        norm=float(scene.norm),
        member_activations=table(members)[rows, best],
        member_sd=mean_and_sd(table(members)[rows, best].T, shares)[1],
        held_out=np.full(n_units, np.nan, np.float32),
    )
