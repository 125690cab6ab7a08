"""The whole chain on files, without a database."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.imaging.adapters import open_source
from pipeline.imaging.extraction import fluorescence_methods
from pipeline.imaging.motion import corrected_movie, motion_methods
from pipeline.imaging.movie import RasterCorrected
from pipeline.imaging.raster import raster_methods
from pipeline.imaging.segmentation import segmenters
from pipeline.registry import Choice


def process(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    out_folder: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | float | None = None,
    field: int = 0,
    channel: int = 0,
    soma_diameter_um: float | None = None,
    raster: Choice = None,
    motion: Choice = None,
    segmenter: Choice = None,
    fluorescence: Choice = None,
    deconvolver: Choice = None,
    min_snr: float = 3.0,
    min_soma_probability: float = 0.5,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Turn the TIFF files of a scan into traces and activity.

    Parameters
    ----------
    files, fps
        See `open_scan`; a plain TIFF needs `fps` (Hz).
    out_folder : path
        Made if it is not there; receives `imaging.npz`.
    um_per_px : float or tuple (y, x), optional
        Size of a pixel (um) where the header does not say.
    field, channel : int
        Which of the scan's, counted from 0.
    soma_diameter_um : float, optional
        Expected diameter of a soma (um); the segmenter's default otherwise.
    raster, motion, segmenter, fluorescence, deconvolver : str or dict, optional
        Registered methods, each a name or ``{"name": ..., **parameters}``; what is left out is
        the recommended one.
    min_snr, min_soma_probability : float
        Units below either are written with `keep` False.
    progress : callable, optional
        Called with one line when a step begins, and with what the files' readers found.

    Returns
    -------
    Path
        Of `imaging.npz`, with `shifts_y`, `shifts_x` (frames; px, displacement of the content, down
        and right positive), `raster_px`, `masks` (units, H, W), `traces` (units, frames; neuropil
        removed, not smoothed), `denoised`, `deconv` (units, frames), `keep` (units), and `weights`,
        `neuropil`, `coefficient`, `snr`, `score`, `soma_probability`, `mean_image`,
        `correlation_image`, `fps`, `um_per_px` (NaN if unknown). A piecewise motion method adds
        `block_shifts` (2, frames, down, across; px beyond `shifts_y` and `shifts_x`) at
        `block_y_px`, `block_x_px`.

    Raises
    ------
    DataError
        If the files cannot be used.
    ValueError
        If a method or parameter does not exist.

    Examples
    --------
    >>> process("nowhere.tif", "out", deconvolver={"name": "oasis_ar1", "decay_s": 0.6})
    Traceback (most recent call last):
    pipeline.errors.DataError: nowhere.tif: ...
    """
    from pipeline.imaging.deconvolution import deconvolvers  # compiled code: load when needed

    say = progress or (lambda line: None)
    if isinstance(um_per_px, (int, float)):
        um_per_px = (float(um_per_px), float(um_per_px))
    units = segmenters.spec(segmenter)
    if soma_diameter_um is not None and "soma_diameter_um" in units:
        units["soma_diameter_um"] = soma_diameter_um
    steps = {
        "raster": raster_methods.bind(raster),
        "motion": motion_methods.bind(motion),
        "segmentation": segmenters.bind(units),
        "fluorescence": fluorescence_methods.bind(fluorescence),
        "deconvolution": deconvolvers.bind(deconvolver),
    }

    def run(name: str, *data: Any) -> Any:
        say(name)
        return steps[name](*data)

    scan = open_source(files, fps=fps, um_per_px=um_per_px)
    for finding in getattr(scan, "findings", []):
        say(str(finding))
    movie = scan.movie(field, channel)
    offset = run("raster", movie)
    steady = RasterCorrected(movie, offset.raster_px)
    moved = run("motion", steady)
    if moved.fixed is not None:
        share = float(moved.fixed.mean())
        say(f"motion: {share:.1%} of the field is fixed to the scanner and was not looked at")
    corrected = corrected_movie(steady, moved)
    cells = run("segmentation", corrected)
    traces = run("fluorescence", corrected, cells.masks, cells.weights)
    activity = run("deconvolution", traces.corrected, scan.fps)
    keep = (cells.soma_probability >= min_soma_probability) & (traces.snr >= min_snr)
    target = Path(out_folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError("cannot be made", file=target, found=error.strerror) from error
    path = target / "imaging.npz"
    say("writing")
    blocks = {}
    if moved.block_centers is not None:
        blocks["block_shifts"] = np.stack([moved.block_y_shifts, moved.block_x_shifts])
        blocks["block_y_px"], blocks["block_x_px"] = moved.block_centers
    arrays = dict(
        shifts_y=moved.y_shifts,
        shifts_x=moved.x_shifts,
        raster_px=np.float64(offset.raster_px),
        masks=cells.masks,
        traces=traces.corrected,
        denoised=activity.denoised,
        deconv=activity.activity,
        keep=keep,
        weights=cells.weights,
        neuropil=traces.neuropil,
        coefficient=traces.coefficient,
        snr=traces.snr,
        score=cells.score,
        soma_probability=cells.soma_probability,
        mean_image=cells.mean_image,
        correlation_image=cells.correlation_image,
        fps=np.float64(scan.fps),
        um_per_px=np.array(movie.um_per_px or (np.nan, np.nan)),
        **blocks,
    )
    with written_whole(path) as partial:
        np.savez(partial, **arrays)
    return path
