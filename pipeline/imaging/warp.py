"""Resample a frame along a smooth displacement field."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def warp_frame(
    frame: NDArray[np.float32],
    field_y: NDArray[np.float32],
    field_x: NDArray[np.float32],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the frame read at every pixel's place plus its displacement; edges are replicated.

    The cubic kernel is that of `movie.shift_frame` (Keys, a = -0.5), so that rigid and piecewise
    corrections leave the same noise and can be compared; OpenCV's (a = -0.75) leaves more.

    Parameters
    ----------
    frame : array, shape (H, W)
    field_y, field_x : array, shape (H, W)
        Displacement of the content (px).
    out : array, shape (H, W), optional
        Where to write.
    """
    out = np.empty_like(frame) if out is None else out
    width = frame.shape[1]
    edges, share = np.arange(width + 1), np.zeros(width, np.float32)
    _warp(frame, field_y, field_x, edges, share, out)
    return out


class Columns:
    """Linear interpolation between nodes along the columns of a frame.

    Outside the outermost nodes the value of the nearest one holds.

    Parameters
    ----------
    nodes : array, shape (nodes,)
        Their columns (px), rising.
    width : int
        Columns of the frame.
    """

    def __init__(self, nodes: NDArray, width: int) -> None:
        nodes, columns = np.asarray(nodes, float), np.arange(width)
        last = max(len(nodes) - 2, 0)
        left = np.clip(np.searchsorted(nodes, columns, side="right") - 1, 0, last)
        self.edges = np.searchsorted(left, np.arange(last + 2)).astype(np.int64)
        right = np.minimum(left + 1, len(nodes) - 1)
        gap = np.where(right > left, nodes[right] - nodes[left], 1.0)
        share = np.where(right > left, (columns - nodes[left]) / gap, 0.0)
        self.share = np.clip(share, 0, 1).astype(np.float32)


def warp_between(
    frame: NDArray[np.float32],
    node_y: NDArray[np.float32],
    node_x: NDArray[np.float32],
    columns: Columns,
    out: NDArray[np.float32],
) -> None:
    """Write a frame, resampled as by `warp_frame`, along displacements given at some columns.

    Parameters
    ----------
    frame, out : array, shape (H, W)
    node_y, node_x : array, shape (H, nodes)
        Displacement of the content (px).
    columns : Columns
    """
    _warp(frame, node_y, node_x, columns.edges, columns.share, out)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _between(nodes, edges, share, out):
    for k in range(len(edges) - 1):
        left, step = nodes[k], nodes[min(k + 1, len(nodes) - 1)] - nodes[k]
        for column in range(edges[k], edges[k + 1]):
            out[column] = left + step * share[column]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _warp(frame, node_y, node_x, edges, share, out):
    """Neighboring pixels mostly read neighboring samples: such runs are vector instructions."""
    height, width = frame.shape
    y, x = np.empty(width, np.float32), np.empty(width, np.float32)
    whole_y, whole_x = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(height):
        _between(node_y[row], edges, share, y)
        _between(node_x[row], edges, share, x)
        for column in range(width):
            y[column] += np.float32(row)
            x[column] += np.float32(column)
            whole_y[column] = np.int32(np.floor(y[column]))
            whole_x[column] = np.int32(np.floor(x[column])) - np.int32(column)
        start = 0
        while start < width:
            iy, ahead = whole_y[start], whole_x[start]
            stop = start + 1
            while stop < width and whole_y[stop] == iy and whole_x[stop] == ahead:
                stop += 1
            # samples of columns first..last-1 all lie inside of the frame
            first, last = max(start, 1 - ahead), min(stop, width - 2 - ahead)
            if not 1 <= iy < height - 2 or first >= last:
                first = last = start
            _edge(frame, y, x, iy, ahead, start, first, out[row])
            if last > first:
                wide = last - first + 3
                left = first + ahead - 1
                _inner(
                    frame[iy - 1, left : left + wide],
                    frame[iy, left : left + wide],
                    frame[iy + 1, left : left + wide],
                    frame[iy + 2, left : left + wide],
                    y[first:last],
                    x[first:last],
                    np.float32(iy),
                    np.float32(first + ahead),
                    out[row, first:last],
                )
            _edge(frame, y, x, iy, ahead, last, stop, out[row])
            start = stop


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, inline="always")
def _taps(t):
    half, one = np.float32(0.5), np.float32(1)
    two, five, three = np.float32(2), np.float32(2.5), np.float32(1.5)
    return (
        ((-half * t + one) * t - half) * t,
        (three * t - five) * t * t + one,
        ((-three * t + two) * t + half) * t,
        (half * t - half) * t * t,
    )


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _inner(above, here, below, under, y, x, whole_y, whole_x, out):
    for i in range(out.size):
        a0, a1, a2, a3 = _taps(y[i] - whole_y)
        b0, b1, b2, b3 = _taps(x[i] - (whole_x + np.float32(i)))
        r0 = b0 * above[i] + b1 * above[i + 1] + b2 * above[i + 2] + b3 * above[i + 3]
        r1 = b0 * here[i] + b1 * here[i + 1] + b2 * here[i + 2] + b3 * here[i + 3]
        r2 = b0 * below[i] + b1 * below[i + 1] + b2 * below[i + 2] + b3 * below[i + 3]
        r3 = b0 * under[i] + b1 * under[i + 1] + b2 * under[i + 2] + b3 * under[i + 3]
        out[i] = a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _edge(frame, y, x, iy, ahead, start, stop, out):
    height, width = frame.shape
    for column in range(start, stop):
        ix = column + ahead
        down, across = _taps(y[column] - np.float32(iy)), _taps(x[column] - np.float32(ix))
        total = np.float32(0)
        for i in range(4):
            at_y = min(max(iy - 1 + i, 0), height - 1)
            for j in range(4):
                at_x = min(max(ix - 1 + j, 0), width - 1)
                total += down[i] * across[j] * frame[at_y, at_x]
        out[column] = total
