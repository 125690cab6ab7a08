"""A fast detector: one look at every peak of the local correlation."""

from __future__ import annotations

from numpy.typing import NDArray

from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import (
    Residual,
    SegmentationResult,
    diameter_px,
    segmenters,
)
from pipeline.imaging.segmentation.cnmf import acceptable, assemble, seeds_of
from pipeline.imaging.segmentation.grow import Component, grow, overlaps
from pipeline.imaging.segmentation.patches import bins_of, search


@segmenters.register("peaks", revision=3)
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

    def find(residual: Residual, image: NDArray) -> list[Component]:
        cells: list[Component] = []
        for y, x in seeds_of(image, diameter, residual.inside):
            cell = grow(residual, (y, x), diameter=diameter, edge=edge, iterations=2)
            if cell is None or not acceptable(cell, min_snr=min_snr, min_skew=min_skew):
                continue
            if not any(overlaps(cell, other, diameter) for other in cells):
                cells.append(cell)
        return cells

    with bins_of(movie, bin_s=bin_s, highpass_s=highpass_s, memory_mb=memory_mb) as binned:
        return assemble(search(binned, diameter, find))
