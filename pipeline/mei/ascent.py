"""Gradient ascent on many images at once; every image is ruled by its own numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.parameters import check_value, under
from pipeline.registry import Registry
from pipeline.rng import generator

from .climb import Mover, Normalise, Schedule
from .objectives import objectives
from .parts import (
    Scene,
    constraints,
    finishes,
    gradients,
    initials,
    regularisers,
    stoppers,
    transforms,
)
from .parts.ties import first_best, reaches
from .view import View

PARTS: dict[str, Registry] = {
    "initial": initials,
    "transform": transforms,
    "objective": objectives,
    "gradient": gradients,
    "regulariser": regularisers,
    "constraint": constraints,
    "stopper": stoppers,
    "finish": finishes,
}
CANDIDATES_AT_ONCE = 4096

Keep = Literal["best", "last"]
Part = str | dict[str, Any]  # a name, or {"name": ..., **parameters}


class Ascents(Registry):
    """Ascent methods; a parameter named after a part is completed from that part's registry.

    A part is given by its name, or as ``{"name": ..., **parameters}``; without a name the method's
    own choice is meant. A parameter `ascent` names, in the same way, the ascent that a method
    begins with.
    """

    def complete(self, name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return `params` with every default filled in, parts as complete dictionaries."""
        full = super().complete(name, params)
        own = self.defaults(name)
        for part, registry in self._parts().items():
            if part in full:
                with under(part):
                    full[part] = registry.spec(full[part], own[part])
        return full

    def check(self, name: str, params: Mapping[str, Any] | None = None, revision: int = 1) -> None:
        """Raise DataError unless a method and its parts as they were stored are those of today."""
        super().check(name, params, revision)
        given = params or {}
        for part, registry in self._parts().items():
            if part in given:
                stored = {"name": given[part]} if isinstance(given[part], str) else given[part]
                below = {k: v for k, v in stored.items() if k not in ("name", "revision")}
                registry.check(stored["name"], below, stored.get("revision", 1))

    def _parts(self) -> dict[str, Registry]:
        return {**PARTS, "ascent": self}


ascent_methods = Ascents("ascent method")


@dataclass(frozen=True)
class Problem:
    """A batch of (unit, start) pairs to be solved together."""

    view: View
    scene: Scene
    units: NDArray[np.int64]  # (n,)
    starts: NDArray[np.int64]  # (n,)
    seed: int
    objective: Callable | None = None  # in place of the one that the parameters name


@dataclass
class Ascended:
    """Solutions of a batch; z-scored whole frames."""

    images: NDArray[np.float32]  # (n, C, H, W)
    activations: NDArray[np.float32]  # (n,) response of the unit to its image
    value: NDArray[np.float32]  # (n,) objective at it
    trace: NDArray[np.float32]  # (points, n) objective during the ascent
    converged: NDArray[np.bool_]  # (n,)
    restarted: NDArray[np.int64]  # (n,) further starts drawn because the unit was silent
    silent: NDArray[np.bool_]  # (n,) no start had a gradient: the image is mean gray
    members: NDArray[np.float32]  # (n, members) response by each member of the ensemble


@dataclass(frozen=True, kw_only=True)
class AscentParameters:
    """All that rules one ascent; the defaults are those of `constrained`.

    Parameters
    ----------
    steps : int
        Evaluations of model and gradient.
    step_start, step_end : float
        Length of a step as a share of the norm (`normalise` "l2"), or in z-scored pixels
        ("mean_abs").
    schedule : {"geometric", "linear"}
        How the step falls.
    normalise : {"l2", "mean_abs"}
        Length of a gradient that counts as 1.
    candidates, scouts, scout_steps : int
        Starts that are drawn for one; the most exciting of them, `scouts` many, climb
        `scout_steps` steps; the highest of these goes on.
    restarts : int
        Further draws for a unit that is silent, without gradient, to all of them.
    keep : {"best", "last"}
        Which image of the way is returned; of those as good as the best, up to rounding, the
        latest.
    converged_within : float
        An ascent counts as converged if its last tenth brought no more than this share.
    crop : bool
        Ascend only the pixels that the unit sees, if the model knows them exactly.
    priors : {"ensembles", "all", "none"}
        For which models `transform` and `finish` are used. They lower the true response slightly
        and pay off only where the model is wrong, so a model without `members` skips them.
    initial, transform, objective, gradient, regulariser, constraint, stopper, finish : str or dict
        The parts.

    Raises
    ------
    ParameterError
        If a value is of another type, out of its range or none of its words.
    """

    steps: int = 100
    step_start: float = 2.0
    step_end: float = 0.01
    schedule: Schedule = "geometric"
    normalise: Normalise = "l2"
    candidates: int = 32
    scouts: int = 16
    scout_steps: int = 25
    restarts: int = 20
    keep: Keep = "best"
    converged_within: float = 0.01
    crop: bool = True
    priors: Literal["ensembles", "all", "none"] = "ensembles"
    initial: Part = "smooth_noise"
    transform: Part = "none"
    objective: Part = "activation"
    gradient: Part = "none"
    regulariser: Part = "none"
    constraint: Part = "norm"
    stopper: Part = "last_step"
    finish: Part = "none"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            check_value(name, getattr(self, name), kind, "ascent")

    def parts(self) -> dict[str, partial]:
        """Return the functions of the parts with their parameters bound."""
        return {name: registry.bind(getattr(self, name)) for name, registry in PARTS.items()}


