import numpy as np
import pytest
import torch

from pipeline import model

TINY = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}


@pytest.fixture(scope="module")
def source(tiny):
    encoder = model.build_encoder(TINY, tiny, 0)
    model.train(encoder, tiny, seed=0, max_epochs=2)
    return encoder


@pytest.fixture(scope="module")
def other(tiny):
    return tiny.select(units=np.arange(5))


def test_training_on_held_features_is_training_on_the_frozen_core(source, other):
    config = model.transfer_config(TINY, "somewhere")
    trained = []
    for train in (model.train, model.train_readout):
        encoder = model.transfer_core(source, other, 1, config)
        result = train(encoder, other, seed=1, max_epochs=3)
        trained.append((encoder, [row["validation_correlation"] for row in result.history]))
    np.testing.assert_allclose(trained[0][1], trained[1][1], atol=1e-4)
    for name, tensor in trained[0][0].state_dict().items():
        torch.testing.assert_close(trained[1][0].state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_core_stays_as_it_was_and_is_saved_with_the_encoder(source, other, tmp_path):
    encoder = model.transfer_core(source, other, 1)
    model.train_readout(encoder, other, max_epochs=2)
    for name, tensor in source.core.state_dict().items():
        torch.testing.assert_close(encoder.core.state_dict()[name], tensor, rtol=0, atol=0)
    model.save_encoder(encoder, tmp_path / "t.safetensors")
    again = model.load_encoder(tmp_path / "t.safetensors")
    images = other.images[:3]
    np.testing.assert_array_equal(again.predict(images), encoder.predict(images))


def test_it_resumes_from_its_checkpoint(source, other, tmp_path):
    whole = model.transfer_core(source, other, 1)
    model.train_readout(whole, other, max_epochs=3)

    def stop(epoch, info):
        if epoch == 1:
            raise KeyboardInterrupt

    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        model.train_readout(
            model.transfer_core(source, other, 1),
            other,
            max_epochs=3,
            checkpoint=path,
            progress=stop,
        )
    resumed = model.transfer_core(source, other, 1)
    result = model.train_readout(resumed, other, max_epochs=3, checkpoint=path)
    assert result.epochs == 3
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_another_core_or_group_is_another_configuration(source, other):
    plain = model.complete_config(TINY)
    hashes = {
        model.build_encoder(config, other).model_hash
        for config in (
            plain,
            model.transfer_config(TINY, "a"),
            model.transfer_config(TINY, "b"),
            model.joint_config(TINY, "a"),
        )
    }
    assert len(hashes) == 4
    config = model.transfer_config(TINY, "a")
    assert model.complete_config(config) == config
    assert config["training"]["params"]["batch_size"] == 32


def test_a_core_that_does_not_fit_is_refused(source, other):
    with pytest.raises(ValueError, match="source's core"):
        model.transfer_core(source, other, config={"core": {"channels": 7}})
    with pytest.raises(ValueError, match="transfer_core"):
        model.train_readout(model.build_encoder(TINY, other), other)
