import pytest
import torch

from pipeline.model.cores import ConvBlock, cores
from pipeline.model.cores.contrast import USUAL, LocalContrast, scale_channels

FLOOR, SIGMA = 0.3, 3.0


def _spread(image, y, x):
    """Standard deviation under a Gaussian around a pixel, zeros beyond the image: plain loops."""
    total = mean = square = 0.0
    for dy in range(-6, 7):
        for dx in range(-6, 7):
            weight = torch.tensor(-(dy**2 + dx**2) / (2 * SIGMA**2)).exp()
            inside = 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]
            value = image[y + dy, x + dx] if inside else torch.zeros(())
            total, mean, square = total + weight, mean + weight * value, square + weight * value**2
    return (square / total - (mean / total) ** 2 + 1e-4).sqrt()


def test_the_gain_is_that_of_the_contrast_under_a_gaussian_at_every_step():
    torch.manual_seed(0)
    images = torch.randn(1, 1, 20, 24)
    gain = LocalContrast(13, 2, 4, SIGMA, FLOOR)(images)
    assert gain.shape == (1, 1, 8, 10)
    for row, column in [(0, 0), (3, 4), (7, 9)]:
        expected = (FLOOR + USUAL) / (
            FLOOR + _spread(images[0, 0], 2 * row + 2, 2 * column + 2)
        ) - 1
        torch.testing.assert_close(gain[0, 0, row, column], expected, rtol=1e-4, atol=1e-5)


def test_an_even_image_has_a_finite_gradient():
    images = torch.zeros(1, 1, 36, 64, requires_grad=True)
    LocalContrast(13, 2, 4, SIGMA, FLOOR)(images).sum().backward()
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize(("sigma_px", "floor"), [(0, 0.3), (3, 0)])
def test_a_window_without_width_or_a_floor_of_zero_is_refused(sigma_px, floor):
    with pytest.raises(ValueError, match="> 0"):
        LocalContrast(13, 2, 4, sigma_px, floor)


@pytest.mark.numerical
def test_a_strength_of_one_divides_by_the_contrast_and_a_folded_block_is_the_same():
    torch.manual_seed(1)
    core = cores["divisive"](channels=4, widen=2.0).eval()
    block, images = core.blocks[1], torch.randn(3, 1, 36, 64)
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        calm = core.contrast(images)
        plain = torch.nn.functional.conv2d(core.blocks[0](images), block.conv.weight, padding=1)
        block.strength.copy_(torch.tensor([0.0, 1.0] * 4))
        scaled = torch.where(block.strength[:, None, None] > 0, plain * (1 + calm), plain)
        expected = torch.nn.functional.elu(block.norm(scaled))
        torch.testing.assert_close(core(images), expected, rtol=1e-4, atol=1e-5)
        for each in core.blocks:
            each.fold()
        torch.testing.assert_close(core(images), expected, rtol=1e-3, atol=1e-4)


def test_more_contrast_leaves_less_of_a_divided_channel():
    gain = LocalContrast(13, 2, 4, SIGMA, FLOOR)
    torch.manual_seed(2)
    image = torch.randn(1, 1, 36, 64)
    assert (gain(0.1 * image) > 0).all()
    assert (gain(3 * image) < gain(0.1 * image)).all()


def test_separable_blocks_cannot_be_controlled():
    with pytest.raises(ValueError, match="separable"):
        ConvBlock(4, 4, 3, separable=True, controlled=True)


def test_the_gradient_of_scaled_channels_is_that_of_finite_differences():
    torch.manual_seed(3)
    shapes = [(2, 3, 4, 5), (2, 1, 4, 5), (3,)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(scale_channels, given)


def test_a_window_first_asked_for_in_inference_serves_a_training():
    contrast = LocalContrast(13, 2, 4, 2.25, FLOOR)  # no other test has this width
    images = torch.randn(1, 1, 36, 64)
    with torch.inference_mode():
        contrast(images)
    images.requires_grad_(True)
    contrast(images).sum().backward()
    assert images.grad.abs().max() > 0
