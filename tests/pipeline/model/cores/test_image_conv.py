import pytest
import torch
from torch.nn import functional as F

from pipeline.model.cores.image_conv import image_conv


@pytest.mark.parametrize(("stride", "padding"), [(1, 4), (2, 4), (3, 0)])
@pytest.mark.parametrize("size", [(18, 32), (13, 21)])
def test_convolution_of_images_that_move_is_conv2d_and_so_are_its_gradients(stride, padding, size):
    torch.manual_seed(0)
    images = torch.randn(4, 1, *size, dtype=torch.double, requires_grad=True)
    kernels = torch.randn(5, 1, 9, 9, dtype=torch.double, requires_grad=True)
    fast = image_conv(images, kernels, stride, padding)
    plain = F.conv2d(images, kernels, None, stride, padding)
    torch.testing.assert_close(fast, plain)
    upstream = torch.randn_like(plain)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (images, kernels), upstream),
        torch.autograd.grad(plain, (images, kernels), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_sample_of_the_images_has_the_gradient_of_all_on_average():
    torch.manual_seed(0)
    images, kernels = torch.randn(8, 1, 12, 16), torch.randn(3, 1, 5, 5)
    weights = torch.randn(8, 3, 6, 8)

    def gradients(one_in):
        x, k = images.clone().requires_grad_(), kernels.clone().requires_grad_()
        (image_conv(x, k, 2, 2, one_in) * weights).sum().backward()
        return x.grad, k.grad

    (full, of_kernels), (sampled, same) = gradients(1), gradients(4)
    torch.testing.assert_close(same, of_kernels)
    torch.testing.assert_close(sampled[::4], 4 * full[::4])
    rest = torch.arange(8) % 4 > 0
    assert not sampled[rest].any()
