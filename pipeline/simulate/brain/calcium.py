"""From firing rates to spikes and fluorescence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter


@dataclass(frozen=True)
class Indicator:
    """Kinetics of a calcium indicator in cortical neurons in vivo.

    Parameters
    ----------
    rise_s, decay_s : float
        Time constants of a difference of exponentials.
    amplitude : float
        Peak change of fluorescence of one action potential, relative to baseline.
    exponent : float
        Supralinearity of the sum of action potentials.
    """

    rise_s: float
    decay_s: float
    amplitude: float
    exponent: float = 1.0

    @property
    def peak_s(self) -> float:
        """Time from an action potential to the peak."""
        rate = self.decay_s * self.rise_s / (self.decay_s - self.rise_s)
        return rate * np.log(self.decay_s / self.rise_s)


# Decay from half-decay times divided by ln 2, rise so that the peak falls where it was measured,
# rounded: Chen et al. 2013 doi:10.1038/nature12354 (GCaMP6), Dana et al. 2019
# doi:10.1038/s41592-019-0435-6 (jGCaMP7), Zhang et al. 2023 doi:10.1038/s41586-023-05828-9 (8)
INDICATORS = {
    "GCaMP6s": Indicator(0.060, 0.80, 0.23, 1.15),
    "GCaMP6m": Indicator(0.025, 0.39, 0.13, 1.15),
    "GCaMP6f": Indicator(0.013, 0.205, 0.19, 1.2),
    "jGCaMP7f": Indicator(0.016, 0.38, 0.21, 1.15),
    "jGCaMP8s": Indicator(0.005, 0.44, 0.60, 1.0),
    "jGCaMP8m": Indicator(0.004, 0.20, 0.45, 1.0),
    "jGCaMP8f": Indicator(0.004, 0.10, 0.30, 1.0),
}
INDICATORS["GCaMP8m"] = INDICATORS["jGCaMP8m"]
SATURATION = 40.0  # (action potentials) calcium at which fluorescence is half of the linear one


def indicator(name: str) -> Indicator:
    """Return a named indicator.

    Raises
    ------
    ValueError
        If it is not in the table.
    """
    if name not in INDICATORS:
        raise ValueError(f"no indicator {name!r}; there are {sorted(INDICATORS)}")
    return INDICATORS[name]


def draw_spikes(
    rate_hz: NDArray, bin_s: float, order: NDArray, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Draw spike counts (units, bins) of processes that keep every `order`-th Poisson event."""
    events = rng.poisson(rate_hz * bin_s * order[:, None])
    total = np.cumsum(events, axis=1) + rng.integers(0, order)[:, None]
    kept = total // order[:, None]
    return np.diff(kept, axis=1, prepend=0).clip(0).astype(np.uint16)


def fluorescence(
    spikes: NDArray, bin_s: float, kinetics: Indicator, amplitude: NDArray
) -> NDArray[np.float32]:
    """Return relative fluorescence change dF/F (units, bins) at the ends of the bins."""
    rise, decay = np.exp(-bin_s / kinetics.rise_s), np.exp(-bin_s / kinetics.decay_s)
    peak = np.exp(-kinetics.peak_s / kinetics.decay_s) - np.exp(-kinetics.peak_s / kinetics.rise_s)
    counts = np.asarray(spikes, np.float64)
    # spikes fall anywhere in their bin: they have decayed for half a bin on average at its end
    slow = lfilter([np.sqrt(decay)], [1, -decay], counts, axis=1)
    fast = lfilter([np.sqrt(rise)], [1, -rise], counts, axis=1)
    calcium = np.maximum(slow - fast, 0) / peak
    response = calcium**kinetics.exponent / (1 + calcium / SATURATION)
    return (amplitude[:, None] * response).astype(np.float32)
