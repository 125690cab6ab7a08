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
