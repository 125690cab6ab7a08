"""Reading a few features per unit, as few matrix products for all units and images.

`grid_sample` fetches every channel of every image at every unit's place, and what it fetched is
weighed and thrown away. If the places are the same in all images, the order can be changed: the
units that read a feature pixel are gathered there, so that features of a pixel (images, channels)
times weights (channels, those units) is one small matrix product, and only numbers are moved
about. A third of the time at 1,000 units, a sixth at 5,000 (CPU, forward and backward).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GROUP = 32  # units of one product, or a multiple of it if pixels are crowded


@dataclass(frozen=True)
class Windows:
    """The square of pixels that each unit reads from, and the shares of its taps in them.

    Taps lie one pixel apart around the place; each is interpolated between the two pixels about
    it, along both axes. A tap beyond the edge of the map reads the edge.

    Attributes
    ----------
    first : long tensor, shape (2, units)
        First row and column of the window.
    share_y, share_x : tensor, shape (taps, taps + 1, units)
        Of each tap in each row and column of the window; together they weigh 1.
    """

    first: torch.Tensor
    share_y: torch.Tensor
    share_x: torch.Tensor

    @classmethod
    def around(cls, place: torch.Tensor, size: tuple[int, int], taps: int) -> Windows:
        """Find the windows of places (units, 2), (x, y) in -1..1, on a map of (height, width)."""
        axes = [_along(place[:, 1 - axis], size[axis], taps) for axis in (0, 1)]
        (row, share_y), (column, share_x) = axes
        return cls(torch.stack([row, column]), share_y, share_x)

    def weigh(self, weights: torch.Tensor) -> torch.Tensor:
        """Return what each pixel of the windows weighs, shape (units, rows, columns, channels).

        Parameters
        ----------
        weights : tensor, shape (units, taps * taps * channels)
            Of the taps, row by row.
        """
        taps = len(self.share_y)
        share_y = self.share_y.permute(2, 1, 0)[:, :, None, :, None]  # (units, rows, 1, taps, 1)
        share_x = self.share_x.permute(2, 1, 0)[:, None, :, None, :]
        share = (share_y * share_x).view(len(weights), (taps + 1) ** 2, taps**2)
        weighed = torch.bmm(share, weights.view(len(weights), taps**2, -1))
        return weighed.view(len(weights), taps + 1, taps + 1, -1)


def _along(at: torch.Tensor, n: int, taps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return first pixel (units,) and shares (taps, taps + 1, units) along one axis."""
    offset = torch.arange(taps, device=at.device, dtype=at.dtype) - (taps - 1) / 2
    position = ((at + 1) / 2 * n - 0.5 + offset[:, None]).clamp(0, n - 1)
    low = position.detach().floor().clamp_max(max(n - 2, 0))
    beyond = position - low
    start = low[0].clamp_max(max(n - taps - 1, 0))
    pixel = torch.arange(taps + 1, device=at.device)[None, :, None]
    local = (low - start).long()[:, None]
    share = torch.where(pixel == local, 1 - beyond[:, None], 0.0)
    return start.long(), torch.where(pixel == local + 1, beyond[:, None], share)


