"""One small fixed input for every registry, and what each of its methods makes of it.

Inputs are drawn here, by NumPy alone, so that a digest changes with the method and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import digest_store
import numpy as np
import torch
from digest_imaging import IMAGING
from digest_model import MODEL
from scipy.ndimage import gaussian_filter
from torch import nn

from pipeline.closed_loop.matching import FieldView
from pipeline.dataset.filters import UnitTable
from pipeline.mei.analysis import AnalysisContext
from pipeline.mei.ascent import Problem
from pipeline.mei.controls import ControlContext
from pipeline.mei.parts import Scene
from pipeline.mei.targets import TargetData
from pipeline.mei.view import View
from pipeline.stimulus.monitor import MonitorCurve

SHAPE, NORM, MEAN, SD = (20, 28), 8.0, 110.0, 55.0
GIVEN = {  # parameters without a default, and fewer steps of what is slow
    "objective/target": {"level": 1.0},
    "ascent method/walker2019": {"steps": 150},
    "ascent method/constrained": {"steps": 40, "candidates": 8, "scouts": 4, "scout_steps": 10},
    "ascent method/diverse": {
        "ascent": {
            "name": "constrained",
            "steps": 30,
            "candidates": 4,
            "scouts": 2,
            "scout_steps": 5,
        },
        "steps": 40,
    },
    "kind of control/gabor": {
        "wavelengths_px": [8, 12],
        "sigmas_px": [3, 5],
        "n_dy": 3,
        "n_dx": 3,
        "orientations": 4,
    },
    "kind of control/rf": {"params": {"steps": 30, "candidates": 4, "scouts": 2}},
    "segmenter/given": {"pixels": [[73, 74, 75, 145, 146], [2000, 2001, 2072]]},
    "display/frame": {"size_px": [40, 56]},
    "search/grid": {"space": {"core.name": ["linear", "pooled"], "training.epochs": [3, 4]}},
    "search/random": {
        "space": {"training.epochs": {"low": 2, "high": 90, "integer": True}},
        "n": 5,
    },
    "training/transfer": {"core": "c", "method": "plateau", "params": {}},
    "training/joint": {"group": "g", "method": "plateau", "params": {}},
}
ROUNDING = 1e-4  # of the rms: float32 sums in another order, a margin of ten and more
LOOSER = {  # where each step of many works with the rounding of the one before
    "ascent method": 1e-3,
    "analysis": 1e-3,
    "kind of control": 1e-3,
    "training": 1e-3,
    "motion method": 1e-3,
    "segmenter": 1e-3,
}


def methods():
    """Yield (kind/name, registry, name) of every method there is."""
    for kind, registry in sorted(digest_store.registries().items()):
        for name in registry:
            yield f"{kind}/{name}", registry, name


def hash_of(registry, name):
    return registry.hash(name, GIVEN.get(f"{registry.kind}/{name}"))


def tolerance(registry, name):
    return LOOSER.get(registry.kind, ROUNDING)


def result(registry, name, folder):
    """Return what a method makes of its case's input."""
    given = registry.complete(name, GIVEN.get(f"{registry.kind}/{name}"))
    torch.manual_seed(0)

    def function(*data):
        return registry[name](*data, **given)

    method = SimpleNamespace(name=name, given=given, run=function, folder=folder)
    return CASES[registry.kind](method)


# behavior and data set


def rising(n, step, seed):
    return np.cumsum(np.random.default_rng(seed).uniform(0.8, 1.2, n)) * step


def treadmill(method):
    time = rising(800, 0.02, 1)
    return method.run(time, np.floor(900 * time + 300 * np.sin(time)).astype(int), 16.5, 4096)


def state(method):
    time, fast = rising(1500, 0.02, 2), rising(3000, 0.01, 3)
    pupil = [50 + np.sin(time), 40 + np.cos(0.7 * time), 9 + np.sin(0.4 * time) ** 2]
    pupil[2][400:430] = np.nan
    return method.run(time, *pupil, fast, 5 * np.sin(0.3 * fast), np.arange(1, 28, 1.3))


def window(method):
    rng = np.random.default_rng(4)
    activity = rng.gamma(1.0, 1.0, (5, 300)).astype(np.float32)
    onset = np.arange(1.0, 35, 1.7)
    return method.run(
        activity, np.arange(300) / 8, onset, np.full(len(onset), 0.5), np.linspace(0, 0.1, 5)
    )


def reliability(method):
    rng = np.random.default_rng(5)
    image = np.repeat(np.arange(30), 6)
    tuned = rng.normal(size=(30, 4)) * [1.0, 0.6, 0.3, 0.0]
    return method.run(3 + tuned[image] + rng.normal(size=(180, 4)), image)


