"""What a core is, and the convolutional block that most of them are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.device import evaluating
from pipeline.registry import Registry

from .contrast import LocalContrast, scale_channels
from .image_conv import image_conv

cores = Registry("core")

GAZE_LEARNS_FROM = 8  # one training image in so many


class ConvBlock(nn.Module):
    """Convolution, batch norm, nonlinearity, average pool.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Odd size of the kernel (px).
    stride, pool : int
        Stride of the convolution; size of the non-overlapping average pool after it.
    padding : int, optional
        Width of the zeros around the input; default as much as keeps the size.
    linear : bool
        Leave the nonlinearity out.
    separable : bool
        One kernel per input channel, then a 1x1 convolution.
    momentum : float
        Of the running statistics of the batch norm.
    controlled : bool
        Scale what the convolution gives by the local contrast, each channel by a learned strength.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        pool: int = 1,
        padding: int | None = None,
        linear: bool = False,
        separable: bool = False,
        momentum: float = 0.1,
        controlled: bool = False,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernels must be odd, got {kernel}")
        if controlled and separable:
            raise ValueError("a separable block cannot be controlled")
        self.kernel, self.stride, self.pool, self.linear = kernel, stride, pool, linear
        self.outputs = outputs
        self.padding = kernel // 2 if padding is None else padding
        first = inputs if separable else outputs
        self.conv = nn.Conv2d(
            inputs, first, kernel, stride, bias=False, groups=inputs if separable else 1
        )
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False) if separable else None
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs, momentum=momentum)
        self.strength = nn.Parameter(_strengths(outputs)) if controlled else None
        nn.init.xavier_normal_(self.conv.weight)
        if self.mix is not None:
            nn.init.xavier_normal_(self.mix.weight)

    def forward(
        self, x: torch.Tensor, padding: int | None = None, calm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h', w'); `padding` overrides that of the block.

        `calm` is what `LocalContrast` says, (n, 1, h', w'); only a controlled block reads it. In
        training, images have the gradient of a sample (`image_conv`): evaluate to ask for theirs.
        """
        pad = self.padding if padding is None else padding
        bias = self.conv.bias if self.strength is None else None  # else it is added after
        if x.shape[1] == 1 and bias is None:
            one_in = GAZE_LEARNS_FROM if self.training else 1
            x = image_conv(x, self.conv.weight, self.stride, pad, one_in)
        else:
            x = F.conv2d(x, self.conv.weight, bias, self.stride, pad, 1, self.conv.groups)
        if self.strength is not None:
            if calm is None:
                raise ValueError("a controlled block needs the contrast")
            x = scale_channels(x, calm, self.strength)
            x = x if self.conv.bias is None else x + self.conv.bias[:, None, None]
        if self.mix is not None:
            # pixels in rows: a matrix product, a quarter faster than a 1x1 convolution
            mixed = F.linear(x.permute(0, 2, 3, 1), self.mix.weight[:, :, 0, 0], self.mix.bias)
            x = mixed.permute(0, 3, 1, 2)
        x = self.norm(x)
        if not self.linear:
            x = F.elu(x, inplace=True)
        return F.avg_pool2d(x, self.pool) if self.pool > 1 else x

    @property
    def bias(self) -> torch.Tensor:
        """The bias of a folded block, shape (outputs,)."""
        last = self.mix if self.mix is not None else self.conv
        if last.bias is None:
            raise ValueError("a block has no bias until it is folded")
        return last.bias

    def fold(self) -> None:
        """Fold the running statistics of the batch norm into the convolution before it."""
        if isinstance(self.norm, nn.Identity):
            return
        norm, last = self.norm, self.mix if self.mix is not None else self.conv
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("a batch norm without running statistics cannot be folded")
        with torch.no_grad():
            gain = norm.weight / (variance + norm.eps).sqrt()
            last.weight.mul_(gain[:, None, None, None])
            bias = norm.bias - mean * gain
            last.bias = nn.Parameter(bias, requires_grad=last.weight.requires_grad)
        self.norm = nn.Identity()


def _strengths(channels: int) -> torch.Tensor:
    """Return the strengths to start from: half of the channels from 1/8 to 1, the others 0."""
    index = torch.arange(channels)
    return torch.where(index % 2 == 1, (index // 2 % 8 + 1) / 8, torch.zeros(()))


class Core(nn.Module):
    """Base of all cores: (n, 1, h, w) to (n, channels, h', w').

    Attributes
    ----------
    channels : int
        Number of output channels.
    stride, offset : float
        Feature (i, j) is centered on pixel ``stride * (i, j) + offset`` of the image.
    contrast : LocalContrast or None
        What the last block of the chain is controlled by.
    """

    channels: int
    stride: int = 1
    offset: float = 0.0
    contrast: LocalContrast | None

    def __init__(self) -> None:
        super().__init__()
        self.contrast = None

    @property
    def chain(self) -> list[ConvBlock] | None:
        """The blocks if the core is a plain sequence of them, else None.

        Of such a core a feature can be computed from its receptive field alone.
        """
        return None

    def regulariser(self) -> torch.Tensor:
        """Penalty to add to the loss."""
        raise NotImplementedError

    def output_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the features of an image."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        with torch.no_grad(), evaluating(self):
            size = self(torch.zeros(1, 1, *shape, device=device)).shape[2:]
        return size[0], size[1]


class PlainCore(Core):
    """Any module as a core: where its features lie follows from their number.

    Parameters
    ----------
    module : Module
        Images (n, 1, h, w) to features (n, channels, h', w'). Its `regulariser`, if it has one, is
        added to the loss.
    shape : (int, int)
        Height and width of the images.

    Raises
    ------
    ValueError
        If it gives something else.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, int]) -> None:
        super().__init__()
        self.module = module
        with torch.no_grad(), evaluating(module):
            out = module(torch.zeros(2, 1, *shape))
        if not isinstance(out, torch.Tensor) or out.ndim != 4 or len(out) != 2:
            got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise ValueError(
                f"a core gives features (n, channels, h, w), {type(module).__name__} gave {got}"
            )
        self.channels = out.shape[1]
        self.stride = max(1, round(shape[0] / out.shape[2]))
        self.offset = (shape[0] - 1 - self.stride * (out.shape[2] - 1)) / 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images."""
        return self.module(images)

    def regulariser(self) -> torch.Tensor:
        """Penalty of the module, 0 if it has none."""
        own = getattr(self.module, "regulariser", None)
        return torch.zeros(()) if own is None else own()


def chain_geometry(chain: list[ConvBlock]) -> tuple[int, float]:
    """Return stride and offset of a sequence of blocks."""
    stride, offset = 1, 0.0
    for block in chain:
        offset += stride * ((block.kernel - 1) / 2 - block.padding)
        stride *= block.stride
        offset += stride * (block.pool - 1) / 2
        stride *= block.pool
    return stride, offset


def laplace_energy(weight: torch.Tensor, weighting: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared Laplacian of kernels (outputs, inputs, k, k), optionally weighted by place."""
    laplace = weight.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    flat = weight.reshape(-1, 1, *weight.shape[2:])
    square = F.conv2d(flat, laplace[None, None], padding=1) ** 2
    return (square if weighting is None else square * weighting).mean()


def group_sparsity(weight: torch.Tensor) -> torch.Tensor:
    """Mean L2 norm of the kernels (outputs, inputs, k, k)."""
    return (weight.square().sum((2, 3)) + 1e-12).sqrt().mean()
