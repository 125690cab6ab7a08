import pytest
import torch
from torch import nn

from pipeline.model.training.averaging import WeightAverage


def test_the_average_is_the_recursion_written_out():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2, bias=False)
    average, expected = WeightAverage(layer, 0.2), torch.zeros(2, 3)
    for step in range(50):
        layer.weight.data.add_(torch.randn(2, 3))
        average.update()
        share = 1 / (1 + step / 5)  # the first step counts whole: what was before is forgotten
        expected = (1 - share) * expected + share * layer.weight.detach()
    torch.testing.assert_close(average.mean["weight"], expected)


@pytest.mark.parametrize(
    ("over", "last", "mean"),
    [
        (1.0, 100, pytest.approx(50)),  # over all steps: their plain mean
        # over a tenth: weights of power 9 in time, whose mean is at 10 / 11 of the way
        (0.1, 1000, pytest.approx(1000 * 10 / 11, rel=0.01)),
    ],
)
def test_it_is_about_the_latest_share_of_the_steps(over, last, mean):
    layer = nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, over)
    for value in range(last + 1):
        layer.weight.data.fill_(value)
        average.update()
    assert float(average.mean["weight"]) == mean


@pytest.mark.parametrize("over", [0.0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(over):
    with pytest.raises(ValueError, match=str(over)):
        WeightAverage(nn.Linear(1, 1), over)


def test_applied_lends_the_mean_and_gives_the_weights_back_whatever_happens():
    layer = nn.BatchNorm1d(2)
    average = WeightAverage(layer, 0.1)
    for _ in range(3):
        layer(torch.randn(8, 2) + 5)
        average.update()
    now = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    mean = average.mean["running_mean"].clone()
    assert not torch.equal(layer.running_mean, mean)

    def interrupted():
        with average.applied():
            torch.testing.assert_close(layer.running_mean, mean, rtol=0, atol=0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, now[name], rtol=0, atol=0)
    torch.testing.assert_close(average.mean["running_mean"], mean, rtol=0, atol=0)


def test_weights_that_members_share_are_averaged_once():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2, bias=False)
    both = WeightAverage(nn.ModuleList([layer, layer]), 0.5)
    alone = WeightAverage(layer, 0.5)
    for _ in range(5):
        layer.weight.data.add_(1)  # in place: both hold this very tensor
        both.update()
        alone.update()
    (mean,) = both.mean.values()
    torch.testing.assert_close(mean, alone.mean["weight"])
