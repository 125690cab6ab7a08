"""Smooth displacement fields: a polynomial over the field, a course over time, both from data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg
from scipy.ndimage import gaussian_filter1d

STILL = 75  # percent of the combinations of polynomials taken to show no motion


class SmoothField:
    """Displacement of a frame as a sum of Legendre polynomials in y and x.

    Parameters
    ----------
    degree : int
        Largest sum of the degrees in y and x.
    """

    def __init__(self, degree: int) -> None:
        pairs = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        self.pairs = sorted(pairs, key=sum)  # the constant comes first

    def at(self, places: NDArray) -> NDArray[np.float64]:
        """Return the polynomials at places (n, 2) in -1..1, shape (n, terms)."""
        columns = []
        for i, j in self.pairs:
            one, other = np.zeros(i + 1), np.zeros(j + 1)
            one[i] = other[j] = 1
            value = np.polynomial.legendre.legval(places[:, 0], one)
            value = value * np.polynomial.legendre.legval(places[:, 1], other)
            columns.append(value * np.sqrt((2 * i + 1) * (2 * j + 1)))  # rms 1 over the field
        return np.stack(columns, axis=1)

    def prior_px(self, scale_px: float) -> NDArray[np.float64]:
        """Return the standard deviation expected of each term (px), falling with the degree."""
        degree = np.array([i + j for i, j in self.pairs])
        return np.where(degree == 0, 3.0, scale_px / np.maximum(degree, 1))


def fit_matrix(basis: NDArray, curvature: NDArray, prior: NDArray) -> NDArray[np.float64]:
    """Return the matrix from information to coefficients of a field.

    Parameters
    ----------
    basis : array, shape (tiles, terms)
    curvature : array, shape (tiles, 2, 2)
        Information of a tile on its displacement.
    prior : array, shape (terms,)
        Information known beforehand, in the same unit.

    Returns
    -------
    array, shape (2 terms, tiles * 2)
        Times the information (tiles, 2) it is the best field, y terms before x terms.
    """
    tiles, terms = basis.shape
    information = np.einsum("bi,bac,bj->aicj", basis, curvature, basis)
    information = information.reshape(2 * terms, 2 * terms) + np.diag(np.tile(prior, 2))
    spread = np.zeros((2, terms, tiles, 2))
    for axis in (0, 1):
        spread[axis, :, :, axis] = basis.T
    return linalg.solve(information, spread.reshape(2 * terms, 2 * tiles), assume_a="pos")


def agreed_course(
    one: NDArray, other: NDArray, *, leaping: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Return what two noisy courses of the same fields have in common: a Wiener filter.

    Both are taken apart into the combinations of terms in which signal (what the two share) and
    noise (what they do not) are uncorrelated. Each then keeps, at every temporal frequency, the
    share of its power that is common to both, so that neither the size of the motion nor its
    speed has to be known.

    Parameters
    ----------
    one, other : array, shape (frames, terms)
        Independent estimates.
    leaping : sequence of int
        Terms that move with the field as a whole. Their sudden steps, which no spectrum
        describes, are taken out before and put back after.

    Returns
    -------
    array, shape (frames, terms)
    """
    frames, terms = one.shape
    level = np.tile(np.median((one + other) / 2, axis=0), (frames, 1))
    for term in leaping:
        level[:, term] = sudden_steps(one[:, term], other[:, term])
    one, other = one - level, other - level
    signal = (one.T @ other + other.T @ one) / (2 * frames)
    noise = (one - other).T @ (one - other) / (4 * frames)
    noise += np.eye(terms) * (1e-9 + 1e-6 * np.trace(noise) / terms)
    _, modes = linalg.eigh(signal, noise)  # modes' noise modes = 1
    back = noise @ modes  # inverse of modes.T
    # mirrored, so that the ends do not leak into each other
    a, b = (fft.rfft(np.concatenate([q, q[::-1]]) @ modes, axis=0) for q in (one, other))
    width = max(2.0, frames / 30)
    shared = gaussian_filter1d(np.real(a * b.conj()), width, axis=0)
    apart = gaussian_filter1d(np.abs(a - b) ** 2, width, axis=0) / 4
    # most combinations do not move: what they share is the light of cells, and all have it
    floor = np.maximum(np.percentile(shared, STILL, axis=1, keepdims=True), 0)
    keep = np.clip((shared - floor) / np.maximum(shared + apart, 1e-30), 0, 1)
    return fft.irfft((a + b) / 2 * keep, 2 * frames, axis=0)[:frames] @ back.T + level


def sudden_steps(one: NDArray, other: NDArray, *, limit: float = 6.0) -> NDArray[np.float64]:
    """Return the sum of the steps between frames that are neither noise nor usual.

    Filtering would smear a leap of the stage or a jerk of the mouse over the frames around it.

    Parameters
    ----------
    one, other : array, shape (frames,)
        Independent estimates of the same course.
    limit : float
        Least step, in standard deviations of the noise's and of the usual steps; in each estimate
        half of that.

    Returns
    -------
    array, shape (frames,)
        Stairs, around which the course has median 0.
    """
    mean = (one + other) / 2
    stairs = np.zeros(len(mean))
    steps = np.diff([one, other, mean], axis=1)
    noise = np.std(np.diff((one - other) / 2))
    least = limit * max(noise, np.median(np.abs(steps[2])) / 0.6745) if len(mean) > 1 else 0.0
    both = np.min(steps[:2] * np.sign(steps[2]), axis=0) > least / 2
    np.cumsum(np.where((np.abs(steps[2]) > least) & both, steps[2], 0), out=stairs[1:])
    return stairs + np.median(mean - stairs)
