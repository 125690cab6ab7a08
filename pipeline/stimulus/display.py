"""From model pixels to 8-bit monitor pixels of a given mean luminance and contrast.

Gain and offset act on gray levels, the space in which the model was trained and the image was made,
so that the shown image is the synthesized one up to contrast (``space="pixel"``); the published
system scaled luminance instead (``space="luminance"``). Either way mean and standard deviation are
those of the luminance of the final 8-bit image, after rounding and clipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pipeline.registry import Registry

from .images import area_matrix, check_aspect
from .monitor import MonitorCurve

displays = Registry("display")

# Ordered rounding: in every 4 x 4 block a sixteenth of the pixels for each sixteenth of a level. A
# gray background of one value could otherwise be shown in steps of one level only, up to 1 % off.
_THRESHOLD = (
    np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) + 0.5
) / 16
_CHUNK = 64  # images at a time
_STEPS = 40  # of the fixed-point search; usually 5-10 suffice
_MAX_GAIN = 1e4
FALLBACK_CONTRAST = 0.2  # sd over mean of the luminance where what is wanted is beyond the monitor
_FLAT_SD = 1e-3  # (gray levels or cd/m2) below it there is nothing to amplify but round-off


@dataclass(frozen=True)
class Displayed:
    """Images ready for the monitor and what they are like."""

    images: NDArray[np.uint8]  # (n, H, W)
    mean_cd_m2: NDArray[np.float64]  # (n,) achieved
    sd_cd_m2: NDArray[np.float64]  # (n,) achieved
    clipped_fraction: NDArray[np.float64]  # (n,) pixels that wanted to leave the monitor's range
    ok: NDArray[np.bool_]  # (n,) mean and sd within the tolerance
    reason: list[str]  # (n,) why not, else empty
    gain: NDArray[np.float64]  # (n,)


def upscale(images: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge images (n, h, w) smoothly to (n, H, W) so that area averaging gives them back.

    Cubic splines ``C``, corrected by the inverse of what area averaging ``A`` does to them:
    ``C (A C)^-1`` along rows and columns.
    """
    images = np.asarray(images, np.float32)
    if images.shape[1:] == tuple(size):
        return images
    check_aspect(size, images.shape[1:])
    if size[0] < images.shape[1] or size[1] < images.shape[2]:
        raise ValueError(f"cannot display {images.shape[1:]} on fewer pixels {tuple(size)}")
    matrices = []
    for n_in, n_out in zip(images.shape[1:], size, strict=True):
        centres = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        spline = CubicSpline(np.arange(n_in), np.eye(n_in), bc_type="natural")
        smooth = spline(np.clip(centres, 0, n_in - 1))
        matrices.append(
            (smooth @ np.linalg.inv(area_matrix(n_in, n_out) @ smooth)).astype(np.float32)
        )
    return matrices[0] @ (images @ matrices[1].T)


def within_range(params: Mapping[str, Any], curve: MonitorCurve) -> dict[str, Any]:
    """Return display parameters with a luminance and contrast that the monitor has.

    The recipe's, if the monitor reaches three standard deviations around its mean; else the
    luminance of mid-gray, at the same contrast.
    """
    params = dict(params)
    mean, sd = params.get("mean_cd_m2"), params.get("sd_cd_m2")
    low, high = curve.luminance_range
    if mean is None or sd is None or (low <= mean - 3 * sd and mean + 3 * sd <= high):
        return params
    mean = round(float(curve.to_luminance(sum(curve.pixel_range) / 2)), 3)
    sd = min(FALLBACK_CONTRAST * mean, (mean - low) / 3, (high - mean) / 3)
    return {**params, "mean_cd_m2": mean, "sd_cd_m2": round(sd, 4)}


