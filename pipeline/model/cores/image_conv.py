"""Convolution of one channel whose images have a gradient: that of the gaze that moved them.

A convolution of one channel gives a general kernel nothing to vectorise over, its gradient least of
all. A tile of eight outputs in a row sees ``kernel x (kernel + 7 stride)`` pixels: as one matrix
product the gradient is twice the arithmetic and takes a third of the time.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

TILE = 8


def image_conv(
    images: torch.Tensor, kernels: torch.Tensor, stride: int, padding: int, one_in: int = 1
) -> torch.Tensor:
    """Convolve images (n, 1, h, w) with kernels (outputs, 1, k, k), as `conv2d` up to rounding.

    With `one_in` above 1 only one image in so many has a gradient, as many times as large: over
    shuffled images its expectation is that of all. The few weights of a shifter learn as much from
    a sample, and the gradient of all the images is a sixth of a training step on a CPU.
    """
    if not images.requires_grad:
        return F.conv2d(images, kernels, None, stride, padding)
    return _ImageConv.apply(images, kernels, stride, padding, one_in)


class _ImageConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, images: torch.Tensor, kernels: torch.Tensor, stride: int, padding: int, one_in: int
    ) -> torch.Tensor:
        ctx.save_for_backward(images, kernels)
        ctx.stride, ctx.padding, ctx.one_in = stride, padding, one_in
        return F.conv2d(images, kernels, None, stride, padding)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, kernels = ctx.saved_tensors
        stride, pad = ctx.stride, ctx.padding
        conv = torch.ops.aten.convolution_backward
        where = [None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1]
        of_images = of_kernels = None
        if ctx.needs_input_grad[0]:
            some = slice(None, None, ctx.one_in)
            if images.device.type == "cpu":
                h, w = (length + 2 * pad for length in images.shape[2:])
                padded = _image_gradient(gradient[some], kernels[:, 0], stride, h, w)
                of_images = padded[:, None, pad : h - pad, pad : w - pad]
            else:
                wanted = [True, False, False]
                of_images = conv(gradient[some], images[some], kernels, *where, wanted)[0]
            if ctx.one_in > 1:
                sampled = of_images * ctx.one_in
                of_images = torch.zeros_like(images)
                of_images[some] = sampled
        if ctx.needs_input_grad[1]:
            of_kernels = conv(gradient, images, kernels, *where, [False, True, False])[1]
        return of_images, of_kernels, None, None, None


def _image_gradient(
    gradient: torch.Tensor, kernels: torch.Tensor, stride: int, h: int, w: int
) -> torch.Tensor:
    """Return the gradient (n, h, w) of images without padding; `gradient` is (n, outputs, ...)."""
    n, outputs, rows, columns = gradient.shape
    tiles, k = -(-columns // TILE), kernels.shape[1]
    flat = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, tiles * TILE - columns))
    seen = flat.reshape(-1, TILE * outputs) @ _tile_matrix(kernels, stride)
    seen = seen.view(n, rows, tiles, k, -1)
    span = seen.shape[4]
    out = seen.new_zeros(n, h, max(w, (tiles - 1) * TILE * stride + span))
    for tile in range(tiles):
        left = tile * TILE * stride
        for row in range(k):
            last = row + (rows - 1) * stride + 1
            out[:, row:last:stride, left : left + span] += seen[:, :, tile, row]
    return out[:, :, :w]


def _tile_matrix(kernels: torch.Tensor, stride: int) -> torch.Tensor:
    """Return (TILE * outputs, k * span): from a tile's outputs to the pixels that it sees."""
    outputs, k, _ = kernels.shape
    span = k + (TILE - 1) * stride
    matrix = kernels.new_zeros(TILE, outputs, k, span)
    for place in range(TILE):
        matrix[place, :, :, place * stride : place * stride + k] = kernels
    return matrix.reshape(TILE * outputs, k * span)
