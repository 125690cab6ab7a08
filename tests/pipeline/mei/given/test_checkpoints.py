"""What is kept of a synthesis is found again by the same call, and by no other."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.mei import synthesize
from pipeline.mei.given import code_digest

FAST = {"steps": 20, "candidates": 2, "scouts": 1}


class Readout(nn.Module):
    """A network of two readouts; which one answers is an attribute and no weight."""

    def __init__(self, network, scan):
        super().__init__()
        self.network, self.scan = network, scan

    def forward(self, images):
        rates = self.network(images)
        return rates[:, :2] if self.scan == "A" else rates[:, 2:]


@pytest.fixture
def how(toys, tmp_path):
    numbers = {"shape": (1, 24, 32), "mean": toys.MEAN, "sd": toys.SD, "norm": 6.0}
    return {**numbers, "params": FAST, "checkpoint": tmp_path / "kept"}


@pytest.fixture(scope="module")
def linear(toys):
    return toys.Linear(toys.gabor_filters(4))


def test_modules_of_the_same_weights_are_told_apart(linear, how):
    first = synthesize(Readout(linear, "A"), [0], **how)
    second = synthesize(Readout(linear, "B"), [0], **how)
    alone = synthesize(Readout(linear, "B"), [0], **{**how, "checkpoint": None})
    np.testing.assert_array_equal(second.images, alone.images)
    assert not np.array_equal(first.images, second.images)


def test_the_same_call_computes_nothing(linear, how):
    scale = Scale()
    with pytest.raises(ValueError, match="own objective: cannot tell whether a Scale"):
        synthesize(linear, [0], objective=lambda view, x: scale.of(view.rates(x)), **how)
    made = synthesize(linear, [0], objective="inhibition", **how)
    files = {file: file.stat().st_mtime_ns for file in how["checkpoint"].iterdir()}
    again = synthesize(linear, [0], objective="inhibition", **how)
    np.testing.assert_array_equal(made.images, again.images)
    assert files == {file: file.stat().st_mtime_ns for file in how["checkpoint"].iterdir()}


class Scale:
    """A thing that says nothing of itself."""

    def of(self, rates):
        return 2 * rates


def test_a_function_with_other_numbers_is_another(linear, how):
    def objective(sign):
        return lambda view, images: sign * view.rates(images)

    up = synthesize(linear, [0], objective=objective(1.0), **how)
    down = synthesize(linear, [0], objective=objective(-1.0), **how)
    assert up.activations[0] > down.activations[0]
    again = synthesize(linear, [0], objective=objective(1.0), **how)
    np.testing.assert_array_equal(up.images, again.images)


def test_a_damaged_file_is_computed_anew(linear, how):
    made = synthesize(linear, [0], **how)
    for file in how["checkpoint"].iterdir():
        file.write_bytes(file.read_bytes()[:100])
    again = synthesize(linear, [0], **how)
    np.testing.assert_array_equal(made.images, again.images)


LEVEL = 2.0


def test_digests_of_functions():
    weights = np.arange(3.0)

    def one(x, scale=1.0):
        return [scale * value * LEVEL for value in weights] + [torch.ones(1)]

    before = code_digest(one)
    assert code_digest(one) == before
    weights[0] = 5
    assert code_digest(one) != before
    weights[0] = 0
    assert code_digest(one) == before
    one.__defaults__ = (2.0,)
    assert code_digest(one) != before

    def again(x):
        return again(x - 1) if x else 0

    assert code_digest(again) == code_digest(again)
