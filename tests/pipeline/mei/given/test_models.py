"""Models, units and objectives as a person brings them to synthesis."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.mei import synthesize
from pipeline.model import Ensemble, build_encoder

FAST = {"steps": 20, "candidates": 2, "scouts": 1}


@pytest.fixture(scope="module")
def linear(toys):
    return toys.Linear(toys.gabor_filters(4))


@pytest.fixture
def how(toys):
    return {"shape": (1, 24, 32), "mean": toys.MEAN, "sd": toys.SD, "norm": 6.0, "params": FAST}


@pytest.fixture(scope="module")
def encoders():
    from pipeline.dataset import Dataset

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 36, 48), np.uint8)
    tiers = np.repeat(["train", "validation"], 6)
    data = Dataset(images, np.arange(12), np.arange(12), rng.random((12, 3)), tiers)
    config = {"core": {"channels": 4}}
    return [build_encoder(config, data, seed) for seed in (0, 1)]


@pytest.mark.parametrize(
    "units",
    [
        np.array([False, False, True, True]),
        [False, False, True, True],
        [2, 3],
        np.array([2.0, 3.0]),
        range(2, 4),
        pd.Series([2, 3], index=[7, 8]),
        torch.tensor([2, 3]),
    ],
)
def test_units_are_positions_or_a_mask(linear, how, units):
    made = synthesize(linear, units, **how)
    z = ((made.images - how["mean"]) / how["sd"]).reshape(2, -1)
    assert (z @ linear.filters.numpy().T).argmax(1).tolist() == [2, 3]


@pytest.mark.parametrize(
    "units", [2.7, [0, 2.7], "2", ["2"], [True, False], [4], [-1], [np.nan], [[0], []]]
)
def test_other_units_are_refused(linear, how, units):
    with pytest.raises(ValueError, match="unit"):
        synthesize(linear, units, **how)


def test_a_group_of_units_gets_one_image(toys, linear, how):
    """Of linear units the best image of a group is the mean of their filters."""
    made = synthesize(linear, [[0, 1, 2], [3]], **how)
    filters = linear.filters.numpy()
    wanted = np.stack([filters[:3].sum(0), filters[3]])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    z = toys.zscored(made.images).reshape(2, -1)
    assert ((z * wanted).sum(1) > 0.95 * how["norm"]).all()
    answers = linear(torch.as_tensor(z, dtype=torch.float32)).numpy()
    assert made.activations[0] == pytest.approx(answers[0, :3].mean(), rel=1e-5)


def test_ensembles_encoders_and_lists_know_their_images(encoders):
    ensemble = Ensemble(encoders)
    frozen = ensemble.frozen()
    stated = synthesize(
        frozen,
        [0, 2],
        shape=(1, 36, 48),
        mean=ensemble.image_mean,
        sd=ensemble.image_sd,
        params=FAST,
    )
    for model in (frozen, ensemble, encoders):
        made = synthesize(model, [0, 2], params=FAST, held_out=encoders[1])
        np.testing.assert_array_equal(made.images, stated.images)
        assert made.images.shape == (2, 1, 36, 48)
    answers = encoders[1].predict(made.images[:, 0])[[0, 1], [0, 2]]
    np.testing.assert_allclose(made.held_out, answers, rtol=1e-4)
    alone = synthesize(encoders[0], [0], params=FAST)
    answer = encoders[0].predict(alone.images[:, 0], units=[0])[0]
    assert alone.activations == pytest.approx(answer, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"shape": (1, 36, 64)}, {"mean": 90.0}, {"sd": 20.0}])
def test_other_numbers_than_the_models_are_refused(encoders, wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"{name} is .* trained with"):
        synthesize(Ensemble(encoders), [0], params=FAST, **wrong)


def test_a_list_of_modules_is_their_mean(toys, linear, how):
    other = toys.Linear(toys.gabor_filters(4, seed=1))
    made = synthesize([linear, other], [1], starts=2, **how)
    z = torch.as_tensor(toys.zscored(made.images), dtype=torch.float32)
    both = [float(model(z)[0, 1]) for model in (linear, other)]
    np.testing.assert_allclose(made.member_activations[0], both, rtol=1e-4)
    assert made.activations[0] == pytest.approx(np.mean(both), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"norm": -5.0}, "norm"),
        ({"norm": np.nan}, "norm"),
        ({"sd": np.nan}, "sd"),
        ({"sd": 0}, "sd"),
        ({"mean": np.inf}, "mean"),
        ({"mean": None}, "mean is missing"),
        ({"starts": 0}, "starts"),
        ({"starts": 1.5}, "starts"),
        ({"shape": (24, 32)}, "shape"),
    ],
)
def test_impossible_numbers_are_named(linear, how, change, named):
    with pytest.raises(ValueError, match=named):
        synthesize(linear, [0], **{**how, **change})


class Out(nn.Module):
    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images):
        return self.change(self.model(images))


@pytest.mark.parametrize(
    "change", [lambda y: (y, y), lambda y: y[..., None], lambda y: y[:, 0], lambda y: {"y": y}]
)
def test_a_model_must_give_a_table(linear, how, change):
    with pytest.raises(ValueError, match=r"must give a tensor \(n, units\), got a"):
        synthesize(Out(linear, change), [0], **how)


def test_submodules_get_their_modes_back(how):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3)
    )
    net(torch.zeros(2, 1, 24, 32))
    net.train()
    net[1].eval()
    synthesize(net, [0], held_out=net, **how)
    assert [part.training for part in net] == [True, False, True, True, True]
