import pytest
import torch

from pipeline.model.cores import ConvBlock
from pipeline.model.cores.contrast import LocalContrast
from pipeline.model.frozen.crop_chain import CropChain

CHAINS = {  # kernels, strides, pools, linear
    "strided": ([13, 3, 3], [2, 1, 1], [1, 1, 1], [False] * 3),
    "pooled": ([9, 5, 3], [1, 1, 1], [2, 1, 1], [False] * 3),
    "linear": ([17], [2], [1], [True]),
    "strides everywhere": ([7, 3, 5], [3, 2, 1], [1, 1, 3], [False, True, False]),
}


CONTRAST = LocalContrast(13, 2, 4, 3.0, 0.3)


def _blocks(kernels, strides, pools, linear, seed=0, *, controlled=False):
    torch.manual_seed(seed)
    blocks, inputs = [], 1
    for outputs, kernel, stride, pool, plain in zip(
        (6, 8, 5), kernels, strides, pools, linear, strict=False
    ):
        last = controlled and len(blocks) == len(kernels) - 1
        options = {"stride": stride, "pool": pool, "linear": plain, "controlled": last}
        block = ConvBlock(inputs, outputs, kernel, **options).eval()
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2)
        block.requires_grad_(False)
        block.fold()
        blocks.append(block)
        inputs = outputs
    return blocks


def _lengths(blocks, last):
    lengths = [last]
    for block in reversed(blocks):
        lengths.insert(0, (lengths[0] * block.pool - 1) * block.stride + block.kernel)
    return lengths


CASES = [(chain, None) for chain in CHAINS.values()] + [(CHAINS["strided"], CONTRAST)]


@pytest.mark.parametrize("last", [1, 2, 3])
@pytest.mark.parametrize(("chain", "contrast"), CASES, ids=[*CHAINS, "divisive"])
@pytest.mark.numerical
def test_matrix_products_are_the_blocks_of_each_member_and_so_is_the_gradient(
    chain, contrast, last
):
    controlled = contrast is not None
    members = [_blocks(*chain, seed, controlled=controlled) for seed in (0, 1)]
    lengths = _lengths(members[0], last)
    windows = torch.randn(2, 7, 1, lengths[0], lengths[0], requires_grad=True)
    inside = [(torch.rand(2, 7, 1, n, n) > 0.2).float() for n in lengths[1:-1]]
    weights, expected = [], []
    for member, blocks in enumerate(members):
        x = windows[member]
        calm = contrast(x)[:, :, 4:-4, 4:-4] if controlled else None  # what padding added
        for block, mask in zip(blocks, [None, *inside], strict=True):
            x = block(x if mask is None else x * mask[member], padding=0, calm=calm)
        weights.append(torch.randn_like(x))
        expected.append((x * weights[-1]).sum((1, 2, 3)))
    expected = torch.stack(expected)
    (slope,) = torch.autograd.grad(expected.sum(), windows)

    layout, pixels = (0, 3, 1, 4, 2), (0, 3, 4, 2, 1)
    sums, gradient = CropChain(members, lengths, contrast)(
        windows.detach().permute(pixels),
        [mask.permute(layout) for mask in inside],
        torch.stack(weights).detach().permute(layout),
        slope=True,
    )
    torch.testing.assert_close(sums, expected.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient, slope.permute(pixels), rtol=1e-4, atol=1e-4)


def test_blocks_that_learn_are_separable_or_unlike_are_not_for_it():
    strided, pooled = _blocks(*CHAINS["strided"]), _blocks(*CHAINS["pooled"])
    assert CropChain.possible([strided, strided])
    assert not CropChain.possible([strided, pooled])
    assert not CropChain.possible([[ConvBlock(1, 3, 5)]])
    divisive = _blocks(*CHAINS["strided"], controlled=True)
    assert CropChain.possible([divisive, divisive], [CONTRAST, CONTRAST])
    assert not CropChain.possible([divisive, divisive])
    assert not CropChain.possible([divisive, strided], [CONTRAST, None])
    wider = LocalContrast(13, 2, 4, 4.0, 0.3)
    assert not CropChain.possible([divisive, divisive], [CONTRAST, wider])
    separable = ConvBlock(4, 3, 5, separable=True).eval().requires_grad_(False)
    separable.fold()
    assert not CropChain.possible([[separable]])
