"""Inputs for the parts of encoders, and what comes out of an encoder that has the part."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from pipeline import model
from pipeline.dataset import Dataset

SMALL = {  # every part by name: a digest is that of one part, whichever the others' default is
    "core": {"name": "linear", "channels": 4},
    "readout": {"name": "point"},
    "shifter": {"name": "affine"},
    "modulator": {"name": "exp_mlp"},
    "loss": {"name": "poisson"},
    "training": {"name": "annealed"},
}


@cache
def trials():
    rng = np.random.default_rng(20)
    images = gaussian_filter(rng.normal(size=(80, 18, 32)), (0, 1.5, 1.5))
    images = np.clip(110 + 50 * images / images.std(), 0, 255).astype(np.float32)
    weight = gaussian_filter(rng.normal(size=(5, 18, 32)), (0, 2, 2)).reshape(5, -1)
    drive = (images.reshape(80, -1) - 110) @ weight.T
    rate = np.log1p(np.exp(2 * drive / drive.std(0)))
    tiers = np.where(np.arange(80) < 60, "train", "validation")
    return Dataset(
        images,
        np.arange(80),
        np.arange(80),
        rng.poisson(rate * 3) / 3,
        tiers,
        behavior=rng.normal([9, 0, 3], [1, 0.5, 2], (80, 3)),
        pupil_center=rng.normal([60, 50], [3, 2], (80, 2)),
        um_xyz=rng.uniform(0, 300, (5, 3)),
    )


def bent(encoder):
    """Move every parameter by a fixed pattern: some begin at 0, where they do nothing."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            wave = torch.cos(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7)
            parameter += 0.05 * wave.reshape(parameter.shape).to(parameter.dtype)
    return encoder.eval()


def predicted(encoder):
    data = trials()
    return encoder.predict(data.images, data.behavior, data.pupil_center)


def part(section):
    def case(method):
        config = {**SMALL, section: {"name": method.name, **method.given}}
        encoder = model.build_encoder(config, trials(), seed=1)
        own = getattr(encoder, section)
        begun = {} if own is None else {k: v.clone() for k, v in own.named_parameters()}
        penalty = encoder.core.regulariser() + encoder.readout.regulariser()
        return {"begun": begun, "penalty": penalty, "predicted": predicted(bent(encoder))}

    return case


def loss(method):
    rng = np.random.default_rng(21)
    rate = torch.as_tensor(rng.gamma(1.0, 1.0, (30, 4)), dtype=torch.float32).requires_grad_()
    response = torch.as_tensor(rng.gamma(1.0, 1.0, (30, 4)), dtype=torch.float32)
    value = method.run()(rate, response)
    return {"value": value, "gradient": torch.autograd.grad(value, rate)[0]}


def training(method):
    params = {k: v for k, v in method.given.items() if k != "batch_size"}
    small = {"batch_size": 20} if "batch_size" in method.given else {}
    config = {**SMALL, "training": {"name": method.name, **params, **small}}
    encoder = model.build_encoder(config, trials(), seed=1)
    trained = model.train(encoder, trials(), seed=2, max_epochs=3)
    return {"predicted": predicted(encoder), "validation": trained.validation_correlation}


def combination(method):
    rng = np.random.default_rng(22)
    truth = rng.gamma(2.0, 1.0, (50, 6))
    noise = np.array([0.3, 0.3, 0.5, 2.0])[:, None, None] * rng.normal(size=(4, 50, 6))
    return method.run(truth + rng.normal(size=truth.shape), truth + noise, [0, 0, 1, 1])


def search(method):
    made = method.run({"core": {"name": "linear"}})
    return [[config["core"]["name"], config["training"]["epochs"]] for config in made]


@cache
def two_encoders():
    """An ensemble of two encoders that were not trained, with three units and more."""
    encoders = [bent(model.build_encoder(SMALL, trials(), seed=seed)) for seed in (1, 2)]
    return model.Ensemble(encoders)


MODEL = {
    "core": part("core"),
    "readout": part("readout"),
    "shifter": part("shifter"),
    "modulator": part("modulator"),
    "loss": loss,
    "training": training,
    "combination of members": combination,
    "search": search,
}
