import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.errors import DataError

TINY = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}


def _correlation(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def _train(dataset, seed=0, config=TINY, **options):
    encoder = model.build_encoder(config, dataset, seed)
    result = model.train(encoder, dataset, seed=seed, **options)
    return encoder, result


@pytest.fixture(scope="module")
def three_epochs(tiny):
    return _train(tiny, max_epochs=3)


@pytest.mark.slow
def test_a_trained_encoder_finds_most_of_what_there_is_to_find(small):
    _, simulated, dataset = small
    config = {"core": {"channels": 12}, "training": {"min_steps": 120}}
    encoder, result = _train(dataset, config=config)
    test = dataset.trials("test")
    predicted = encoder.predict(
        dataset.images[dataset.image_index[test]],
        dataset.behavior[test],
        dataset.pupil_center[test],
    )
    ceiling = _correlation(dataset.responses[test], simulated.rates[test]).mean()
    reached = _correlation(dataset.responses[test], predicted).mean()
    assert reached > 0.5 * ceiling  # 300 images are a tenth of a recording
    assert result.validation_correlation == max(
        row["validation_correlation"] for row in result.history
    )
    gain = encoder.modulator(encoder.zscore_state("behavior", dataset.behavior[test], len(test)))
    r = _correlation(gain.detach().log().numpy(), simulated.log_gain[test])
    assert np.median(r) > 0.8


@pytest.mark.numerical
def test_same_seed_same_weights_and_another_seed_others(tiny, three_epochs):
    again, result = _train(tiny, max_epochs=3)
    for name, tensor in three_epochs[0].state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    other, _ = _train(tiny, seed=1, max_epochs=3)
    assert not torch.equal(other.readout.features, again.readout.features)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]


@pytest.mark.numerical
def test_one_or_two_threads_give_the_same_validation_curve(tiny, three_epochs):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        _, result = _train(tiny, max_epochs=3)
    finally:
        torch.set_num_threads(before)
    curves = [
        [row["validation_correlation"] for row in r.history] for r in (result, three_epochs[1])
    ]
    np.testing.assert_allclose(*curves, atol=1e-3)


@pytest.mark.numerical
def test_killed_in_any_epoch_it_resumes_to_the_same_weights(tiny, three_epochs, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    tiny.save(tmp_path / "data.npz")
    script = textwrap.dedent(
        """
        import os, signal, sys
        import torch
        from pipeline import dataset, model
        torch.set_num_threads(int(sys.argv[3]))
        data = dataset.load(sys.argv[1])
        config = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}
        def die(epoch, info):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        encoder = model.build_encoder(config, data, 0)
        model.train(encoder, data, seed=0, max_epochs=3, checkpoint=sys.argv[2], progress=die)
        """
    )
    threads = str(torch.get_num_threads())
    arguments = [sys.executable, "-c", script, tmp_path / "data.npz", path, threads]
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    killed = subprocess.run(arguments, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    encoder, result = _train(tiny, max_epochs=3, checkpoint=path)
    assert result.epochs == 3
    for name, tensor in three_epochs[0].state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], tensor, rtol=0, atol=0)
    # and a finished training is not repeated
    seen = []
    encoder, again = _train(
        tiny, max_epochs=3, checkpoint=path, progress=lambda epoch, info: seen.append(epoch)
    )
    assert seen == []
    assert again.validation_correlation == result.validation_correlation


@pytest.mark.numerical
def test_a_resumed_training_goes_through_its_plateaus_as_an_undisturbed_one(tiny, tmp_path):
    training = {"name": "plateau", "patience": 1, "decays": 3, "tolerance": 0.03}
    config = {**TINY, "training": training}
    whole, expected = _train(tiny, config=config, max_epochs=9)
    assert len({row["learning_rate"] for row in expected.history}) > 1
    path = tmp_path / "c.safetensors"

    class KilledError(Exception):
        pass

    def kill(epoch, info):
        raise KilledError

    for _ in range(expected.epochs):
        try:
            resumed, result = _train(
                tiny, config=config, max_epochs=9, checkpoint=path, progress=kill
            )
        except KilledError:
            continue
    resumed, result = _train(tiny, config=config, max_epochs=9, checkpoint=path)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
    curve = [row["validation_correlation"] for row in expected.history]
    assert [row["validation_correlation"] for row in result.history] == curve


