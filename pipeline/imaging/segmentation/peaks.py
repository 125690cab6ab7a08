"""A fast detector: one look at every peak of the local correlation."""

from __future__ import annotations

from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import (
    SegmentationResult,
    binned_movie,
    correlation_image,
    diameter_px,
    residual_of,
    segmenters,
)
from pipeline.imaging.segmentation.cnmf import acceptable, assemble, overlaps, seeds_of
from pipeline.imaging.segmentation.grow import grow


@segmenters.register("peaks", revision=2)
def peaks(
    movie: Movie,
    *,
    soma_diameter_um: float = 12.0,
    default_um_per_px: float = 1.0,
    bin_s: float = 1.0,
    highpass_s: float = 60.0,
    min_snr: float = 5.0,
    min_skew: float = 1.5,
    edge: float = 0.35,
    memory_mb: float = 200.0,
) -> SegmentationResult:
    """Grow every peak of the correlation image once; nothing is subtracted or refined.

    For a look during the recording, or fields without overlap. Parameters as in `cnmf`.
    """
    diameter = diameter_px(movie, soma_diameter_um, default_um_per_px)
    binned = binned_movie(movie, bin_s=bin_s, highpass_s=highpass_s, memory_mb=memory_mb)
    residual = residual_of(binned, diameter)
    image = correlation_image(residual)
    cells = []
    for y, x in seeds_of(image, diameter, residual.margin):
        cell = grow(residual.values, (y, x), diameter=diameter, edge=edge, iterations=2)
        if cell is None or not acceptable(cell, min_snr=min_snr, min_skew=min_skew):
            continue
        if not any(overlaps(cell, other, diameter) for other in cells):
            cells.append(cell)
    return assemble(cells, residual, image, diameter)
