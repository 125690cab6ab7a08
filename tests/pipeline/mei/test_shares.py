"""Images for an ensemble whose members share the prediction of a unit unequally."""

import numpy as np
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.analysis import AnalysisContext, analyses
from pipeline.mei.controls import ControlContext

UNITS = 6


@pytest.fixture(scope="module")
def members():
    """Return two untrained CNNs and an LN model of units all over the image."""
    rng = np.random.default_rng(0)
    data = Dataset(
        images=rng.integers(0, 256, (30, 36, 64)).astype(np.uint8),
        image_index=np.arange(30),
        image_id=np.arange(30),
        responses=rng.gamma(2.0, 1.0, (30, UNITS)).astype(np.float32),
        tiers=np.repeat(["train", "validation", "test"], 10),
    )
    made = []
    for seed, config in enumerate((None, None, models.ln_config())):
        encoder = models.build_encoder(config, data, seed=seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            encoder.readout.features.normal_(0, 0.3)
            encoder.readout.place.copy_(torch.linspace(-1, 1, 2 * UNITS).reshape(UNITS, 2))
        made.append(encoder)
    return made


SHARES = np.array([[0.5, 0.0, 0.25], [0.5, 0.0, 0.25], [0.0, 1.0, 0.5]])[:, [0, 1, 2, 0, 1, 2]]


def make(ensemble, units=range(UNITS), **keywords):
    parameters = {"steps": 60, "scouts": 4, "scout_steps": 10, "candidates": 4}
    parameters.update(keywords.pop("params", {}))
    scene = {"mean": ensemble.image_mean, "sd": ensemble.image_sd, "norm": 10.0}
    return synthesize(ensemble.frozen(), units, params=parameters, **scene, **keywords)


def test_an_image_is_that_of_the_members_that_speak(members):
    made = make(models.Ensemble(members, SHARES))
    for alone, units in ((members[:2], [0, 3]), (members[2:], [1, 4])):
        other = make(models.Ensemble(alone), units)
        np.testing.assert_allclose(made.activations[units], other.activations, rtol=1e-4)
        np.testing.assert_allclose(made.images[units], other.images, atol=0.5)
    weighted = (made.member_activations * SHARES.T).sum(1)
    np.testing.assert_allclose(made.activations, weighted, rtol=1e-5)
    assert made.member_activations.shape == (UNITS, 3)
    pair = made.member_activations[:, :2].std(1, ddof=1)
    np.testing.assert_allclose(made.member_sd[[0, 3]], pair[[0, 3]], rtol=1e-4)
    np.testing.assert_allclose(made.member_sd[[1, 4]], 0, atol=1e-4)
    whole = models.Ensemble(members, SHARES).predict(made.images[:, 0])
    np.testing.assert_allclose(whole.diagonal(), made.activations, rtol=1e-4)


@pytest.mark.numerical
def test_batch_equals_loop_and_crop_equals_frame(members):
    ensemble = models.Ensemble(members, SHARES)
    together = make(ensemble)
    for unit in range(UNITS):
        one = make(ensemble, [unit])
        np.testing.assert_allclose(one.activations, together.activations[unit], rtol=1e-4)
    frames = make(ensemble, params={"crop": False})
    np.testing.assert_allclose(frames.activations, together.activations, rtol=2e-3)


def test_a_cautious_objective_does_not_mind_who_has_no_say(members):
    cautious = {"params": {"objective": "cautious"}}
    made = make(models.Ensemble(members, SHARES), [0, 3], **cautious)
    pair = make(models.Ensemble(members[:2]), [0, 3], **cautious)
    np.testing.assert_allclose(made.images, pair.images, atol=0.5)
    assert np.isfinite(make(models.Ensemble(members, SHARES), [1], **cautious).images).all()


def test_shares_are_part_of_what_an_interrupted_call_goes_on_with(members, tmp_path):
    equal = make(models.Ensemble(members), [0], checkpoint=tmp_path)
    shared = make(models.Ensemble(members, SHARES), [0], checkpoint=tmp_path)
    assert not np.allclose(equal.images, shared.images)
    again = make(models.Ensemble(members, SHARES), [0], checkpoint=tmp_path)
    np.testing.assert_array_equal(again.images, shared.images)


def test_who_is_left_out_is_asked_about_what_the_others_made(members):
    kinds = [members[0], members[0], members[2]]  # the last has no say
    twins = models.Ensemble(kinds, np.array([[0.5], [0.5], [0.0]]).repeat(UNITS, axis=1))
    units = np.array([0, 3])
    frozen = twins.frozen()
    stimuli = ControlContext(
        cnn=frozen,
        ln=frozen,
        units=units,
        mei_images=make(twins, units).images[:, 0],
        mei_masks=None,
        image_mean=frozen.image_mean,
        image_sd=frozen.image_sd,
        natural=None,
        norm=10.0,
        seed=0,
    )
    found = analyses["held_out"](AnalysisContext(stimuli, ensemble=twins))
    np.testing.assert_allclose(found.units["ratio"], 1, rtol=1e-3)  # a twin agrees
    np.testing.assert_allclose(found.units["member_cv"], 0, atol=1e-3)