def test_a_checkpoint_of_another_training_is_refused(tiny, tmp_path):
    path = tmp_path / "c.safetensors"
    _train(tiny, max_epochs=1, checkpoint=path)
    with pytest.raises(DataError, match="another training"):
        _train(tiny, seed=1, max_epochs=1, checkpoint=path)
    assert path.exists()


def test_a_damaged_checkpoint_is_put_aside_and_the_training_starts_anew(tiny, tmp_path, caplog):
    path = tmp_path / "c.safetensors"
    whole, _ = _train(tiny, max_epochs=2)
    _train(tiny, max_epochs=1, checkpoint=path)
    kept = path.read_bytes()
    flipped = bytearray(kept)
    flipped[-len(kept) // 4] ^= 1
    for content in (b"nothing", kept[: len(kept) // 2], bytes(flipped)):
        path.write_bytes(content)
        caplog.clear()
        anew, result = _train(tiny, max_epochs=2, checkpoint=path)
        assert "the training starts anew" in caplog.text
        assert (tmp_path / "c.safetensors.damaged").read_bytes() == content
        assert result.epochs == 2
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(anew.state_dict()[name], tensor, rtol=0, atol=0)
    caplog.clear()
    path.write_bytes(kept)
    _train(tiny, max_epochs=2, checkpoint=path)
    assert "anew" not in caplog.text


def test_training_ends_in_time_and_reports_progress(tiny):
    seen = []
    _, result = _train(tiny, max_seconds=0.0, progress=lambda e, info: seen.append((e, info)))
    assert result.epochs == 1
    epoch, info = seen[0]
    assert epoch == 1
    assert {"loss", "validation_correlation", "learning_rate", "seconds", "eta_s"} <= set(info)


def test_divergence_is_an_error_that_names_the_epoch(tiny):
    encoder = model.build_encoder(TINY, tiny)
    with torch.no_grad():
        encoder.readout.bias[0] = float("nan")
    with pytest.raises(DataError, match=r"diverged.*epoch 1"):
        model.train(encoder, tiny, max_epochs=1)


def test_nan_in_the_data_is_named_before_training(small):
    arguments = small[1].arguments()
    arguments["behavior"] = arguments["behavior"].copy()
    encoder = model.build_encoder(TINY, small[2])
    arguments["behavior"][5, 0] = np.nan
    with pytest.raises(DataError, match=r"behavior.*complete\(\)"):
        model.train(encoder, Dataset(**arguments))


def test_without_behavior_and_gaze_and_with_silent_units(small):
    arguments = small[1].arguments()
    arguments.update(behavior=None, pupil_center=None)
    arguments["responses"] = arguments["responses"].copy()
    arguments["responses"][:, 3] = 0.0
    arguments["responses"][:, 4] = 0.7
    dataset = Dataset(**arguments)
    encoder, result = _train(dataset, max_epochs=2)
    assert encoder.shifter is None
    assert encoder.modulator is None
    assert np.isfinite(result.validation_correlation)
    assert np.isfinite(encoder.predict(dataset.images[:5])).all()
    evaluation = model.evaluate(model.Ensemble([encoder]), dataset)
    assert np.isnan(evaluation.per_unit["single_trial"][[3, 4]]).all()
    assert evaluation.per_scan["n_units"] == 10


def test_a_transferred_core_stays_as_it_was(tiny, three_epochs):
    source = three_epochs[0]
    dataset = tiny.select(units=np.arange(5))
    encoder = model.transfer_core(source, dataset, seed=2)
    model.train(encoder, dataset, max_epochs=2)
    for name, tensor in source.core.state_dict().items():
        torch.testing.assert_close(encoder.core.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_test_tier_is_never_read(tiny, three_epochs):
    data = tiny.select(trials=np.arange(tiny.n_trials))
    data.responses[data.tiers == "test"] = 99.0
    encoder, _ = _train(data, max_epochs=3)
    for name, tensor in three_epochs[0].state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], tensor, rtol=0, atol=0)
