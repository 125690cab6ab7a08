import pytest
import torch

from pipeline.model.readouts.base import combine, sample
from pipeline.model.readouts.together import GROUP, read_together


def _one_by_one(features, place, weights, taps):
    size = torch.tensor([features.shape[3], features.shape[2]], dtype=place.dtype)
    total, number = 0.0, 0
    for y in range(taps):
        for x in range(taps):
            apart = 2 * (torch.tensor([x, y]) - (taps - 1) / 2) / size
            at = (place + apart).expand(len(features), -1, -1)
            own = weights[:, number * 4 : (number + 1) * 4]
            total, number = total + combine(sample(features, at), own), number + 1
    return total


@pytest.mark.parametrize("taps", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 7), (1, 6), (4, 1), (2, 3)])
@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.numerical
def test_reading_together_is_reading_one_by_one_and_so_are_its_gradients(size, crowd, taps):
    torch.manual_seed(0)
    features = torch.randn(3, 4, *size, dtype=torch.double, requires_grad=True)
    place = torch.rand(3 * GROUP, 2, dtype=torch.double) * 2.4 - 1.2  # some beyond the edge
    place = (0.02 * place if crowd else place).requires_grad_()  # more than a group at one pixel
    weights = torch.randn(len(place), 4 * taps**2, dtype=torch.double, requires_grad=True)
    inputs = (features, place, weights)
    together, alone = read_together(*inputs, taps), _one_by_one(*inputs, taps)
    torch.testing.assert_close(together, alone)
    upstream = torch.randn_like(alone)
    for ours, theirs in zip(
        torch.autograd.grad(together, inputs, upstream),
        torch.autograd.grad(alone, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