def unit_filter(method):
    known = np.array([50.0, 150, 200, 309.9, 310, np.nan])
    soma, snr = np.array([0.9, 0.2, 0.9, np.nan, 0.5, 0.9]), np.array([5, 5, 2, 3, np.nan, 5.0])
    return method.run(UnitTable(np.array(["V1", "V1", "LM", "V1", "V1", ""]), known, soma, snr))


# synthesis


@cache
def filters(n=6):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = []
    for _ in range(n):
        cy, cx, angle = rng.uniform(6, 14), rng.uniform(7, 21), rng.uniform(0, np.pi)
        across = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        envelope = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
        image = envelope * np.cos(2 * np.pi * across / 8 + rng.uniform(0, 6))
        image -= envelope * image.sum() / envelope.sum()
        found.append(image / np.linalg.norm(image))
    return np.array(found, np.float32)


class Cells(nn.Module):
    """Three cells that add a linear and a squared drive; two members that differ a little."""

    def __init__(self, bend):
        super().__init__()
        self.register_buffer("first", torch.as_tensor(filters()[:3]).flatten(1))
        self.register_buffer("second", torch.as_tensor(filters()[3:]).flatten(1))
        self.bend = bend

    def drive(self, images, bend):
        flat = images.flatten(1)
        return nn.functional.softplus(flat @ self.first.T + bend * (flat @ self.second.T) ** 2)

    def forward(self, images):
        return (self.drive(images, self.bend) + self.drive(images, 0.8 * self.bend)) / 2

    def members(self, images, units):
        both = torch.stack([self.drive(images, self.bend), self.drive(images, 0.8 * self.bend)])
        return both.gather(2, units[None, :, None].expand(2, -1, 1))[:, :, 0]

    def gaze_spread(self):
        shifts = torch.tensor([[0.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [0.0, 1.5], [0.0, -1.5]])
        return shifts, torch.tensor([0.4, 0.15, 0.15, 0.15, 0.15])


SCENE = Scene((1, *SHAPE), MEAN, SD, NORM)


def some_images(n=5, seed=8):
    noise = np.random.default_rng(seed).normal(size=(n, 1, *SHAPE))
    smooth = gaussian_filter(noise, (0, 0, 2, 2))
    smooth *= NORM / np.sqrt((smooth**2).sum((1, 2, 3), keepdims=True))
    return torch.as_tensor(smooth, dtype=torch.float32)


def view():
    return View(Cells(0.05), torch.tensor([0, 1, 2, 0, 1]), (1, *SHAPE), crop=False)


def objective(method):
    images = some_images().requires_grad_(True)
    value = method.run(view(), images)
    (gradient,) = torch.autograd.grad(value.sum(), images)
    return {"value": value, "gradient": gradient}


def ascent(method):
    units, starts = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    seen = View(Cells(0.05), torch.as_tensor(units), (1, *SHAPE), crop=False)
    made = method.run(Problem(seen, SCENE, units, starts, 3))
    return {
        "images": made.images,
        "activations": made.activations,
        "value": made.value,
        "members": made.members,
        "silent": made.silent,
    }


def constraint(method):
    return method.run(2 * some_images(), torch.full((5, 1), 0.3), 40, SCENE)


def stopper(method):
    trace = torch.tensor([[1.0, 1.0], [2.0, 1.5], [2.0, 2.5], [2.0, 3.5]])
    return method.run(trace.repeat_interleave(30, 0))


@cache
def control_context():
    images = 110 + 55 * NORM * (0.9 * filters()[:3] + 0.4 * filters()[3:])  # no RF of the LN model
    far = np.abs(filters()[:3])
    rng = np.random.default_rng(9)
    natural = gaussian_filter(rng.normal(size=(60, *SHAPE)), (0, 2, 2))
    natural = 110 + 40 * natural / natural.std((1, 2), keepdims=True)
    return ControlContext(
        cnn=Cells(0.05),
        ln=Cells(0.0),
        units=np.array([2, 0, 1]),
        mei_images=images[[2, 0, 1]],
        mei_masks=np.clip(far / far.max((1, 2), keepdims=True) * 2, 0, 1)[[2, 0, 1]],
        image_mean=MEAN,
        image_sd=SD,
        natural=natural,
        norm=NORM,
        seed=0,
    )


def control(method):
    made = method.run(control_context())
    numbers = [{k: v for k, v in row.items() if not isinstance(v, str)} for row in made.info]
    return {
        "images": made.images,
        "masks": made.masks,
        "activations": made.activations,
        "info": {str(row): values for row, values in enumerate(numbers)},
    }


def analysis(method):
    from digest_model import two_encoders

    stimuli = control_context()
    starts = np.stack([stimuli.mei_images, stimuli.mei_images[::-1]], axis=1)
    rng = np.random.default_rng(10)
    tested = rng.normal(110, 40, (25, *SHAPE))
    context = AnalysisContext(stimuli, starts, tested, rng.gamma(2.0, 1.0, (25, 3)))
    if method.name == "held_out":  # needs a whole ensemble
        ensemble = two_encoders()
        noise = np.random.default_rng(14).normal(size=(3, *ensemble.input_shape))
        own = replace(
            stimuli,
            mei_images=110 + 30 * gaussian_filter(noise, (0, 2, 2)),
            image_mean=ensemble.image_mean,
            image_sd=ensemble.image_sd,
        )
        context = AnalysisContext(own, ensemble=ensemble)
    return method.run(context)


def mask(method):
    context = control_context()

    def rates(images):
        return context.cnn(context.zscore(images)).numpy()[np.arange(3), context.units]

    return method.run(context.mei_images, MEAN, rates)


def targets(method):
    rng = np.random.default_rng(11)
    n = 120
    found = method.run(
        TargetData(
            oracle=rng.uniform(0.4, 0.9, n),
            cnn_score=rng.uniform(0.3, 0.9, n),
            ln_score=rng.uniform(0.2, 0.6, n),
            cnn_fraction=rng.uniform(0.3, 1, n),
            ln_fraction=rng.uniform(0.1, 0.8, n),
            y_px=rng.uniform(0, 199, n),
            x_px=rng.uniform(0, 199, n),
            um_xyz=None,
            field_size_px=(200, 200),
            field=np.zeros(n, int),
            um_per_px=1.5,
        )
    )
    # a rule that expects nothing has nothing shrunken
    return {name: value for name, value in vars(found).items() if value is not None}


def display(method):
    level = np.arange(0.0, 256, 5)
    curve = MonitorCurve(level, 0.2 + 38 * (level / 255) ** 2.1)
    return method.run(110 + 55 * NORM * filters(), curve)


# closed loop


def match(method):
    rng = np.random.default_rng(12)
    y, x = np.mgrid[:90, :90]
    place, days = rng.uniform(8, 82, (25, 2)), []
    for shift in (np.zeros(2), np.array([3.2, -2.4])):
        distance = np.hypot(*(np.stack([y, x])[:, None] - (place + shift).T[:, :, None, None]))
        masks = distance < 4.5
        image = np.exp(-(distance**2) / 18).sum(0) + 0.02 * rng.normal(size=(90, 90))
        days.append(FieldView(image.astype(np.float32), None, masks, 1.5))
    return method.run(*days)


def kinds(n, names=("mei", "rf", "gabor")):
    return {kind: [f"{kind}{unit}" for unit in range(n)] for kind in names}


def plan(method):
    return method.run({**kinds(6), "natural": ["n0", "n1", "n2"]})


def outcome(method):
    rng = np.random.default_rng(13)
    by_kind = kinds(8, ("mei", "rf"))
    image = np.repeat(np.concatenate(list(by_kind.values())), 10)
    drive = np.full((2, 8, 8), 0.5)
    drive[0, np.arange(8), np.arange(8)], drive[1, np.arange(8), np.arange(8)] = 1.5, 1.0
    mean = np.repeat(drive.reshape(-1, 8), 10, axis=0)
    return method.run(rng.gamma(2.0, mean / 2), image, by_kind)


CASES = {
    "treadmill method": treadmill,
    "behavior window": state,
    "response window": window,
    "reliability measure": reliability,
    "unit filter": unit_filter,
    "objective": objective,
    "ascent method": ascent,
    "constraint": constraint,
    "finish": lambda method: method.run(some_images(), SCENE),
    "gradient preconditioner": lambda method: method.run(some_images(), 0.3),
    "initial image": lambda method: method.run(np.random.default_rng(1), SCENE),
    "image regulariser": lambda method: method.run(some_images(), 0.3),
    "stopper": stopper,
    "transform": lambda method: method.run(some_images(), SCENE, np.random.default_rng(1), 0.3),
    "kind of control": control,
    "analysis": analysis,
    "mask method": mask,
    "target rule": targets,
    "display": display,
    "match method": match,
    "plan method": plan,
    "outcome method": outcome,
    **IMAGING,
    **MODEL,
}
