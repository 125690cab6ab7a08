"""Score deconvolution of indicators that rise in milliseconds, of which no recordings are here.

    python benchmarks/imaging/fast_indicators.py [--indicators jGCaMP8m]
        [--rates 30 7.5] [--cells 6] [--peaks 1.5 3 6 15] [--weights network.safetensors] [--json]

Recordings of 180 s as a microscope at 122 Hz makes them, averaged to the rate: kinetics drawn
around those of the indicator, a slow tail, supralinear and saturating, amplitude that varies,
photon noise, neuropil with the indicator's own speed, drift, bleaching and dips of motion. Cells
fire in four ways: in rare bursts of up to a dozen spikes at 80-200 Hz, to gratings, in up states,
or steadily at 5-15 Hz. A peak is the height of one spike over the noise at 30 Hz. Nothing is shared
with the simulation that the network learned from. Scores as in `deconvolution.py`; the indicator's
name is told, or not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from deconvolution import OF_THE_SET, average_to, remove_baseline, score, use_weights
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve

NATIVE_HZ, FINE_HZ = 122.0, 1220.0
SECONDS = 180.0
KINETICS = {  # ranges of rise and decay (s) in neurons in vivo
    "jGCaMP8f": ((0.002, 0.005), (0.06, 0.13)),
    "jGCaMP8m": ((0.002, 0.005), (0.10, 0.25)),
    "jGCaMP8s": ((0.003, 0.008), (0.25, 0.60)),
}
METHODS = {
    "derivative": ("derivative", {}),
    "oasis_ar2, told": ("oasis_ar2", {"indicator": OF_THE_SET}),
    "network": ("network", {}),
    "network, told": ("network", {"indicator": OF_THE_SET}),
}


def bursts(rng: np.random.Generator) -> NDArray:
    """Return times of rare bursts of 2 to 12 spikes, some of them single ones."""
    out = []
    for begin in rng.uniform(0, SECONDS, rng.poisson(0.25 * SECONDS)):
        more = 0 if rng.random() < 0.4 else int(rng.integers(1, 12))
        interval = 1 / rng.uniform(80, 200)
        out.append(begin + np.cumsum([0.0, *rng.gamma(4, interval / 4, more)]))
    return np.concatenate(out)


def thinned(rng: np.random.Generator, rate_hz: NDArray) -> NDArray:
    """Return times of a Poisson process whose rate is given every millisecond."""
    time = np.arange(len(rate_hz)) / 1000
    return time[rng.random(len(time)) < np.minimum(rate_hz, 150) / 1000]


def smooth(rng: np.random.Generator, seconds: float) -> NDArray:
    """Return Gaussian noise of unit variance, of the given smoothness, every millisecond."""
    values = gaussian_filter1d(rng.normal(size=int(SECONDS * 100)), 100 * seconds)
    return np.repeat(values / values.std(), 10)


def gratings(rng: np.random.Generator) -> NDArray:
    """Return responses to gratings of 2 s, one phase better than the others, partly doublets."""
    time = np.arange(int(SECONDS * 1000)) / 1000
    tuning = rng.gamma(0.4, 1.0, 200)[(time // 4).astype(int)]
    phase = np.maximum(np.sin(4 * np.pi * time + rng.uniform(0, 6)), 0)
    first = thinned(rng, 0.2 + 8 * tuning * phase * (time % 4 < 2))
    return np.concatenate([first, first[rng.random(len(first)) < 0.3] + rng.uniform(0.003, 0.008)])


def up_states(rng: np.random.Generator) -> NDArray:
    """Return spikes of slow up states."""
    return thinned(rng, 3 * np.maximum(smooth(rng, 0.3), 0) ** 1.5)


def steady(rng: np.random.Generator) -> NDArray:
    """Return spikes of a cell that fires all the time, at 5 to 15 Hz on average."""
    return thinned(rng, rng.uniform(5, 15) * np.exp(0.7 * smooth(rng, 0.4) - 0.25))


FIRING = {"bursts": bursts, "gratings": gratings, "up states": up_states, "steady": steady}


def recording(
    rng: np.random.Generator, indicator: str, firing: str, peak: float, fps: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Return edges of frames (s), trace and spike times (s) of one cell."""
    rise, decay = (rng.uniform(*limits) for limits in KINETICS[indicator])
    spikes = np.sort(FIRING[firing](rng)) + rng.uniform(0, 0.001)
    spikes = spikes[np.diff(spikes, prepend=-1) > 0.002]  # refractory
    spikes = spikes[(spikes > 0) & (spikes < SECONDS - 0.05)]
    time = np.arange(int(SECONDS * FINE_HZ)) / FINE_HZ
    size = np.histogram(spikes, np.append(time, SECONDS))[0].astype(float)
    size *= np.maximum(0.2, 1 + 0.2 * rng.normal(size=len(size)))
    lag = np.arange(0, 10 * decay, 1 / FINE_HZ)
    tail, tail_s = rng.uniform(0, 0.25), decay * rng.uniform(3, 6)
    kernel = (1 - tail) * np.exp(-lag / decay) + tail * np.exp(-lag / tail_s) - np.exp(-lag / rise)
    calcium = np.maximum(fftconvolve(size, kernel / kernel.max())[: len(time)], 0)
    power, half = rng.uniform(1.0, 1.6), rng.uniform(10, 40)
    light = calcium**power / (1 + (calcium / half) ** power) * (1 + half**-power)
    per = int(FINE_HZ / NATIVE_HZ)
    light = light[: len(light) // per * per].reshape(-1, per).mean(axis=1)
    time = np.arange(len(light)) / NATIVE_HZ
    noise = 1 / peak  # at 30 Hz, in heights of a spike
    sd = noise * np.sqrt(NATIVE_HZ / 30) * np.sqrt(1 + 0.2 * light)
    trace = light + sd * rng.normal(size=len(light))
    around = np.exp(-np.arange(0, 1, 1 / NATIVE_HZ) / decay)
    around = np.convolve(rng.poisson(30 / NATIVE_HZ, len(light)), around)[: len(light)]
    trace += rng.uniform(0, 0.5) * noise * (around - around.mean()) / around.std()
    slow = np.interp(time, np.arange(int(SECONDS * 1000)) / 1000, smooth(rng, 8.0))
    trace += rng.uniform(0, 0.15) * slow + rng.uniform(-0.1, 0.3) * np.exp(-time / 40)
    for middle in rng.uniform(0, SECONDS, rng.poisson(SECONDS / 40)):
        trace -= rng.uniform(0, 1.5) * np.exp(-0.5 * ((time - middle) / 0.15) ** 2)
    edges, trace = average_to(time, trace, fps)
    return edges, remove_baseline(trace, fps).astype(np.float32), spikes


def compare(indicator: str, firing: str, peak: float, fps: float, cells: int) -> dict[str, dict]:
    """Return medians over cells of every method's scores."""
    from pipeline.imaging.deconvolution import deconvolvers

    rows: dict[str, list] = {name: [] for name in METHODS}
    for cell in range(cells):
        names = [list(KINETICS).index(indicator), list(FIRING).index(firing)]
        rng = np.random.default_rng([*names, round(10 * peak), cell])
        edges, trace, spikes = recording(rng, indicator, firing, peak, fps)
        for name, (method, params) in METHODS.items():
            told = {k: indicator if v is OF_THE_SET else v for k, v in params.items()}
            activity = deconvolvers[method](trace[None], fps, **told).activity[0]
            rows[name].append(score(activity, edges, spikes))
    return {
        name: {key: float(np.median([row[key] for row in found])) for key in ("r40", "r100")}
        for name, found in rows.items()
    }


def main() -> None:
    """Print one line per indicator, rate, way of firing and noise level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--indicators", nargs="+", choices=KINETICS, default=["jGCaMP8m"])
    parser.add_argument("--rates", nargs="+", type=float, default=[30.0, 7.5], help="Hz")
    parser.add_argument("--peaks", nargs="+", type=float, default=[1.5, 3.0, 6.0, 15.0])
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--weights", type=Path, help="of the network, instead of those shipped")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.weights:
        use_weights(options.weights)
    table = {}
    for fps in options.rates:
        for indicator in options.indicators:
            for firing in FIRING:
                for peak in options.peaks:
                    found = compare(indicator, firing, peak, fps, options.cells)
                    table[f"{fps:g} Hz, {indicator}, {firing}, peak {peak:g}"] = found
    if options.json:
        print(json.dumps(table))
        return
    for label, found in table.items():
        cells = "  ".join(f"{n} {v['r40']:.3f}/{v['r100']:.3f}" for n, v in found.items())
        print(f"{label:40s} {cells}")
    for name in METHODS:
        behind = [
            label
            for label, found in table.items()
            if any(found[name][key] < found["derivative"][key] for key in ("r40", "r100"))
        ]
        middle = [np.median([found[name][k] for found in table.values()]) for k in ("r40", "r100")]
        print(f"{name}: median {middle[0]:.3f}/{middle[1]:.3f}, behind the derivative: {behind}")


if __name__ == "__main__":
    main()