def ascend(problem: Problem, parameters: AscentParameters) -> Ascended:
    """Run one ascent for every pair of a batch.

    Of every pair's `candidates` the `scouts` most exciting climb `scout_steps` steps; the one that
    came highest climbs on for `steps`: local maxima of phase-selective cells are left behind. An
    objective that costs much may name another as its `rough`: candidates and scouts follow that.

    Parameters
    ----------
    problem : Problem
    parameters : AscentParameters
    """
    view = problem.view
    part = parameters.parts()
    if problem.objective is not None:
        part["objective"] = partial(problem.objective)
    trained = hasattr(view.model, "members")
    if parameters.priors == "none" or (parameters.priors == "ensembles" and not trained):
        part["transform"], part["finish"] = transforms.bind("none"), finishes.bind("none")
    climber = _Climber(problem, part, parameters)
    rough = {**part, "objective": getattr(part["objective"].func, "rough", part["objective"])}
    x, background, restarted, silent = _start(problem, rough, parameters)
    n, scouts = len(problem.units), x.shape[1]
    alive = torch.as_tensor(np.flatnonzero(~silent), device=x.device)
    if scouts > 1 and len(alive):
        many = view.select(alive.repeat_interleave(scouts))
        tried, _ = _Climber(problem, rough, parameters).run(
            many, x[alive].flatten(0, 1), background[alive].flatten(0, 1), parameters.scout_steps
        )
        height = tried.value
        if rough["objective"] is not part["objective"]:
            with torch.no_grad():
                height = part["objective"](many, tried.images.to(x.device)).float().cpu()
        best = first_best(height.reshape(-1, scouts)) + scouts * torch.arange(len(alive))
        start, level = tried.images[best].to(x.device), tried.background[best].to(x.device)
    else:
        start, level = x[alive, 0], background[alive, 0]
    climbed, steps = climber.run(view.select(alive), start, level, parameters.steps)
    images = torch.zeros((n, *x.shape[2:]))
    level = torch.zeros((n, x.shape[2]))
    trace = np.full((parameters.steps + 1, n), np.nan, np.float32)
    kept = alive.cpu()
    images[kept], level[kept], trace[:, kept.numpy()] = climbed.images, climbed.background, steps
    with torch.no_grad():
        images, level = images.to(x.device), level.to(x.device)
        frames = part["finish"](view.frame(images, level), problem.scene)
        images, level = view.cut(frames), view.around(frames)
        images, level = part["constraint"](images, level, view.outside, problem.scene)
        activations = view.rates(images).float().cpu().numpy()
        members = view.members(images).T.float().cpu().numpy()
        value = part["objective"](view, images).float().cpu().numpy()
        frames = view.frame(images, level).float().cpu().numpy()
    trace[:, silent] = value[silent]
    converged = _converged(trace, parameters.converged_within) & ~silent
    return Ascended(frames, activations, value, trace, converged, restarted, silent, members)


class _Climber:
    """The loop of the ascent, for any images of a batch."""

    def __init__(
        self, problem: Problem, part: Mapping[str, Callable], parameters: AscentParameters
    ) -> None:
        self.scene, self.seed, self.part = problem.scene, problem.seed, part
        self.keep = parameters.keep
        self.mover = Mover(
            problem.scene,
            step_start=parameters.step_start,
            step_end=parameters.step_end,
            schedule=parameters.schedule,
            normalise=parameters.normalise,
            precondition=part["gradient"],
        )

    def run(self, view: View, x: torch.Tensor, background: torch.Tensor, steps: int):
        """Climb; returns what was kept and the objective, shape (steps + 1, n)."""
        part, scene = self.part, self.scene
        done = _Kept(len(x), x.shape[1:], background.shape[1], self.keep)
        traces = torch.full((steps + 1, len(x)), torch.nan)
        alive, now = torch.arange(len(x), device=x.device), view
        for step in range(steps + 1):
            if not len(alive):
                break
            fraction, final = step / steps, step == steps
            x.requires_grad_(not final)
            rng = generator(self.seed, "transform", step)
            seen = x if final else part["transform"](x, scene, rng, fraction)
            value = part["objective"](now, seen)
            traces[step, alive.cpu()] = value.detach().float().cpu()
            done.offer(alive, value.detach(), x.detach(), background)
            if final:
                break
            (gradient,) = torch.autograd.grad(value.sum(), x)
            with torch.no_grad():
                x = self.mover.move(x.detach(), gradient, fraction)
                x = part["regulariser"](x, fraction)
                x, background = part["constraint"](x, background, now.outside, scene)
                stop = part["stopper"](traces[: step + 1, alive.cpu()]).to(alive.device)
                if bool(stop.any()):
                    x, background, alive = x[~stop], background[~stop], alive[~stop]
                    now = view.select(alive)
        return done, _fill_forward(traces.numpy())


