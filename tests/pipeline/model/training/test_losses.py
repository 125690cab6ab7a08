import pytest
import torch

from pipeline.model import paper_config
from pipeline.model.training.losses import losses


def gradient(loss, rate: float, response: float) -> float:
    x = torch.tensor([rate], dtype=torch.float64, requires_grad=True)
    loss(x, torch.tensor([response], dtype=torch.float64)).backward()
    return float(x.grad)


@pytest.mark.parametrize(("rate", "response"), [(0.03, 0.4), (1.2, 0.0), (5.0, -0.3)])
def test_errors_weigh_as_much_as_their_variance_allows(rate: float, response: float) -> None:
    loss = losses["quasi_poisson"](floor=0.2, gain_variance=0.3)
    expected = (rate - response) / (0.2 + rate + 0.3 * rate**2)
    assert gradient(loss, rate, response) == pytest.approx(expected)


def test_without_other_noise_the_gradient_is_that_of_poisson() -> None:
    quasi = losses["quasi_poisson"](floor=1e-12, gain_variance=0.0)
    for rate, response in ((0.1, 0.5), (2.0, 1.0)):
        expected = gradient(losses["poisson"](), rate, response)
        assert gradient(quasi, rate, response) == pytest.approx(expected, rel=1e-6)


def test_a_silent_prediction_keeps_the_loss_finite() -> None:
    quasi = losses["quasi_poisson"]()
    assert torch.isfinite(quasi(torch.zeros(3), torch.tensor([0.0, 4.0, -1.0])))


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"gain_variance": -0.1}])
def test_a_variance_that_can_vanish_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="floor"):
        losses["quasi_poisson"](**wrong)


def test_the_published_network_keeps_its_loss() -> None:
    assert paper_config()["loss"]["name"] == "poisson"
