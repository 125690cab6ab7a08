"""Compiled non-negative deconvolution of autoregressive processes by pooling adjacent violators.

The trace is cut into pools: within a pool the calcium decays freely from the pool's first value,
which is fitted by least squares; a pool that would have to start with a jump below the least
allowed one is merged into the pool before it. All sums over a pool are powers of the roots, so that
a merge costs a constant time, for AR(2) as for AR(1).

References
----------
Friedrich, Zhou, Paninski (2017), PLoS Computational Biology, doi:10.1371/journal.pcbi.1005423
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def _tables_ar1(root, powers, inverse):
    """Fill `powers` with root^0, root^1, ..., and `inverse` with 1 / sums of their squares."""
    power, weight = 1.0, 0.0
    for k in range(len(powers)):
        weight += power * power
        powers[k], inverse[k] = power, 1 / weight
        power *= root
        if power < 1e-30:  # denormals are slow
            power = 0.0


@numba.njit(nogil=True, cache=True)
def _solve_ar1(y, powers, inverse, penalty, least_jump, calcium, jumps, value, bound, length):
    """Fill `calcium` and `jumps` (frames) of one unit; the last three arrays are workspace.

    The pool that grows is kept out of the arrays: most samples join it. `bound` is what a sample
    after a pool must reach to start one of its own.
    """
    frames = len(y)
    decay = powers[1]
    shrink = penalty * (1 - decay)
    last, before = -1, -np.inf  # the pool before the one that grows, and its bound
    v, n = y[0] - (shrink if frames > 1 else penalty), 1
    reach = max(v, 0.0) * decay + least_jump
    for t in range(1, frames):
        new = y[t] - (shrink if t < frames - 1 else penalty)
        if new >= reach:
            last += 1
            value[last], bound[last], length[last] = v, reach, n
            before = reach
            v, n = new, 1
            reach = max(v, 0.0) * decay + least_jump
            continue
        v += powers[n] * new
        n += 1
        level = v * inverse[n - 1]
        while level < before:
            v = value[last] + powers[length[last]] * v
            n += length[last]
            last -= 1
            before = bound[last] if last >= 0 else -np.inf
            level = v * inverse[n - 1]
        reach = max(level, 0.0) * powers[n] + least_jump
    last += 1
    value[last], length[last] = v, n
    end, first = 0.0, 0
    for pool in range(last + 1):
        now = max(value[pool] * inverse[length[pool] - 1], 0.0)
        jumps[first] = max(now - decay * end, 0.0) if first > 0 else 0.0
        calcium[first] = end = now
        for t in range(first + 1, first + length[pool]):
            end *= decay
            calcium[t] = end
            jumps[t] = 0.0
        first += length[pool]


@numba.njit(nogil=True, cache=True)
def _tables_ar2(slow, fast, frames):
    """Return powers of the two roots, the kernel h, sums of h_k^2 and of h_k h_(k-1)."""
    powers = np.zeros((2, frames + 1))
    kernel = np.zeros(frames)
    squares = np.zeros(frames)
    products = np.zeros(frames)
    powers[:, 0] = 1.0
    for k in range(frames):
        for root, value in enumerate((slow, fast)):
            power = powers[root, k] * value
            powers[root, k + 1] = power if power > 1e-30 else 0.0  # denormals are slow
        kernel[k] = (powers[0, k + 1] - powers[1, k + 1]) / (slow - fast)
        before = kernel[k - 1] if k else 0.0
        squares[k] = (squares[k - 1] if k else 0.0) + kernel[k] ** 2
        products[k] = (products[k - 1] if k else 0.0) + kernel[k] * before
    return powers, kernel, squares, products


@numba.njit(nogil=True, cache=True)
def _solve_ar2(y, slow, fast, penalty, least_jump, calcium, jumps, tables, work, start, length):
    """Fill `calcium` and `jumps` (frames) of one unit; `work` (5, frames) is workspace.

    With p the calcium one frame before a pool and v its first value, calcium in the pool is
    v h_k - p slow fast h_(k-1), h_k = (slow^(k+1) - fast^(k+1)) / (slow - fast).
    """
    powers, kernel, squares, products = tables
    sum_slow, sum_fast, first, end1, end2 = work[0], work[1], work[2], work[3], work[4]
    frames = len(y)
    g1, both = slow + fast, slow * fast
    shrink = penalty * (1 - g1 + both)
    last = -1
    for t in range(frames):
        last += 1
        sum_slow[last] = y[t] - (shrink if t < frames - 1 else penalty)
        sum_fast[last] = sum_slow[last]
        start[last] = t
        length[last] = 1
        while True:
            n = length[last]
            p = end1[last - 1] if last > 0 else 0.0
            q = end2[last - 1] if last > 0 else 0.0
            match = (slow * sum_slow[last] - fast * sum_fast[last]) / (slow - fast)
            v = max((match + p * both * products[n - 1]) / squares[n - 1], 0.0)
            if last > 0 and v - (g1 * p - both * q) < least_jump:
                m = length[last - 1]
                sum_slow[last - 1] += powers[0, m] * sum_slow[last]
                sum_fast[last - 1] += powers[1, m] * sum_fast[last]
                length[last - 1] += n
                last -= 1
                continue
            first[last] = v
            if n == 1:
                end1[last], end2[last] = v, p
            else:
                end1[last] = v * kernel[n - 1] - p * both * kernel[n - 2]
                before = kernel[n - 3] if n > 2 else 0.0
                end2[last] = v * kernel[n - 2] - p * both * before
            break
    c1 = c2 = 0.0
    for pool in range(last + 1):
        t0 = start[pool]
        for t in range(t0, t0 + length[pool]):
            free = g1 * c1 - both * c2
            level = first[pool] if t == t0 else free
            level = max(level, 0.0)
            jumps[t] = max(level - free, 0.0) if t == t0 and t > 0 else 0.0
            calcium[t] = level
            c2, c1 = c1, level


@numba.njit(nogil=True, cache=True)
def _residual(y, calcium):
    total = 0.0
    for t in range(len(y)):
        total += (y[t] - calcium[t]) ** 2
    return total / max(len(y), 1)


@numba.njit(nogil=True, cache=True)
def pooled(normal, slow, fast, penalty, least_jump, to_noise, calcium, jumps):
    """Deconvolve units of noise 1 in place.

    Parameters
    ----------
    normal : array float32, shape (units, frames)
        Trace above its baseline in units of its noise.
    slow, fast : array float64, shape (units,)
        Roots per frame, 0 <= fast < slow < 1; AR(1) where `fast` is 0.
    penalty, least_jump : float
        Weight of the sum of jumps, and the least jump (both in units of the noise).
    to_noise : bool
        Raise the penalty until the mean squared residual is 1, at most; `penalty` is then ignored.
    calcium, jumps : array float32, shape (units, frames)
        Receive the result.
    """
    units, frames = normal.shape
    value, bound = np.empty(frames), np.empty(frames)
    powers, inverse = np.empty(frames + 1), np.empty(frames + 1)
    start, length = np.empty(frames, np.int64), np.empty(frames, np.int64)
    work = np.empty((5, frames))
    tables = _tables_ar2(0.5, 0.1, 1)
    known_slow, known_fast = -1.0, -1.0
    for u in range(units):
        y, c, s = normal[u], calcium[u], jumps[u]
        if slow[u] != known_slow or fast[u] != known_fast:
            known_slow, known_fast = slow[u], fast[u]
            if fast[u] > 0:
                tables = _tables_ar2(slow[u], fast[u], frames)
            else:
                _tables_ar1(slow[u], powers, inverse)
        low, high = 0.0, 0.0
        trial = 0.0 if to_noise else penalty
        for step in range(14):
            if fast[u] > 0:
                _solve_ar2(
                    y, slow[u], fast[u], trial, least_jump, c, s, tables, work, start, length
                )
            else:
                _solve_ar1(y, powers, inverse, trial, least_jump, c, s, value, bound, length)
            if not to_noise:
                break
            # the residual grows with the penalty: double it, then halve the interval
            error = _residual(y, c)
            if abs(error - 1) < 0.01 or (step == 0 and error >= 1):
                break
            if error < 1:
                low = trial
                trial = max(2 * trial, 0.5) if high == 0 else (low + high) / 2
            else:
                high = trial
                trial = (low + high) / 2


@numba.njit(nogil=True, cache=True)
def in_trace_units(calcium, jumps, baseline, noise, height, valid):
    """Bring calcium and jumps (units, frames) from units of the noise to those of the trace."""
    for u in range(len(calcium)):
        for t in range(calcium.shape[1]):
            calcium[u, t] = calcium[u, t] * noise[u] + baseline[u, t]
            jumps[u, t] = jumps[u, t] * height[u] if valid[u, t] else np.float32(0)
