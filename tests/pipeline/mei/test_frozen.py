"""The fast ways of a frozen ensemble give what its slow ones give."""

import numpy as np
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.search import responses
from pipeline.model.frozen.model import FrozenModel


@pytest.fixture(scope="module")
def frozen():
    rng = np.random.default_rng(0)
    n, units = 60, 20
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
            places = encoder.readout.place  # -1..1; every corner and edge among them
            places[:4] = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
            places[4:8] = torch.tensor([[0.0, -1.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
            places[8:] = torch.linspace(-0.9, 0.9, 24).reshape(12, 2).flip(0) + 0.02 * seed
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


@pytest.mark.numerical
def test_crop_gives_the_activation_of_the_whole_image(frozen):
    assert frozen.crops().exact.all()
    made = make(frozen, range(20))
    z = torch.as_tensor((made.images - frozen.image_mean) / frozen.image_sd).float()
    with torch.no_grad():
        whole = frozen(z).diagonal().numpy()
    np.testing.assert_allclose(made.activations, whole, rtol=1e-4)
    np.testing.assert_allclose(np.sqrt((z**2).sum((1, 2, 3)).numpy()), 10.0, rtol=1e-4)


def test_nothing_is_drawn_outside_of_what_the_unit_sees(frozen):
    made = make(frozen, [0, 4], params={"priors": "none"})
    places = frozen.crops([0, 4])
    for image, top, left in zip(made.images[:, 0], places.top, places.left, strict=True):
        outside = np.ones((36, 64), bool)
        outside[top : top + places.height, left : left + places.width] = False
        assert np.ptp(image[outside]) < 1e-3


@pytest.mark.numerical
def test_crop_ascends_as_the_whole_image_does(frozen):
    crop = make(frozen, [2, 5], params={"priors": "none", "steps": 40})
    whole = make(frozen, [2, 5], params={"priors": "none", "steps": 40, "crop": False})
    assert (crop.activations > 0.9 * whole.activations).all()


@pytest.mark.numerical
def test_twenty_neurons_at_once_are_twenty_neurons_one_by_one(frozen):
    short = {"params": {"steps": 10, "scout_steps": 3}}
    together = make(frozen, range(20), **short)
    size = np.abs(together.images - frozen.image_mean).max()
    for unit in range(20):
        alone = make(frozen, [unit], **short)
        np.testing.assert_allclose(alone.activations, together.activations[[unit]], rtol=1e-4)
        np.testing.assert_allclose(alone.images[0], together.images[unit], atol=1e-4 * size)


@pytest.mark.numerical
def test_neither_chunks_nor_order_change_anything(frozen):
    together = make(frozen, range(6), starts=2)
    size = np.abs(together.images - frozen.image_mean).max()
    turn = [3, 1, 5, 0, 2, 4]
    for batch_size in (2, 5, 100):
        turned = make(frozen, turn, starts=2, batch_size=batch_size)
        np.testing.assert_allclose(turned.all_images, together.all_images[turn], atol=1e-4 * size)
        np.testing.assert_allclose(turned.activations, together.activations[turn], rtol=1e-4)


def test_members_make_up_the_activation_and_a_held_out_one_is_asked(frozen):
    apart = FrozenModel([model.encoder for model in frozen.models[:1]])
    made = make(frozen, [7, 2], held_out=apart)
    assert made.member_activations.shape == (2, 2)
    np.testing.assert_allclose(made.member_activations.mean(1), made.activations, rtol=1e-5)
    np.testing.assert_allclose(made.held_out, made.member_activations[:, 0], rtol=1e-4)
    assert np.isnan(make(frozen, [7]).held_out).all()


def test_an_interrupted_synthesis_goes_on_where_it_was(frozen, tmp_path):
    def stop(done, _):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(frozen, range(6), batch_size=2, checkpoint=tmp_path, progress=stop)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(kept) == 2
    resumed = make(frozen, range(6), batch_size=2, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in kept.items())
    plain = make(frozen, range(6), batch_size=2)
    np.testing.assert_array_equal(resumed.images, plain.images)
    make(frozen, range(2), batch_size=2, checkpoint=tmp_path, seed=1)
    assert len(list(tmp_path.iterdir())) == 4  # another seed is another file


@pytest.mark.numerical
def test_search_by_crop_and_by_frame_agree(frozen):
    images = torch.as_tensor(np.random.default_rng(1).normal(size=(7, 1, 36, 64))).float()
    units = np.array([1, 3])
    with torch.no_grad():
        whole = frozen(images)[:, units].numpy()
    np.testing.assert_allclose(responses(frozen, images, units), whole, rtol=1e-4, atol=1e-5)
