"""Whether a scan is fit for use, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter
from scipy.signal import find_peaks

from pipeline.imaging.motion.fixed import fixed_pattern
from pipeline.imaging.movie import Movie
from pipeline.imaging.summary import PhotonGain, photon_gain
from pipeline.registry import Registry

quality_methods = Registry("quality check")


@dataclass(frozen=True)
class Evidence:
    """What a verdict on one field rests on.

    Attributes
    ----------
    raw : Movie
        As recorded: interpolation lowers the noise that the photon gain is read from.
    intensity, contrast : array, shape (frames,)
        Mean, and 99th minus 1st percentile, of every frame (gray levels).
    raster_drift_px : float or None
        Change of the raster phase over the scan (px).
    motion_rms_px, motion_outliers : float
        Root mean square displacement (px), share of frames whose shift was not believed.
    motion_accepted : bool
        False if correcting made the movie worse.
    """

    raw: Movie
    intensity: NDArray[np.floating]
    contrast: NDArray[np.floating]
    raster_drift_px: float | None = None
    motion_rms_px: float = 0.0
    motion_outliers: float = 0.0
    motion_accepted: bool = True


@dataclass(frozen=True)
class Finding:
    """One reason for which a scan is not fit.

    Attributes
    ----------
    name : str
        Of the number that is out of its limits.
    value, limit : float
    text : str
        What it means and what can be done.
    """

    name: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class Quality:
    """Numbers of one field, and what is wrong with it.

    Attributes
    ----------
    mean_intensity, contrast : float
        Means over frames (gray levels).
    intensity_drift : float
        Change from begin to end by a robust line, as a share of the mean above the zero level.
    gain : PhotonGain
    photons : float
        Mean photons per pixel and frame; NaN if there is no photon gain.
    saturated : float
        Share of pixels, in frames spread over the scan, at the highest value of their type or at
        a ceiling below it.
    epileptiform_per_min : float
        Interictal events per minute.
    findings : list of Finding
        Empty for a scan that is fit.
    """

    mean_intensity: float
    contrast: float
    intensity_drift: float
    gain: PhotonGain
    photons: float
    saturated: float
    epileptiform_per_min: float
    findings: list[Finding]

    @property
    def fit(self) -> bool | None:
        """Nothing is out of its limits; None if nothing was measured."""
        return None if np.isnan(self.mean_intensity) else not self.findings


def not_measured() -> Quality:
    """Return the quality of a field of which no movie is there."""
    nan = float("nan")
    return Quality(nan, nan, nan, PhotonGain(nan, nan), nan, nan, nan, [])


def epileptiform_events(
    intensity: NDArray,
    fps: float,
    *,
    zero_level: float = 0.0,
    prominence: float = 0.2,
    max_width_s: float = 0.4,
) -> NDArray[np.intp]:
    """Return the frames of brief events of the whole field, as in interictal activity.

    Parameters
    ----------
    intensity : array, shape (frames,)
        Mean of every frame (gray levels).
    fps : float
        Frames per second (Hz).
    zero_level : float
        Gray level without light.
    prominence : float
        Least height of an event above its surroundings, in dF/F of the whole field; eight standard
        deviations of the frame-to-frame noise where that is more.
    max_width_s : float
        Largest width at half prominence (s): waves of normal activity last longer.

    References
    ----------
    Steinmetz et al. (2017), eNeuro, doi:10.1523/ENEURO.0207-17.2017
    """
    light = np.asarray(intensity, np.float64) - zero_level
    base = percentile_filter(light, 50, size=max(3, int(30 * fps) | 1), mode="nearest")
    relative = light / np.maximum(base, 1e-9 + 0.01 * np.abs(light).max(initial=0.0)) - 1
    noise = 1.4826 * np.median(np.abs(np.diff(relative))) / np.sqrt(2) if len(light) > 1 else 0.0
    # a frame is the shortest event that can be seen; in a dark scan noise alone passes 0.2
    longest = max(max_width_s * fps, 1.5)
    return find_peaks(relative, prominence=max(prominence, 8 * noise), width=(None, longest))[0]


def relative_drift(values: NDArray, zero_level: float = 0.0) -> float:
    """Return the change over a recording by a Theil-Sen line, over the mean above zero."""
    values = np.asarray(values, np.float64)
    blocks = np.array([np.median(part) for part in np.array_split(values, min(40, len(values)))])
    i, j = np.triu_indices(len(blocks), 1)
    if len(i) == 0:
        return float("nan")  # one moment tells of no change
    slope = float(np.median((blocks[j] - blocks[i]) / (j - i)))
    level = float(blocks.mean()) - zero_level
    return slope * len(blocks) / level if level > 0 else float("nan")


def saturated_share(movie: Movie, *, frames: int = 64) -> float:
    """Return the share of pixels at a ceiling, in frames spread over the movie.

    The ceiling is the highest value seen, if it is the type's highest, or if so many pixels share
    it that they were cut off: a thousandth of all, and three times as many as any of the ten
    values below it, which a tail of the distribution never has.
    """
    step = max(1, movie.shape[0] // frames)
    sample = np.stack([np.asarray(movie[t : t + 1])[0] for t in range(0, movie.shape[0], step)])
    values, counts = np.unique(sample, return_counts=True)
    if len(values) < 2:
        return 0.0
    share = counts[-1] / sample.size
    if sample.dtype.kind in "iu" and values[-1] == np.iinfo(sample.dtype).max:
        return float(share)
    return float(share) if share > 1e-3 and counts[-1] > 3 * counts[-11:-1].max() else 0.0


@quality_methods.register("limits", default=True, revision=2)
def limits(
    evidence: Evidence,
    *,
    min_photons: float = 0.05,
    min_contrast: float = 1.0,
    max_intensity_drift: float = 0.5,
    max_saturated: float = 0.01,
    max_epileptiform_per_min: float = 3.0,
    max_raster_drift_px: float = 1.0,
    max_motion_rms_um: float = 10.0,
    max_motion_outliers: float = 0.1,
    max_fixed: float = 0.01,
    um_per_px_if_unknown: float = 1.0,
) -> Quality:
    """Compare every number with its limit.

    Parameters
    ----------
    evidence : Evidence
    min_photons : float
        Photons per pixel and frame.
    min_contrast : float
        Gray levels between the 1st and the 99th percentile of a frame, mean over frames.
    max_intensity_drift : float
        Change of the brightness over the scan, as a share of its mean: bleaching, lost water under
        the objective, the field leaving the focus.
    max_saturated : float
        Share of pixels at the ceiling of the digitizer.
    max_epileptiform_per_min : float
        Brief events of the whole field per minute.
    max_raster_drift_px : float
        Change of the raster phase over the scan (px).
    max_motion_rms_um, max_motion_outliers : float
        Root mean square displacement (um); share of frames whose shift was not believed.
    max_fixed : float
        Share of the field that is fixed to the scanner: lines, borders, stuck or dead pixels.
    um_per_px_if_unknown : float
        Size of a pixel where the recording does not say (um).

    Returns
    -------
    Quality
    """
    gain = photon_gain(evidence.raw)
    zero = gain.zero_level if np.isfinite(gain.zero_level) else 0.0
    intensity = float(np.mean(evidence.intensity))
    photons = (intensity - zero) / gain.gain if gain.gain > 0 else float("nan")
    minutes = len(evidence.intensity) / evidence.raw.fps / 60
    events = epileptiform_events(evidence.intensity, evidence.raw.fps, zero_level=zero)
    size = evidence.raw.um_per_px or (um_per_px_if_unknown, um_per_px_if_unknown)
    quality = Quality(
        mean_intensity=intensity,
        contrast=float(np.mean(evidence.contrast)),
        intensity_drift=relative_drift(evidence.intensity, zero),
        gain=gain,
        photons=photons,
        saturated=saturated_share(evidence.raw),
        epileptiform_per_min=len(events) / max(minutes, 1e-9),
        findings=[],
    )
    rms_um = evidence.motion_rms_px * float(np.mean(size))
    drift_px = abs(evidence.raster_drift_px or 0.0)
    checks = [
        ("photons", -photons, -min_photons, "too dark: more power, or a lower frame rate"),
        ("contrast", -quality.contrast, -min_contrast, "nothing is seen: shutter, focus, channel"),
        (
            "intensity_drift",
            abs(quality.intensity_drift),
            max_intensity_drift,
            "brightness changes: bleaching, lost immersion, or drift in depth",
        ),
        ("saturated", quality.saturated, max_saturated, "digitizer at its ceiling: lower the gain"),
        (
            "epileptiform",
            quality.epileptiform_per_min,
            max_epileptiform_per_min,
            "brief events of the whole field: interictal activity, or light from the monitor",
        ),
        ("raster_drift", drift_px, max_raster_drift_px, "scanner was not yet warm"),
        ("motion_rms", rms_um, max_motion_rms_um, "animal moves the field: check the head plate"),
        (
            "motion_outliers",
            evidence.motion_outliers,
            max_motion_outliers,
            "many frames without a believable shift",
        ),
        (
            "motion_refused",
            float(not evidence.motion_accepted),
            0.5,
            "motion correction made it worse and was not applied",
        ),
    ]
    checks.append(
        (
            "fixed_pattern",
            float(fixed_pattern(evidence.raw).mean()),
            max_fixed,
            "lines, borders or pixels fixed to the scanner: left out of motion correction only",
        )
    )
    quality.findings.extend(_exceeded(checks))
    return quality


def _exceeded(checks: list[tuple[str, float, float, str]]) -> Iterator[Finding]:
    for name, value, limit, text in checks:
        if value > limit:  # NaN, what could not be measured, is no finding
            yield Finding(name, abs(value), abs(limit), text)
