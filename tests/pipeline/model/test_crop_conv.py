import pytest
import torch

from pipeline.model.cores import ConvBlock
from pipeline.model.crop_conv import first_block


@pytest.mark.parametrize(("linear", "stride"), [(False, 1), (True, 1), (False, 2), (False, 3)])
@pytest.mark.parametrize("size", [(13, 20), (24, 24), (29, 34)])
def test_first_layer_on_crops_is_the_block_and_so_is_its_gradient(linear, stride, size):
    torch.manual_seed(0)
    block = ConvBlock(1, 6, 9, stride=stride, pool=2 if stride == 1 else 1, linear=linear).eval()
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.5, 2)
    block.requires_grad_(False)
    block.fold()
    crops = torch.randn(5, 1, *size, requires_grad=True)
    fast, plain = first_block(block, crops), block(crops, padding=0)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(plain)
    ours, theirs = (torch.autograd.grad((f * weights).sum(), crops)[0] for f in (fast, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_block_that_still_learns_keeps_the_gradient_of_its_kernels():
    block = ConvBlock(1, 3, 5)
    first_block(block, torch.randn(2, 1, 9, 9)).sum().backward()
    assert block.conv.weight.grad is not None