@displays.register("frame", default=True)
def to_monitor(
    images: NDArray,
    curve: MonitorCurve,
    *,
    size_px: tuple[int, int] = (144, 256),
    mean_cd_m2: float = 10.0,
    sd_cd_m2: float = 2.0,
    background: float | None = None,
    masks: NDArray | None = None,
    space: Literal["pixel", "luminance"] = "pixel",
    tolerance: float = 0.01,
) -> Displayed:
    """Turn images into 8-bit monitor images of the same mean luminance and contrast.

    Parameters
    ----------
    images : array, shape (n, h, w)
        Gray levels at the model's or the monitor's resolution.
    curve : MonitorCurve
    size_px : (int, int)
        Height and width of what is shown.
    mean_cd_m2, sd_cd_m2 : float
        Luminance wanted over the whole frame.
    background : float, optional
        Gray level that counts as no contrast where a mask fades out; default the mean of the
        image inside its mask.
    masks : array, shape (n, h, w), optional
        Windows in 0-1; outside of it the frame is uniform.
    space : {"pixel", "luminance"}
        In which units gain and offset act.
    tolerance : float
        Largest relative deviation of mean and sd from what is wanted.

    Returns
    -------
    Displayed

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or luminance outside the monitor's.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(110, 20, (2, 36, 64))
    >>> gray = np.linspace(0, 255, 9)
    >>> curve = MonitorCurve(gray, 40 * (gray / 255) ** 2)
    >>> shown = to_monitor(images, curve, mean_cd_m2=10, sd_cd_m2=2)
    >>> shown.images.shape, shown.images.dtype
    ((2, 144, 256), dtype('uint8'))
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images must be (n, h, w), got shape {images.shape}")
    if masks is not None and np.shape(masks) != images.shape:
        raise ValueError(f"masks {np.shape(masks)} do not fit images {images.shape}")
    if space not in ("pixel", "luminance"):
        raise ValueError(f"space must be 'pixel' or 'luminance', got {space!r}")
    low, high = curve.luminance_range
    if not low < mean_cd_m2 < high or sd_cd_m2 <= 0:
        raise ValueError(
            f"mean {mean_cd_m2} +- {sd_cd_m2} cd/m2 is not within the monitor's "
            f"{low:g} to {high:g} cd/m2"
        )
    wanted = _Wanted(curve, float(mean_cd_m2), float(sd_cd_m2), space, float(tolerance))
    parts = []
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        window = None if masks is None else masks[part]
        parts.append(wanted.match(*_contrast(images[part], window, size_px, background, wanted)))
    if not parts:
        parts = [wanted.match(np.empty((0, *size_px), np.float32), np.empty(0, bool))]
    shown, mean, sd, clipped, gain = (np.concatenate(a) for a in zip(*parts, strict=True))
    errors = np.maximum(np.abs(mean / mean_cd_m2 - 1), np.abs(sd / sd_cd_m2 - 1))
    ok = errors <= tolerance
    reason = [
        "" if good else _reason(m, s, c, mean_cd_m2, sd_cd_m2) if g else "the image has no contrast"
        for good, m, s, c, g in zip(ok, mean, sd, clipped, gain, strict=True)
    ]
    return Displayed(shown, mean, sd, clipped, ok, reason, gain)


def _reason(mean: float, sd: float, clipped: float, mean_goal: float, sd_goal: float) -> str:
    return (
        f"reaches {mean:.3g} +- {sd:.3g} of {mean_goal:g} +- {sd_goal:g} cd/m2 with "
        f"{100 * clipped:.2g} % of the pixels clipped: contrast too concentrated for the monitor"
    )


def _contrast(
    images: NDArray, masks: NDArray | None, size: tuple[int, int], background, wanted: _Wanted
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return windowed deviations from the background (n, H, W) of unit sd, and which are flat."""
    large = upscale(images, size)
    if not np.isfinite(large).all():
        raise ValueError("images must be finite")
    if wanted.space == "luminance":
        large = wanted.curve.to_luminance(large).astype(np.float32)
    window = np.ones((1, 1, 1), np.float32)
    if masks is not None:
        window = np.clip(upscale(masks, size), 0, 1)
    if background is None:
        total = (window * np.ones_like(large)).sum((1, 2), keepdims=True)
        level = (large * window).sum((1, 2), keepdims=True) / np.maximum(total, 1e-6)
    else:
        level = background
        if wanted.space == "luminance":
            level = wanted.curve.to_luminance(background)
    delta = ((large - level) * window).astype(np.float32)
    sd = delta.std((1, 2), dtype=np.float64)
    flat = sd < _FLAT_SD
    return delta / np.where(flat, 1, sd)[:, None, None].astype(np.float32), flat


