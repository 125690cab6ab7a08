"""A training that a limit has ended goes on when the limit is moved, and only then."""

import numpy as np
import pytest

from pipeline.model import build_encoder, train, train_ensemble

CONFIG = {"core": {"channels": 4}, "training": {"epochs": 3, "min_steps": 1}}


def run(data, file, **limits):
    encoder = build_encoder(CONFIG, data, seed=1)
    return train(encoder, data, seed=1, checkpoint=file, device="cpu", **limits), encoder


def test_a_smoke_run_is_not_the_training(tiny, tmp_path):
    file = tmp_path / "w.safetensors"
    assert run(tiny, file, max_epochs=1)[0].epochs == 1
    assert run(tiny, file, max_epochs=1)[0].epochs == 1
    assert run(tiny, file, max_epochs=2)[0].epochs == 2
    assert run(tiny, file)[0].epochs == 3
    assert run(tiny, file)[0].epochs == 3  # finished
    assert run(tiny, file, max_epochs=1)[0].epochs == 3


def test_a_run_that_time_has_ended_goes_on_with_more_time(tiny, tmp_path):
    file = tmp_path / "w.safetensors"
    short = run(tiny, file, max_seconds=1e-6)[0]
    assert short.epochs < 3
    assert run(tiny, file, max_seconds=1e-6)[0].epochs == short.epochs
    assert run(tiny, file, max_seconds=1e6)[0].epochs == 3


def test_an_ensemble_is_its_members(tiny, tmp_path):
    seen = []
    made = train_ensemble(
        tiny,
        np.arange(2),
        config=CONFIG,
        checkpoints=tmp_path,
        progress=lambda member, epoch, info: seen.append((member, epoch)),
        device="cpu",
    )
    assert seen == [(m, e) for m in range(2) for e in range(1, 4)]
    encoder = build_encoder(CONFIG, tiny, seed=1)
    train(encoder, tiny, seed=1, device="cpu")
    np.testing.assert_array_equal(
        made.encoders[1].predict(tiny.images[:3]), encoder.predict(tiny.images[:3])
    )
    seen.clear()
    again = train_ensemble(
        tiny,
        (1,),
        config=CONFIG,
        checkpoints=tmp_path,
        progress=lambda *told: seen.append(told),
        device="cpu",
    )
    assert not seen  # found finished
    np.testing.assert_array_equal(
        again.predict(tiny.images[:3]), made.encoders[1].predict(tiny.images[:3])
    )


@pytest.mark.parametrize(
    ("seeds", "config"),
    [((), None), ((1, 1), None), ((1.5,), None), ((1, 2), [CONFIG])],
)
def test_seeds_that_make_no_ensemble(tiny, seeds, config):
    with pytest.raises(ValueError, match="seed"):
        train_ensemble(tiny, seeds, config=config)