def read_together(
    features: torch.Tensor, place: torch.Tensor, weights: torch.Tensor, taps: int = 1
) -> torch.Tensor:
    """Read features around places that are the same in all images, and weigh the channels.

    Equal to `grid_sample` with border padding, then a weighted sum, up to rounding.

    Parameters
    ----------
    features : tensor, shape (n, channels, h, w)
        Fastest in channels_last.
    place : tensor, shape (units, 2)
        (x, y) in -1..1, the edges of the map at -1 and 1.
    weights : tensor, shape (units, taps * taps * channels)
        Of the taps, row by row.
    taps : int
        Along each axis, one pixel apart, centered on the place.

    Returns
    -------
    tensor, shape (n, units)
    """
    channels, height, width = features.shape[1:]
    units, pixels = len(place), height * width
    windows = Windows.around(place, (height, width), taps)
    span = torch.arange(taps + 1, device=place.device)
    row = (windows.first[0][:, None] + span).clamp_max(height - 1)
    column = (windows.first[1][:, None] + span).clamp_max(width - 1)
    pixel = (row[:, :, None] * width + column[:, None, :]).flatten()
    group = GROUP * max(1, round(len(pixel) / pixels / GROUP))
    slot, repeated = _groups(pixel, pixels, group)
    # an empty slot reads as the first one does, for a unit that there is not
    slots = (pixels + len(repeated)) * group
    reader, unit = slot.new_zeros(slots), slot.new_full((slots,), units)
    readings = torch.arange(len(pixel), device=slot.device)
    reader[slot], unit[slot] = readings, readings // (taps + 1) ** 2
    read_by = windows.weigh(weights).view(-1, channels)
    weight = _Placed.apply(read_by, reader, slot).view(-1, group, channels)
    flat = features.permute(2, 3, 0, 1).flatten(0, 1)  # (pixels, n, channels)
    dots = _Dots.apply(weight, flat, repeated)
    return _Sums.apply(dots.flatten(0, 1), slot.view(units, -1), unit).T


def _groups(pixel: torch.Tensor, pixels: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give every reading a slot in a group: the first of each pixel in order, then followers.

    Returns the slots, and the pixels of the groups that follow.
    """
    count = torch.bincount(pixel, minlength=pixels)
    more = (count - 1).clamp_min(0) // group
    order = torch.argsort(pixel, stable=True)
    at = pixel[order]
    rank = torch.arange(len(pixel), device=pixel.device) - (count.cumsum(0) - count)[at]
    follower = pixels + (more.cumsum(0) - more)[at] + rank // group - 1
    slot = torch.empty_like(pixel)
    slot[order] = torch.where(rank < group, at, follower) * group + rank % group
    return slot, torch.repeat_interleave(torch.arange(pixels, device=pixel.device), more)


class _Placed(torch.autograd.Function):
    """``x[reader]``, where x[i] is wanted at ``slot[i]`` only: no gradient comes from elsewhere."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, reader: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slot)
        return x.index_select(0, reader)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return gradient.index_select(0, slot), None, None


class _Sums(torch.autograd.Function):
    """Sums over each unit's slots, shape (units, n); `unit` says whose slot it is, if anybody's."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, slots: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(unit)
        return x.index_select(0, slots.flatten()).view(*slots.shape, -1).sum(1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (unit,) = ctx.saved_tensors
        nobody = gradient.new_zeros(1, gradient.shape[1])
        return torch.cat([gradient, nobody]).index_select(0, unit), None, None


class _Dots(torch.autograd.Function):
    """``weight @ features.mT``: a group for each pixel, then groups of the pixels `repeated`.

    The features' gradient comes in channels_last, and is written once: what repeated pixels add
    goes where the first groups have written.
    """

    @staticmethod
    def forward(
        ctx, weight: torch.Tensor, features: torch.Tensor, repeated: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, features, repeated)
        pixels, n, _ = features.shape
        dots = weight.new_empty(*weight.shape[:2], n)
        torch.bmm(weight[:pixels], features.mT, out=dots[:pixels])
        torch.bmm(weight[pixels:], features[repeated].mT, out=dots[pixels:])
        return dots

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        weight, features, repeated = ctx.saved_tensors
        pixels, n, channels = features.shape
        of_features = features.new_empty(n, pixels, channels).transpose(0, 1)
        torch.bmm(gradient[:pixels].mT, weight[:pixels], out=of_features)
        of_features.index_add_(0, repeated, torch.bmm(gradient[pixels:].mT, weight[pixels:]))
        of_weight = torch.empty_like(weight)
        torch.bmm(gradient[:pixels], features, out=of_weight[:pixels])
        torch.bmm(gradient[pixels:], features[repeated], out=of_weight[pixels:])
        return of_weight, of_features, None
