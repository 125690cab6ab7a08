"""What every kind of control promises: one image a neuron, as its model says, by seed alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.mei.controls import ControlContext, control_kinds, in_order

SHAPE, NORM = (24, 32), 8.0
KINDS = in_order(control_kinds)
QUICK = {  # fewer steps and smaller banks of what is slow
    "gabor": {"wavelengths_px": [12], "sigmas_px": [4], "n_dy": 3, "n_dx": 3, "refine_steps": 5},
    "rf": {"params": {"steps": 10, "candidates": 4, "scouts": 2, "scout_steps": 2}},
    "metamer": {"steps": 20},
    "surround_excite": {"steps": 20},
    "surround_inhibit": {"steps": 20},
}
COMPANY = {"other_mei", "metamer"}  # take from, or answer for, all neurons there are
OWN_NORM = {"accentuated"}  # between a natural image and the MEI


@pytest.fixture(scope="module")
def context(toys):
    filters = toys.gabor_filters(4, seed=11)
    units = np.array([3, 0, 2])
    meis = (toys.MEAN + toys.SD * NORM * filters[units]).astype(np.float32)
    rng = np.random.default_rng(0)
    return ControlContext(
        cnn=toys.Linear(filters),
        ln=toys.Linear(0.8 * filters + 0.2 * filters[::-1]),
        units=units,
        mei_images=meis,
        mei_masks=(np.abs(filters[units]) > 0.1 * np.abs(filters).max()).astype(np.float32),
        image_mean=toys.MEAN,
        image_sd=toys.SD,
        natural=rng.uniform(0, 255, (20, *SHAPE)),
        norm=NORM,
        seed=0,
    )


def made(context, kind):
    return control_kinds[kind](context, **QUICK.get(kind, {}))


@pytest.fixture(scope="module")
def controls(context):
    return {kind: made(context, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_has_an_image_of_the_norm_and_the_response_of_its_model(
    toys, context, controls, kind
):
    found = controls[kind]
    assert (found.images.shape, found.images.dtype) == ((3, *SHAPE), np.float32)
    assert np.isfinite(found.images).all()
    assert found.masks is None or found.masks.shape == (3, *SHAPE)
    norms = np.sqrt((toys.zscored(found.images) ** 2).sum((1, 2)))
    assert (norms < 1.001 * NORM).all()
    if kind not in OWN_NORM:
        np.testing.assert_allclose(norms, NORM, rtol=1e-3)
    with torch.no_grad():
        rates = context.cnn(context.zscore(found.images)).numpy()[np.arange(3), context.units]
    np.testing.assert_allclose(found.activations, rates, rtol=1e-3, atol=1e-4)
    assert len(found.info) == 3
    json.dumps(found.info, allow_nan=False)  # goes into a column of JSON


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.numerical
def test_the_same_seed_makes_the_same_images(context, controls, kind):
    again = made(context, kind)
    np.testing.assert_array_equal(controls[kind].images, again.images)
    assert controls[kind].info == again.info


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in COMPANY])
@pytest.mark.numerical
def test_other_neurons_and_their_order_do_not_matter(context, controls, kind):
    turn = [2, 0]
    pick = {name: getattr(context, name)[turn] for name in ("units", "mei_images", "mei_masks")}
    found = made(replace(context, **pick), kind)
    np.testing.assert_allclose(found.images, controls[kind].images[turn], atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_no_neurons_are_no_images(context, kind):
    pick = {name: getattr(context, name)[:0] for name in ("units", "mei_images", "mei_masks")}
    none = replace(context, **pick)
    if kind == "other_mei":
        with pytest.raises(ValueError, match="at least two neurons"):
            made(none, kind)
        return
    found = made(none, kind)
    assert found.images.shape == (0, *SHAPE)
    assert found.activations.shape == (0,)
    assert found.info == []


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_cannot_be_are_refused_in_one_line(kind):
    bad = {"no_such_parameter": 1}, *({name: object()} for name in control_kinds.defaults(kind))
    for params in bad:
        with pytest.raises(ValueError, match=next(iter(params))) as caught:
            control_kinds.complete(kind, params)
        assert "\n" not in str(caught.value)
