"""Sums over the bins of pixels, in compiled loops: where cells are looked for, time goes here."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
BLOCK = 1024  # bins at a time: two rows of pixels stay in the processor's cache


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def add_footprint(values, sums, top, left, footprint, trace):
    """Add `footprint`, (h, w), times `trace` to values, (H, W, bins), at row `top`, column `left`.

    `sums`, (H, W), follow.
    """
    total = np.float64(0)
    for value in trace:
        total += value
    for y in range(footprint.shape[0]):
        for x in range(footprint.shape[1]):
            weight = footprint[y, x]
            if weight != 0:
                pixel = values[top + y, left + x]
                for t in range(trace.size):
                    pixel[t] += weight * trace[t]
                sums[top + y, left + x] += weight * total


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def project(values, top, left, weight):
    """Return the sum of pixels times `weight`, (h, w), for every bin."""
    out = np.zeros(values.shape[2], np.float32)
    for y in range(weight.shape[0]):
        for x in range(weight.shape[1]):
            share = weight[y, x]
            if share != 0:
                pixel = values[top + y, left + x]
                for t in range(out.size):
                    out[t] += share * pixel[t]
    return out


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def respond(values, sums, top, left, wanted, where, height):
    """Return every pixel's sum over the bins `where` times `height`, less its mean share.

    With transients that are `height` in those bins and zero elsewhere, less their mean over all
    bins, this is the product of pixel and transients. Shape of `wanted`; 0 where that is False.
    """
    out = np.zeros(wanted.shape, np.float32)
    level = np.float64(0)
    for value in height:
        level += value
    level /= values.shape[2]
    for y in range(wanted.shape[0]):
        for x in range(wanted.shape[1]):
            if wanted[y, x]:
                pixel = values[top + y, left + x]
                total = np.float32(0)
                for i in range(where.size):
                    total += pixel[where[i]] * height[i]
                out[y, x] = total - level * sums[top + y, left + x]
    return out


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _products(values, squares, products):
    height, width, bins = values.shape
    for start in range(0, bins, BLOCK):
        stop = min(start + BLOCK, bins)
        for y in range(height):
            for x in range(width):
                pixel = values[y, x, start:stop]
                own = np.float32(0)
                for t in range(pixel.size):
                    own += pixel[t] * pixel[t]
                squares[y, x] += own
                for k in range(4):
                    down, right = (0, 1) if k == 0 else (1, 0) if k == 1 else (1, 5 - 2 * k)
                    if y + down < height and 0 <= x + right < width:
                        other = values[y + down, x + right, start:stop]
                        both = np.float32(0)
                        for t in range(pixel.size):
                            both += pixel[t] * other[t]
                        products[k, y, x] += both


def correlate_neighbors(
    values: NDArray[np.float32], sums: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return each pixel's mean correlation with its eight neighbors, 0 where it never varies.

    Parameters
    ----------
    values : array, shape (H, W, bins)
        Near zero: the mean is taken out afterwards.
    sums : array, shape (H, W)
        Of the values over the bins.
    """
    height, width, bins = values.shape
    squares, products = np.zeros((height, width)), np.zeros((len(STEPS), height, width))
    _products(values, squares, products)
    mean = sums / bins
    variance = np.maximum(squares / bins - mean**2, 0)
    total, pairs = np.zeros((height, width)), np.zeros((height, width))
    for (down, right), product in zip(STEPS, products, strict=True):
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width - max(0, -right)]
        scale = np.sqrt(variance[here] * variance[there])
        covariance = product[here] / bins - mean[here] * mean[there]
        value = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12)
        for place in (here, there):
            total[place] += value
            pairs[place] += 1
    return (total / np.maximum(pairs, 1)).astype(np.float32)
