"""Masks that somebody else drew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import SegmentationResult, segmenters
from pipeline.imaging.segmentation.mask_files import read_masks
from pipeline.imaging.summary import summarize


@segmenters.register("given")
def given(
    movie: Movie,
    *,
    pixels: Sequence[Sequence[int]] | None = None,
    file: str | None = None,
) -> SegmentationResult:
    """Use given masks, uniformly weighted.

    Parameters
    ----------
    movie : Movie
        Motion-corrected.
    pixels : list of lists of int, optional
        Pixel numbers of every unit, row * width + column, from 0.
    file : str, optional
        Instead: an .npz file with `masks`, bool (units, H, W), or lists of their pixels.

    Returns
    -------
    SegmentationResult
        `score` and `soma_probability` are 1: whoever gave the masks vouches for them.

    Raises
    ------
    ValueError
        If neither or both of `pixels` and `file` are given, or a pixel lies outside of the field.
    DataError
        If the file holds no masks of this size.
    """
    height, width = movie.shape[1:]
    if pixels is not None and file is None:
        flat = np.zeros((len(pixels), height * width), bool)
        for unit, listed in enumerate(pixels):
            numbers = np.asarray(listed, int)
            if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= height * width:
                raise ValueError(
                    f"unit {unit} needs pixel numbers of 0 to {height * width - 1}; got "
                    f"{'none' if len(numbers) == 0 else f'{numbers.min()} to {numbers.max()}'}"
                )
            flat[unit, numbers] = True
        masks = flat.reshape(-1, height, width)
    elif file is not None and pixels is None:
        masks = np.asarray(read_masks(file, (height, width)).as_masks())
    else:
        raise ValueError("segmenter 'given' needs either pixels or file")
    summary = summarize(movie, bin_frames=max(1, round(0.4 * movie.fps)))
    area = np.maximum(masks.sum(axis=(1, 2), keepdims=True), 1)
    ones = np.ones(len(masks), np.float32)
    return SegmentationResult(
        masks,
        (masks / area).astype(np.float32),
        ones,
        ones.copy(),
        summary.mean,
        summary.correlation,
    )
