"""Resample a frame along a smooth displacement field."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def warp_frame(
    frame: NDArray[np.float32], field_y: NDArray[np.float32], field_x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the frame read at every pixel's place plus its displacement; edges are replicated.

    The cubic kernel is that of `movie.shift_frame` (Keys, a = -0.5), so that rigid and piecewise
    corrections leave the same noise and can be compared; OpenCV's (a = -0.75) leaves more.

    Parameters
    ----------
    frame : array, shape (H, W)
    field_y, field_x : array, shape (H, W)
        Displacement of the content (px).
    """
    out = np.empty_like(frame)
    _warp(frame, field_y, field_x, out)
    return out


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _warp(frame, field_y, field_x, out):
    height, width = frame.shape
    half, one = np.float32(0.5), np.float32(1)
    two, five, three = np.float32(2), np.float32(2.5), np.float32(1.5)
    for row in range(height):
        for column in range(width):
            y = np.float32(row) + field_y[row, column]
            x = np.float32(column) + field_x[row, column]
            iy, ix = int(np.floor(y)), int(np.floor(x))
            t, u = y - np.float32(iy), x - np.float32(ix)
            a0, a1 = ((-half * t + one) * t - half) * t, (three * t - five) * t * t + one
            a2, a3 = ((-three * t + two) * t + half) * t, (half * t - half) * t * t
            b0, b1 = ((-half * u + one) * u - half) * u, (three * u - five) * u * u + one
            b2, b3 = ((-three * u + two) * u + half) * u, (half * u - half) * u * u
            if 1 <= iy < height - 2 and 1 <= ix < width - 2:
                r0 = b0 * frame[iy - 1, ix - 1] + b1 * frame[iy - 1, ix]
                r0 += b2 * frame[iy - 1, ix + 1] + b3 * frame[iy - 1, ix + 2]
                r1 = b0 * frame[iy, ix - 1] + b1 * frame[iy, ix]
                r1 += b2 * frame[iy, ix + 1] + b3 * frame[iy, ix + 2]
                r2 = b0 * frame[iy + 1, ix - 1] + b1 * frame[iy + 1, ix]
                r2 += b2 * frame[iy + 1, ix + 1] + b3 * frame[iy + 1, ix + 2]
                r3 = b0 * frame[iy + 2, ix - 1] + b1 * frame[iy + 2, ix]
                r3 += b2 * frame[iy + 2, ix + 1] + b3 * frame[iy + 2, ix + 2]
                out[row, column] = a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3
            else:
                down, across = (a0, a1, a2, a3), (b0, b1, b2, b3)
                total = np.float32(0)
                for i in range(4):
                    at_y = min(max(iy - 1 + i, 0), height - 1)
                    for j in range(4):
                        at_x = min(max(ix - 1 + j, 0), width - 1)
                        total += down[i] * across[j] * frame[at_y, at_x]
                out[row, column] = total