@dataclass(frozen=True)
class _Wanted:
    curve: MonitorCurve
    mean: float
    sd: float
    space: str
    tolerance: float

    def render(self, delta, gain, offset) -> tuple[NDArray, NDArray]:
        """Return 8-bit images and the share of pixels beyond the monitor's range."""
        levels = delta * gain[:, None, None].astype(np.float32)
        levels += offset[:, None, None].astype(np.float32)
        limits = self.curve.luminance_range if self.space == "luminance" else self.curve.pixel_range
        clipped = ((levels < limits[0]) | (levels > limits[1])).mean((1, 2))
        if self.space == "luminance":
            levels = self.curve.to_pixel(levels).astype(np.float32)
        tiles = [-(-size // 4) for size in levels.shape[1:]]
        levels += np.tile(_THRESHOLD, tiles)[: levels.shape[1], : levels.shape[2]]
        low, high = (round(level) for level in self.curve.pixel_range)
        return np.clip(np.floor(levels), low, high).astype(np.uint8), clipped

    def measure(self, shown: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
        """Return mean and sd of luminance of 8-bit images."""
        table = self.curve.table
        n, pixels = len(shown), shown[0].size if len(shown) else 1
        flat = shown.reshape(n, -1).astype(np.int64) + 256 * np.arange(n)[:, None]
        counts = np.bincount(flat.ravel(), minlength=256 * n).reshape(n, 256)
        mean = counts @ table / pixels
        variance = (counts * (table - mean[:, None]) ** 2).sum(1) / pixels
        return mean, np.sqrt(variance)

    def match(self, delta: NDArray[np.float32], flat: NDArray[np.bool_]):
        """Find gain and offset; returns images, mean, sd, clipped fraction and gain."""
        n = len(delta)
        if self.space == "pixel":
            centre = float(self.curve.to_pixel(self.mean))
            nearby = self.curve.to_luminance([centre - 1, centre + 1])
            slope = max(float(nearby[1] - nearby[0]) / 2, 1e-6)  # cd/m2 per level
        else:
            centre, slope = self.mean, 1.0
        gain = np.where(flat, 0.0, self.sd / slope)
        offset = np.full(n, centre)
        best = np.full(n, np.inf)
        shown = np.zeros(delta.shape, np.uint8)
        mean, sd, clipped, final = np.zeros((4, n))
        active = np.arange(n)
        span = np.abs(delta).max((1, 2), initial=1e-6)
        for step in range(_STEPS):
            image, beyond = self.render(delta[active], gain[active], offset[active])
            m, s = self.measure(image)
            error = np.abs(m / self.mean - 1) + np.abs(s / self.sd - 1)
            error[flat[active]] = np.abs(m / self.mean - 1)[flat[active]]
            better = error < best[active]
            kept = active[better]
            best[kept], shown[kept] = error[better], image[better]
            mean[kept], sd[kept], clipped[kept] = m[better], s[better], beyond[better]
            final[kept] = gain[kept]
            # damped once it should have converged, so that rounding cannot keep it swinging
            pace = 1.0 if step < 12 else 0.5
            ratio = np.clip(self.sd / np.maximum(s, 1e-9), 0.25, 4.0) ** pace
            gain[active] = np.where(
                flat[active], 0.0, np.minimum(gain[active] * ratio, _MAX_GAIN / span[active])
            )
            offset[active] += np.clip(pace * (self.mean - m) / slope, -60, 60)
            active = active[best[active] > 0.1 * self.tolerance]
            if not len(active):
                break
        return shown, mean, sd, clipped, final
