"""The fast ways of a frozen ensemble give what its slow ones give."""

import numpy as np
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.search import responses


@pytest.fixture(scope="module")
def frozen():
    rng = np.random.default_rng(0)
    n, units = 60, 9
    data = Dataset(
        images=rng.integers(0, 256, (n, 36, 64)).astype(np.uint8),
        image_index=np.arange(n),
        image_id=np.arange(n),
        responses=rng.gamma(2.0, 1.0, (n, units)).astype(np.float32),
        tiers=np.repeat(["train", "validation", "test"], 20),
    )
    config = models.default_config()
    members = []
    for seed in (0, 1):
        encoder = models.build_encoder(config, data, seed=seed)
        torch.manual_seed(seed)
        with torch.no_grad():  # features that differ in sign, as training makes them
            encoder.readout.features.normal_(0, 0.3)
        members.append(encoder)
    return models.Ensemble(members).frozen()


def make(frozen, units, **keywords):
    parameters = {"steps": 25, "scouts": 2, "scout_steps": 5, "candidates": 2}
    parameters.update(keywords.pop("params", {}))
    return synthesize(
        frozen,
        units,
        mean=frozen.image_mean,
        sd=frozen.image_sd,
        norm=10.0,
        params=parameters,
        **keywords,
    )


def test_crop_gives_the_activation_of_the_whole_image(frozen):
    assert frozen.patches().exact.all()
    made = make(frozen, range(9))
    z = torch.as_tensor((made.images - frozen.image_mean) / frozen.image_sd).float()
    with torch.no_grad():
        whole = frozen(z).diagonal().numpy()
    np.testing.assert_allclose(made.activations, whole, rtol=1e-4)
    np.testing.assert_allclose(np.sqrt((z**2).sum((1, 2, 3)).numpy()), 10.0, rtol=1e-4)


def test_nothing_is_drawn_outside_of_what_the_unit_sees(frozen):
    made = make(frozen, [0, 4], params={"priors": "none"})
    patches = frozen.patches([0, 4])
    for image, top, left in zip(made.images[:, 0], patches.top, patches.left, strict=True):
        outside = np.ones((36, 64), bool)
        outside[top : top + patches.height, left : left + patches.width] = False
        assert np.ptp(image[outside]) < 1e-3


def test_crop_ascends_as_the_whole_image_does(frozen):
    crop = make(frozen, [2, 5], params={"priors": "none", "steps": 60})
    whole = make(frozen, [2, 5], params={"priors": "none", "steps": 60, "crop": False})
    assert (crop.activations > 0.9 * whole.activations).all()


def test_batch_size_does_not_change_the_images(frozen):
    one, many = make(frozen, range(4), batch_size=1), make(frozen, range(4))
    np.testing.assert_allclose(one.activations, many.activations, rtol=1e-4)


def test_search_by_crop_and_by_frame_agree(frozen):
    images = torch.as_tensor(np.random.default_rng(1).normal(size=(7, 1, 36, 64))).float()
    units = np.array([1, 3])
    with torch.no_grad():
        whole = frozen(images)[:, units].numpy()
    np.testing.assert_allclose(responses(frozen, images, units), whole, rtol=1e-4, atol=1e-5)
