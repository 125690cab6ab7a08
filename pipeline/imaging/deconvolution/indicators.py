"""Kinetics of calcium indicators, and their estimation from traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from pipeline.parameters import Rule


@dataclass(frozen=True)
class Kinetics:
    """Response to one action potential: difference of exponentials with two time constants (s)."""

    rise_s: float
    decay_s: float


# Single action potentials in mouse cortex in vivo. Decay: half-decay time / ln 2; rise: so that the
# peak falls where it was measured. Chen et al. 2013 doi:10.1038/nature12354 (GCaMP6), Dana et al.
# 2019 doi:10.1038/s41592-019-0435-6 (jGCaMP7), Zhang et al. 2023 doi:10.1038/s41586-023-05828-9 (8)
INDICATORS = {
    "GCaMP6s": Kinetics(0.060, 0.80),
    "GCaMP6m": Kinetics(0.025, 0.39),
    "GCaMP6f": Kinetics(0.013, 0.205),
    "jGCaMP7s": Kinetics(0.030, 0.90),
    "jGCaMP7f": Kinetics(0.016, 0.38),
    "jGCaMP8s": Kinetics(0.005, 0.44),
    "jGCaMP8m": Kinetics(0.004, 0.20),
    "jGCaMP8f": Kinetics(0.004, 0.10),
}


def _folded(name: str) -> str:
    return name.lower().removeprefix("j")


def kinetics_of(name: str) -> Kinetics:
    """Return the kinetics of a named indicator; case and the leading j do not matter.

    Raises
    ------
    ValueError
        If it is not in the table.
    """
    known = {_folded(key): value for key, value in INDICATORS.items()}
    key = _folded(str(name))
    if key not in known:
        raise ValueError(
            f"no indicator {name!r}; there are {sorted(INDICATORS)}, or give rise_s and decay_s"
        )
    return known[key]


def resolve(
    indicator: str | None, rise_s: float | None, decay_s: float | None
) -> tuple[float | None, float | None]:
    """Return (rise_s, decay_s): what is given, else the indicator's, else None.

    Raises
    ------
    ValueError
        If a time constant is not positive or the rise is no shorter than the decay.
    """
    if indicator is not None:
        table = kinetics_of(indicator)
        rise_s = table.rise_s if rise_s is None else rise_s
        decay_s = table.decay_s if decay_s is None else decay_s
    for name, value in (("rise_s", rise_s), ("decay_s", decay_s)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive seconds, got {value}")
    if rise_s is not None and decay_s is not None and rise_s >= decay_s:
        raise ValueError(f"rise_s {rise_s} must be shorter than decay_s {decay_s}")
    return rise_s, decay_s


def autocovariance(normal: NDArray, lags: Sequence[int] | NDArray) -> NDArray[np.float64]:
    """Return the autocovariance at the given lags (frames), (units, lags); 0 beyond the end."""
    frames = normal.shape[1]
    out = np.zeros((len(normal), len(lags)))
    if frames == 0:
        return out
    centred = normal - normal.mean(axis=1, keepdims=True)
    for column, lag in enumerate(lags):
        if lag < frames:
            left, right = centred[:, : frames - lag], centred[:, lag:]
            out[:, column] = np.einsum("uf,uf->u", left, right, dtype=np.float64) / frames
    return out


def estimate_decay(normal: NDArray, fps: float) -> NDArray[np.float64]:
    """Return the decay time (s) of every unit from ratios of its autocovariance.

    Lag 0 is left out, since white noise is only there. Limits: half a frame and 3 s.
    """
    lags = max(4, int(np.ceil(0.8 * fps)))
    covariance = autocovariance(normal, range(lags + 1))
    now, later = covariance[:, 1:-1], covariance[:, 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (now * later).sum(1) / (now**2).sum(1)
    ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    lowest, highest = np.exp(-2.0), np.exp(-1 / (3.0 * fps))
    return -1 / (fps * np.log(np.clip(ratio, lowest, highest)))


def estimate_rise_decay(
    normal: NDArray, fps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (rise_s, decay_s) of every unit from a least-squares fit of AR(2) to lags >= 1.

    Where the roots are complex or not stable, the decay is that of `estimate_decay` and the rise a
    tenth of it.
    """
    decay = estimate_decay(normal, fps)
    rise = 0.1 * decay
    lags = max(6, int(np.ceil(0.8 * fps)))
    covariance = autocovariance(normal, range(lags + 1))
    for unit, gamma in enumerate(covariance):
        design = np.stack([gamma[2:-1], gamma[1:-2]], axis=1)
        if not np.any(design):
            continue
        g1, g2 = np.linalg.lstsq(design, gamma[3:], rcond=None)[0]
        root = g1**2 + 4 * g2
        if root <= 0:
            continue
        slow, fast = (g1 + np.sqrt(root)) / 2, (g1 - np.sqrt(root)) / 2
        if np.exp(-2.0) < slow < np.exp(-1 / (3.0 * fps)) and 0 < fast < 0.98 * slow:
            decay[unit], rise[unit] = -1 / (fps * np.log(slow)), -1 / (fps * np.log(fast))
    return rise, decay


def _is_known(name: str | None) -> bool:
    return name is None or _folded(name) in {_folded(known) for known in INDICATORS}


Indicator = Annotated[str | None, Rule(f"of {', '.join(INDICATORS)}", _is_known)]
"""Name of an indicator of the table, or None where the kinetics are given or estimated."""
