"""Whether the field stayed at its depth: a correction within the plane cannot undo z drift."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.imaging.movie import Movie


class Stretches(NamedTuple):
    """Mean images of stretches of a recording, twice, from frames of their own.

    Attributes
    ----------
    frame : array, shape (stretches,)
        Middle of each stretch.
    one, other : array, shape (stretches, pixels)
        Band-passed and centered.
    """

    frame: NDArray[np.float64]
    one: NDArray[np.float32]
    other: NDArray[np.float32]


def stretches(
    movie: Movie, *, count: int = 10, frames: int = 48, margin: int = 0, size_px: float = 8.0
) -> Stretches:
    """Average frames, spread over each of `count` stretches, in two sets.

    Parameters
    ----------
    movie : Movie
        Motion-corrected.
    count, frames : int
        Stretches, and frames read of each.
    margin : int
        Pixels left out at the edges.
    size_px : float
        Structure larger than this is taken out (px): neuropil brightens and fades.
    """
    n_frames, height, width = movie.shape
    count = max(1, min(count, n_frames // 4))
    margin = int(min(margin, height // 4, width // 4))
    inside = np.s_[margin : height - margin, margin : width - margin]
    edges = np.linspace(0, n_frames, count + 1).round().astype(int)
    halves: tuple[list, list] = ([], [])
    for start, stop in pairwise(edges):
        chosen = np.unique(np.linspace(start, stop - 1, min(frames, stop - start)).astype(int))
        sums = np.zeros((2, height, width))
        for number, frame in enumerate(chosen):
            sums[number % 2] += movie[int(frame) : int(frame) + 1][0]
        for kept, image in zip(halves, sums, strict=True):
            image = gaussian_filter(image, 1.0) - gaussian_filter(image, size_px)
            image = image[inside].ravel()
            kept.append((image - image.mean()).astype(np.float32))
    return Stretches((edges[:-1] + edges[1:] - 1) / 2, np.array(halves[0]), np.array(halves[1]))


def plane_similarity(parts: Stretches) -> NDArray[np.float32]:
    """Return how much every stretch looks like the first, without the noise of either.

    The two sets of frames have independent photons, so that products across sets are free of
    noise. 1: the same plane; it falls by about half where the field has moved by the depth of
    focus, and also, by little, where cells have become active.
    """
    own = np.einsum("ip,ip->i", parts.one, parts.other, dtype=np.float64)
    with_first = (parts.one @ parts.other[0] + parts.other @ parts.one[0]) / 2
    scale = np.sqrt(np.maximum(own * own[0], 0))
    similar = np.divide(with_first, scale, out=np.zeros(len(own)), where=scale > 0)
    return np.clip(similar, -1, 1).astype(np.float32)


def depth_in_stack(
    images: NDArray, stack: NDArray, step_um: float, *, size_px: float = 8.0
) -> NDArray[np.float64]:
    """Return where in a reference stack images were taken (um from its first slice).

    Parameters
    ----------
    images : array, shape (images, H, W)
        Registered to the stack, for example mean images of stretches.
    stack : array, shape (slices, H, W)
    step_um : float
        Between slices (um).
    size_px : float
        Structure larger than this is taken out (px).

    Returns
    -------
    array, shape (images,)
        By a parabola through the correlations with the best slice and its neighbors.

    Raises
    ------
    ValueError
        If images and stack differ in size, or there are fewer than three slices.
    """
    if images.shape[1:] != stack.shape[1:] or len(stack) < 3:
        raise ValueError(
            f"a stack of three slices or more of {images.shape[1:]} px is needed; got {stack.shape}"
        )

    def flat(planes: NDArray) -> NDArray[np.float64]:
        planes = np.asarray(planes, np.float64)
        smooth = [gaussian_filter(p, 1.0) - gaussian_filter(p, size_px) for p in planes]
        rows = np.array(smooth).reshape(len(planes), -1)
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    similar = flat(images) @ flat(stack).T
    best = np.clip(similar.argmax(axis=1), 1, len(stack) - 2)
    number = np.arange(len(images))
    low, top, high = (similar[number, best + k] for k in (-1, 0, 1))
    bend = low + high - 2 * top
    rest = np.divide(low - high, 2 * bend, out=np.zeros(len(best)), where=bend < 0)
    return (best + np.clip(rest, -1, 1)) * step_um
