import pytest
import torch

from pipeline.model.readouts.base import combine, sample
from pipeline.model.readouts.together import GROUP, read_together


def _one_by_one(features, place, weights):
    return combine(sample(features, place.expand(len(features), -1, -1)), weights)


@pytest.mark.parametrize("size", [(5, 7), (1, 6), (4, 1)])
@pytest.mark.parametrize("crowd", [False, True])
def test_reading_together_is_reading_one_by_one_and_so_are_its_gradients(size, crowd):
    torch.manual_seed(0)
    features = torch.randn(3, 4, *size, dtype=torch.double, requires_grad=True)
    place = torch.rand(3 * GROUP, 2, dtype=torch.double) * 2.4 - 1.2  # some beyond the edge
    place = (0.02 * place if crowd else place).requires_grad_()  # more than a group at one pixel
    weights = torch.randn(len(place), 4, dtype=torch.double, requires_grad=True)
    inputs = (features, place, weights)
    together, alone = read_together(*inputs), _one_by_one(*inputs)
    torch.testing.assert_close(together, alone)
    upstream = torch.randn_like(alone)
    for ours, theirs in zip(
        torch.autograd.grad(together, inputs, upstream),
        torch.autograd.grad(alone, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
