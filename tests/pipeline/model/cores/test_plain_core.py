"""A plain module as a core."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import DataError
from pipeline.model import Ensemble, build_encoder, load_encoder, save_encoder, train
from pipeline.model.cores import PlainCore, cores


@pytest.fixture
def registered():
    """A core that is registered for one test."""

    def own(*, width: int = 4) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, width, 7, stride=2, padding=3), nn.ELU())

    cores.register("of_a_test")(own)
    yield "of_a_test"
    for table in (cores._functions, cores._revisions):
        table.pop("of_a_test", None)


def test_it_trains_reads_where_it_should_and_comes_back(tiny, registered, tmp_path):
    config = {"core": {"name": registered}, "training": {"epochs": 2, "min_steps": 1}}
    encoder = build_encoder(config, tiny)
    train(encoder, tiny, device="cpu")
    assert isinstance(encoder.core, PlainCore)
    assert (encoder.core.channels, encoder.core.stride) == (4, 2)
    height, width = encoder.input_shape
    assert (encoder.readout_px() >= -1).all()
    assert (encoder.readout_px() <= [height, width]).all()
    frozen = Ensemble([encoder]).frozen()
    z = torch.randn(2, 1, height, width)
    assert frozen(z).shape == (2, tiny.n_units)
    save_encoder(encoder, file := tmp_path / "own.safetensors")
    np.testing.assert_array_equal(
        load_encoder(file).predict(tiny.images[:2]), encoder.predict(tiny.images[:2])
    )
    cores._functions.pop(registered)
    with pytest.raises(DataError, match=r"core 'of_a_test' is not known here.*INCEPTION_PLUGINS"):
        load_encoder(file)


def test_features_lie_where_the_image_has_them():
    """A module that keeps every fourth pixel from the second on."""

    class Take(nn.Module):
        def forward(self, images):
            return images[:, :, 1::4, 1::4]

    core = PlainCore(Take(), (32, 48))
    assert (core.channels, core.stride) == (1, 4)
    assert core.offset == pytest.approx(1.5, abs=0.5)
    assert core.output_size((32, 48)) == (8, 12)


@pytest.mark.parametrize("wrong", [nn.Flatten(), nn.Identity])
def test_another_module_is_no_core(wrong):
    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    with pytest.raises(ValueError, match="a core gives features"):
        PlainCore(Pair() if wrong is nn.Identity else wrong, (24, 32))
