"""Objectives given as functions, and those that may not be ascended in a crop."""

import numpy as np
import pytest
import torch

from pipeline.mei import synthesize
from pipeline.mei.objectives import activation, objectives
from pipeline.mei.objectives.own import reads_own_unit
from pipeline.model import Ensemble, train_ensemble

FAST = {"steps": 20, "candidates": 2, "scouts": 1}


@pytest.fixture
def how(toys):
    return {"shape": (1, 24, 32), "mean": toys.MEAN, "sd": toys.SD, "norm": 6.0}


@pytest.fixture(scope="module")
def linear(toys):
    return toys.Linear(toys.gabor_filters(4))


@pytest.fixture(scope="module")
def far_apart():
    """An ensemble whose units see small parts of the image."""
    from pipeline.dataset import Dataset
    from pipeline.simulate import Population, simulate_dataset

    simulated = simulate_dataset(Population(seed=5, n_cells=6), 200, test_images=6, repeats=4)
    config = {"core": {"channels": 4}}
    return train_ensemble(Dataset(**simulated.arguments()), [0], config=config, max_epochs=2)


def test_a_function_is_as_the_registered_one(linear, how):
    def mine(view, images):
        return activation(view, images)

    named = synthesize(linear, [0, 1], params=FAST, **how)
    for given in ({"objective": mine}, {"params": {**FAST, "objective": mine}}):
        made = synthesize(linear, [0, 1], **{"params": FAST, **given}, **how)
        np.testing.assert_array_equal(made.images, named.images)


def test_an_objective_that_is_named_beside_the_parameters(linear, how):
    made = synthesize(linear, [0], objective="inhibition", params=FAST, **how)
    inside = synthesize(linear, [0], params={**FAST, "objective": "inhibition"}, **how)
    np.testing.assert_array_equal(made.images, inside.images)
    with pytest.raises(ValueError, match="objective once"):
        synthesize(linear, [0], objective="target", params={"objective": "inhibition"}, **how)


@pytest.mark.parametrize("wrong", [lambda view, x: x.sum(), lambda view, x: 1.0])
def test_an_objective_gives_one_number_an_image(linear, how, wrong):
    with pytest.raises(ValueError, match="one number an image"):
        synthesize(linear, [0], objective=wrong, params=FAST, **how)


def test_diverse_images_follow_a_function(linear, how):
    def two(view, images):
        return view.all_units(images)[:, :2].mean(1)

    short = {"steps": 20, "ascent": FAST}
    made = synthesize(linear, [3], method="diverse", objective=two, starts=3, params=short, **how)
    z = torch.as_tensor((made.all_images[0] - how["mean"]) / how["sd"])
    answers = linear(z).numpy()
    assert (answers[:, :2].mean(1) > answers[:, 3]).all()  # unit 3 has no say
    with pytest.raises(ValueError, match="above 0"):
        synthesize(
            linear,
            [3],
            method="diverse",
            objective=lambda view, x: -two(view, x),
            starts=2,
            params=short,
            **how,
        )


def test_an_objective_of_several_units_sees_whole_frames(far_apart):
    """Its neighbours lie outside of the unit's crop."""
    frozen = far_apart.frozen()
    assert frozen.crops().exact.any()
    others = {"name": "contrast", "neighbours": [1, 2, 3]}
    params = {**FAST, "objective": others}
    default = synthesize(far_apart, [0], params=params)
    whole = synthesize(far_apart, [0], params={**params, "crop": False})
    np.testing.assert_array_equal(default.images, whole.images)
    seen = set()

    def sizes(view, images):
        seen.add(tuple(images.shape[2:]))
        return view.rates(images)

    synthesize(far_apart, [0], objective=sizes, params=FAST)
    assert seen == {far_apart.input_shape}
    seen.clear()
    sizes.own_unit = True
    synthesize(far_apart, [0], objective=sizes, params=FAST)
    crops = frozen.crops()
    assert seen == {(crops.height, crops.width)}


def test_every_objective_says_whether_it_reads_its_unit_alone(far_apart):
    """Of those that say so, crops and frames give the same number."""
    from pipeline.mei.view import View

    frozen = Ensemble(far_apart.encoders).frozen()
    units = torch.as_tensor(np.flatnonzero(frozen.crops().exact))
    images = torch.randn((len(units), 1, *frozen.input_shape), generator=torch.manual_seed(0))
    shape = (1, *frozen.input_shape)
    crop, frame = View(frozen, units, shape, True), View(frozen, units, shape, False)
    for name in objectives:
        if reads_own_unit({"objective": name}):
            asked = {"target": {"level": 1.0}}.get(name, {})
            value = objectives[name](crop, crop.cut(images), **asked)
            np.testing.assert_allclose(
                value.numpy(), objectives[name](frame, images, **asked).numpy(), rtol=1e-3
            )
    assert not reads_own_unit({"objective": "contrast"})