class _Kept:
    """The image to return for every pair: the best on the way, or the last.

    Of images as good as the best, up to rounding, the latest is kept: the end of an ascent is flat.
    """

    def __init__(self, n: int, shape: torch.Size, channels: int, keep: Keep) -> None:
        self.keep = keep
        self.value = torch.full((n,), -torch.inf)  # of the image that is kept
        self.peak = torch.full((n,), -torch.inf)
        self.images = torch.zeros((n, *shape))
        self.background = torch.zeros((n, channels))

    def offer(self, index, value, images, background) -> None:
        index, value = index.cpu(), value.float().cpu()
        peak = self.peak[index]
        better = reaches(value, peak) if self.keep == "best" else torch.ones_like(index) > 0
        if not bool(better.any()):
            return
        self.peak[index] = torch.where(value > peak, value, peak)
        chosen = index[better]
        self.value[chosen] = value[better]
        self.images[chosen] = images.cpu()[better]
        self.background[chosen] = background.cpu()[better]


def _start(problem: Problem, part: Mapping[str, Callable], parameters: AscentParameters):
    """Draw starting images (n, scouts, C, h, w), best first.

    A pair to all of whose `candidates` the unit is silent draws again, up to `restarts` times.
    Fewer than `scouts` live candidates: the best stands for the missing ones.
    """
    view, scene = problem.view, problem.scene
    n, device, count = len(problem.units), view.units.device, parameters.candidates
    scouts = min(parameters.scouts, count)
    x = torch.zeros((n, scouts, scene.shape[0], *view.size), device=device)
    background = torch.zeros((n, scouts, scene.shape[0]), device=device)
    attempts = np.zeros(n, np.int64)
    pending = np.arange(n)
    for attempt in range(parameters.restarts + 1):
        if not len(pending):
            break
        for block in np.array_split(pending, -(-len(pending) * count // CANDIDATES_AT_ONCE)):
            names = [(problem.units[i], problem.starts[i], attempt) for i in block]
            drawn = [
                part["initial"](generator(problem.seed, "start", *name, c), scene)
                for name in names
                for c in range(count)
            ]
            many = view.select(torch.as_tensor(np.repeat(block, count), device=device))
            images = many.cut(torch.as_tensor(np.stack(drawn), device=device))
            level = images.new_zeros((len(images), scene.shape[0]))
            images, level = part["constraint"](images, level, many.outside, scene)
            images.requires_grad_(True)
            value = part["objective"](many, images)
            (gradient,) = torch.autograd.grad(value.sum(), images)
            alive = (gradient.abs().amax((1, 2, 3)) > 1e-30).reshape(-1, count)
            score = torch.where(alive, value.detach().reshape(-1, count), -torch.inf)
            ranked, order = score.sort(dim=1, descending=True, stable=True)
            order = torch.where(ranked > -torch.inf, order, order[:, :1])[:, :scouts]
            found = alive.any(1)
            pick = (order + count * torch.arange(len(block), device=device)[:, None])[found]
            at = torch.as_tensor(block, device=device)[found]
            x[at], background[at] = images.detach()[pick], level[pick]
            attempts[block[~found.cpu().numpy()]] += 1
        pending = pending[attempts[pending] == attempt + 1]
    silent = attempts > parameters.restarts
    return x, background, np.minimum(attempts, parameters.restarts), silent


def _fill_forward(trace: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let images that stopped early keep their last value."""
    for step in range(1, len(trace)):
        gone = np.isnan(trace[step])
        trace[step, gone] = trace[step - 1, gone]
    return trace


def _converged(trace: NDArray[np.float32], within: float) -> NDArray[np.bool_]:
    """Whether the last tenth of the ascent changed the best objective by no more than a share."""
    tail = max(1, len(trace) // 10)
    final = trace.max(axis=0)
    before = trace[:-tail].max(axis=0)
    scale = np.maximum(np.abs(final), np.abs(final - trace[0]))
    return np.abs(final - before) <= within * np.maximum(scale, 1e-12)
