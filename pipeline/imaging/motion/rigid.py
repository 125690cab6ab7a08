"""Rigid registration: one sub-pixel displacement per frame, by whitened correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal.windows import tukey

from pipeline.imaging.motion.base import (
    MotionResult,
    motion_methods,
    replace_outliers,
    self_correlation,
)
from pipeline.imaging.movie import MotionCorrected, Movie

_BATCH = 32  # frames per transform: the fastest on the machines measured; no result depends on it


class Correlator:
    """Displacement of frames from a template, by low-passed phase correlation.

    The product of a frame's spectrum and the template's is divided by its magnitude (the frame's
    noise then counts equally at all frequencies), multiplied by a Gaussian low-pass and turned
    back; the peak is refined by a parabola through the logarithm's three points, exact for the
    Gaussian peak that this makes.

    Parameters
    ----------
    template : array, shape (H, W)
    max_shift : int
        Largest displacement looked for (px).
    smooth_px : float
        Sigma of the low-pass (px). Below 1 a parabola pulls towards whole pixels.
    """

    def __init__(self, template: NDArray, *, max_shift: int, smooth_px: float) -> None:
        height, width = template.shape
        self.shape = (height, width)
        self.max_shift = int(min(max_shift, height // 2 - 2, width // 2 - 2))
        self.window = np.outer(tukey(height, 0.25), tukey(width, 0.25)).astype(np.float32)
        f_y = np.fft.fftfreq(height)[:, None]
        f_x = np.fft.rfftfreq(width)[None]
        lowpass = np.exp(-2 * (np.pi * smooth_px) ** 2 * (f_y**2 + f_x**2))
        spectrum = fft.rfft2((template - template.mean()) * self.window)
        magnitude = np.maximum(np.abs(spectrum), 1e-6 * np.abs(spectrum).max() + 1e-30)
        lowpass[0, 0] = 0
        self.filter = (spectrum.conj() / magnitude * lowpass).astype(np.complex64)

    def shifts(self, frames: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return y, x (px, content's displacement) and the peak's height for a batch of frames."""
        frames = np.asarray(frames, dtype=np.float32)
        frames = (frames - frames.mean(axis=(1, 2), keepdims=True)) * self.window
        spectrum = fft.rfft2(frames, overwrite_x=True)
        magnitude = np.abs(spectrum)
        magnitude += 1e-6 * magnitude.max() + 1e-30
        spectrum *= self.filter
        spectrum /= magnitude
        return self._peak(fft.irfft2(spectrum, s=self.shape, overwrite_x=True))

    def _peak(self, surface: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        limit, (height, width) = self.max_shift, self.shape
        reach = np.arange(-limit, limit + 1)
        near = surface[:, reach % height][:, :, reach % width]
        count, side = len(near), len(reach)
        flat = near.reshape(count, -1).argmax(axis=1)
        y, x = flat // side, flat % side
        rows = np.arange(count)
        top = near[rows, y, x]
        y_mid, x_mid = reach[y], reach[x]
        out = []
        for axis, middle in ((0, y_mid), (1, x_mid)):
            step = (1, 0) if axis == 0 else (0, 1)
            low, high = (
                surface[rows, (y_mid + s * step[0]) % height, (x_mid + s * step[1]) % width]
                for s in (-1, 1)
            )
            out.append(middle + _vertex(low, top, high))
        return out[0], out[1], top


def _vertex(low: NDArray, top: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Return where a peak sampled at -1, 0, 1 is highest: a Gaussian, or a parabola near zero."""
    low, top, high = (values.astype(np.float64) for values in (low, top, high))
    positive = np.minimum(np.minimum(low, top), high) > 0.05 * np.abs(top)
    safe = [np.where(positive, values, 1.0) for values in (low, top, high)]
    low, top, high = (
        np.where(positive, np.log(s), v) for s, v in zip(safe, (low, top, high), strict=True)
    )
    bend = low + high - 2 * top
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(bend < 0, (low - high) / (2 * bend), 0.0)
    return np.clip(offset, -1, 1)


def first_template(
    movie: Movie, *, max_shift: int, smooth_px: float, frames: int = 400, iterations: int = 4
) -> NDArray[np.float32]:
    """Return a sharp mean image from frames spread over the recording.

    The twenty frames most like one of them start it; then all are registered to the mean, and
    averaged again where they belong, `iterations` times.
    """
    count = min(frames, movie.shape[0])
    chosen = np.unique(np.linspace(0, movie.shape[0] - 1, count).round().astype(int))
    stack = np.concatenate([np.asarray(movie[int(i) : int(i) + 1], np.float32) for i in chosen])
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    alike = flat @ flat.T
    few = min(20, len(stack))
    best = np.argsort(alike, axis=1)[:, ::-1][:, :few]
    center = np.take_along_axis(alike, best, axis=1).mean(axis=1).argmax()
    template = stack[best[center]].mean(axis=0)
    for _ in range(iterations):
        correlator = Correlator(template, max_shift=max_shift, smooth_px=smooth_px)
        parts = [correlator.shifts(stack[i : i + _BATCH]) for i in range(0, len(stack), _BATCH)]
        y, x, peak = (np.concatenate(values) for values in zip(*parts, strict=True))
        keep = peak >= np.median(peak) * 0.7
        template = _average(stack[keep], y[keep], x[keep])
    return template.astype(np.float32)


def _average(stack: NDArray, y: NDArray, x: NDArray) -> NDArray:
    """Return the mean of frames moved back by their shifts, by phase factors."""
    height, width = stack.shape[1:]
    f_y = np.fft.fftfreq(height)[:, None]
    f_x = np.fft.rfftfreq(width)[None]
    total = np.zeros((height, width // 2 + 1), np.complex128)
    y, x = y - np.median(y), x - np.median(x)
    for frame, down, right in zip(stack, y, x, strict=True):
        total += fft.rfft2(frame) * np.exp(2j * np.pi * (f_y * down + f_x * right))
    return fft.irfft2(total / len(stack), s=(height, width))


@motion_methods.register("rigid", default=True)
def rigid(
    movie: Movie,
    *,
    max_shift_um: float = 30.0,
    max_step_um: float = 15.0,
    smooth_px: float = 1.5,
    template_frames: int = 400,
    default_um_per_px: float = 1.0,
) -> MotionResult:
    """Estimate one displacement per frame.

    Parameters
    ----------
    movie : Movie
        Raster-corrected.
    max_shift_um : float
        Frames further than this from the median are outliers (um).
    max_step_um : float
        So are frames further than this from the median of the second around them (um).
    smooth_px : float
        Low-pass of the correlation peak (px).
    template_frames : int
        Frames, spread over the recording, of which the template is made.
    default_um_per_px : float
        Size of a pixel where the movie does not know it (um).

    Returns
    -------
    MotionResult
        Shifts are relative to their median: the template is where the field mostly was.

    References
    ----------
    Kuglin and Hines (1975), The phase correlation image alignment method.
    """
    scale = float(np.mean(movie.um_per_px)) if movie.um_per_px else default_um_per_px
    limit = max(3, int(np.ceil(max_shift_um / scale)))
    template = first_template(movie, max_shift=limit, smooth_px=smooth_px, frames=template_frames)
    correlator = Correlator(template, max_shift=limit, smooth_px=smooth_px)
    parts = [correlator.shifts(frames) for _, frames in movie.batches(_BATCH)]
    y, x, _ = (np.concatenate(values).astype(np.float64) for values in zip(*parts, strict=True))
    window = max(5, round(movie.fps))
    y, x, outliers = replace_outliers(
        y, x, max_shift=limit, max_step=max(2.0, max_step_um / scale), window=window
    )
    return finish(movie, y, x, outliers)


def finish(
    movie: Movie, y: NDArray, x: NDArray, outliers: NDArray, **blocks: NDArray
) -> MotionResult:
    """Centre the shifts on their median, and accept them if frames become more alike.

    "Alike" is the correlation of single frames with the mean of *other* frames, corrected or not,
    both lightly smoothed: interpolation alone, which averages noise, must not count as success.
    """
    y = (y - np.median(y)).astype(np.float32)
    x = (x - np.median(x)).astype(np.float32)
    sample = np.unique(np.linspace(0, len(y) - 1, min(len(y), 400)).round().astype(int))
    margin = int(np.ceil(max(np.abs(y).max(), np.abs(x).max()))) + 1
    before, _ = self_correlation(movie, sample, margin=margin)
    after, template = self_correlation(
        MotionCorrected(movie, y, x, **blocks), sample, margin=margin
    )
    accepted = bool(after > before)
    if not accepted:
        y, x, blocks = np.zeros_like(y), np.zeros_like(x), {}
        _, template = self_correlation(movie, sample, margin=margin)
    return MotionResult(
        y, x, template, before, after,
        float(np.sqrt(np.mean(y**2.0 + x**2.0))), outliers, accepted, **blocks,
    )  # fmt: skip
