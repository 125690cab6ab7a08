import numpy as np
import pytest
import torch

from pipeline.device import pick_device
from pipeline.errors import DataError
from pipeline.rng import derive_seed, generator, torch_generator


def test_an_error_is_one_line_with_all_its_parts():
    error = DataError(
        "frame rate out of\nrange",
        file="a/recording.json",
        field="fps",
        found=-1,
        expected="> 0",
        remedy="give the frame rate of the scan",
    )
    assert str(error) == (
        "a/recording.json: fps: frame rate out of range; found -1; expected > 0; "
        "give the frame rate of the scan"
    )


@pytest.mark.numerical
def test_streams_are_repeatable_and_independent_of_each_other():
    np.testing.assert_array_equal(
        generator(1, "a").normal(size=5), generator(1, "a").normal(size=5)
    )
    streams = [
        generator(s, *names).normal(size=4000) for s, names in [(1, "a"), (1, "b"), (2, "a")]
    ]
    assert np.abs(np.corrcoef(streams) - np.eye(3)).max() < 4 / np.sqrt(4000)
    assert derive_seed(1, "ab") != derive_seed(1, "a", "b")


@pytest.mark.numerical
def test_torch_streams_follow_the_same_names():
    draw = [torch.randn(3, generator=torch_generator(7, "x")) for _ in range(2)]
    assert torch.equal(*draw)


def test_device_is_named_in_one_place(monkeypatch):
    monkeypatch.setenv("INCEPTION_DEVICE", "cpu")
    assert pick_device().type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no CUDA"):
            pick_device("cuda")
