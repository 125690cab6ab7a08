"""Score deconvolution on simultaneous spikes and fluorescence, and time it.

    python benchmarks/imaging/deconvolution.py [--json] [--data FOLDER] [--methods a b]
        [--cache FOLDER] [--weights network.safetensors]

Traces are averaged to 30 and 7.5 Hz and freed of a 60-s 8th percentile; score: Pearson r of
activity with the true spike counts in bins of 40 and 100 ms and after a 50-ms Gaussian. Recordings
of one neuron are averaged, then the median over neurons is taken. No delay is fitted, nothing is
chosen per recording; variants "of the indicator" are told the name of the data set's indicator.
With a cache, scores that are in it already are not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, percentile_filter

OF_THE_SET = object()  # stands for the indicator of the data set at hand
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "spikes"


def average_to(time_s: NDArray, values: NDArray, fps: float) -> tuple[NDArray, NDArray]:
    """Average samples into frames of 1 / fps; return edges of the frames and their means."""
    edges = np.arange(time_s[0], time_s[-1], 1 / fps)
    frame = np.searchsorted(edges, time_s, side="right") - 1
    keep = frame < len(edges) - 1
    count = np.bincount(frame[keep], minlength=len(edges) - 1)
    total = np.bincount(frame[keep], weights=values[keep], minlength=len(edges) - 1)
    return edges, total / np.maximum(count, 1)


def remove_baseline(trace: NDArray, fps: float) -> NDArray:
    """Subtract the running 8th percentile of 60 s."""
    return trace - percentile_filter(trace, 8, size=max(3, int(60 * fps)), mode="nearest")


def pearson(a: NDArray, b: NDArray) -> float:
    """Correlate; 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


def score(activity: NDArray, edges: NDArray, spikes_s: NDArray) -> dict[str, float]:
    """Correlate activity of frames, spread evenly over their time, with binned spikes."""
    total = np.concatenate([[0], np.cumsum(activity, dtype=np.float64)])
    out = {}
    for name, width in (("r40", 0.04), ("r100", 0.1), ("g50", 0.01)):
        bins = np.arange(edges[0], edges[-1], width)
        counts = np.histogram(spikes_s, bins)[0].astype(float)
        spread = np.diff(np.interp(bins, edges, total))
        if name == "g50":
            counts, spread = gaussian_filter1d(counts, 5), gaussian_filter1d(spread, 5)
        out[name] = pearson(counts, spread)
    return out


def recordings(folder: Path, fps: float) -> list[dict]:
    """Read every recording at `fps`."""
    out = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            for i in range(int(data["n"])):
                stamp = data[f"time_s_{i:03d}"].astype(np.float64)
                edges, trace = average_to(stamp, data[f"dff_{i:03d}"], fps)
                out.append(
                    {
                        "set": path.stem,
                        "indicator": str(data["indicator"]),
                        "neuron": f"{path.stem}/{data[f'neuron_{i:03d}']}",
                        "edges": edges,
                        "trace": remove_baseline(trace, fps).astype(np.float32),
                        "spikes": data[f"spikes_s_{i:03d}"].astype(np.float64),
                    }
                )
    return out


def medians(rows: list[tuple[str, dict[str, float]]]) -> dict[str, float]:
    """Average rows of one neuron, then take the median over neurons."""
    out = {}
    for key in rows[0][1]:
        neurons: dict[str, list[float]] = {}
        for neuron, values in rows:
            neurons.setdefault(neuron, []).append(values[key])
        out[key] = round(float(np.median([np.mean(v) for v in neurons.values()])), 4)
    return out


def score_variant(table: list[dict], fps: float, method: str, params: dict) -> dict:
    """Return medians by data set, and over all neurons, of one method."""
    from pipeline.imaging.deconvolution import deconvolvers

    by_set: dict[str, list] = {}
    for one in table:
        told = {k: one["indicator"] if v is OF_THE_SET else v for k, v in params.items()}
        result = deconvolvers[method](one["trace"][None], fps, **told)
        row = (one["neuron"], score(result.activity[0], one["edges"], one["spikes"]))
        by_set.setdefault(one["set"], []).append(row)
    out = {name: medians(rows) for name, rows in by_set.items()}
    out["all"] = medians([row for rows in by_set.values() for row in rows])
    return out


def accuracy(folder: Path, fps: float, variants: dict, cache: Path | None = None) -> dict:
    """Return medians by variant and data set, of those in the cache without computing."""
    table = recordings(folder, fps)
    out = {}
    for label, (method, params) in variants.items():
        kept = cache / f"{label.replace(' ', '_')}_{fps:g}.json" if cache else None
        if kept and kept.exists():
            out[label] = json.loads(kept.read_text())
            continue
        out[label] = score_variant(table, fps, method, params)
        if kept:
            kept.write_text(json.dumps(out[label]))
    return out


SIMULATED = ("GCaMP6s", "GCaMP6f", "jGCaMP8s", "jGCaMP8m", "jGCaMP8f")
PEAK_OVER_NOISE = {"quiet": 6.0, "noisy": 2.5}  # of one spike at 30 Hz


def simulate(indicator: str, peak_over_noise: float, fps: float, *, seed: int) -> dict:
    """Return one recording of 200 s of an indicator of known kinetics, in the form of the others.

    Spikes come at real-valued times, in bouts and bursts; calcium goes through a Hill curve; noise
    is of photons and detector. Nothing is shared with the simulation that the network learned from.
    """
    from pipeline.imaging.deconvolution.indicators import kinetics_of

    kinetics, rng = kinetics_of(indicator), np.random.default_rng(seed)
    fine = 500.0
    time = np.arange(0, 200, 1 / fine)
    drive = gaussian_filter1d(rng.normal(size=len(time)), 0.6 * fine)
    rate = 8.0 * np.maximum(drive / drive.std() - 0.8, 0)
    spikes = time[rng.random(len(time)) < rate / fine] + rng.random() / fine
    burst = [spikes + k * rng.uniform(0.004, 0.009) for k in range(1, 4)]
    spikes = np.sort(np.concatenate([spikes, *(b[rng.random(len(b)) < 0.25] for b in burst)]))
    spikes = spikes[spikes < time[-1]]
    counts = np.histogram(spikes, np.append(time, time[-1] + 1 / fine))[0]
    t = np.arange(0, 8 * kinetics.decay_s, 1 / fine)
    kernel = np.exp(-t / kinetics.decay_s) - np.exp(-t / kinetics.rise_s)
    calcium = np.convolve(counts, kernel / kernel.max())[: len(time)]
    bound = calcium**1.4 / (calcium**1.4 + 12.0**1.4) * (1 + 12.0**1.4)
    edges, trace = average_to(time, bound, fps)
    sd = np.sqrt(fps / 30) / peak_over_noise
    trace = trace + sd * np.sqrt(1 + 0.1 * trace) * rng.normal(size=len(trace))
    return {
        "set": indicator,
        "indicator": indicator,
        "neuron": f"{indicator}/{seed}",
        "edges": edges,
        "trace": remove_baseline(trace, fps).astype(np.float32),
        "spikes": spikes,
    }


def simulated(fps: float, variants: dict, *, cells: int = 8) -> dict:
    """Return medians by variant and indicator, on simulated recordings of two noise levels."""
    out = {}
    for level, peak in PEAK_OVER_NOISE.items():
        table = [
            simulate(name, peak, fps, seed=100 * i + cell)
            for i, name in enumerate(SIMULATED)
            for cell in range(cells)
        ]
        for label, (method, params) in variants.items():
            out[f"{label}, {level}"] = score_variant(table, fps, method, params)
    return out


def speed(variants: dict, units: int = 200, frames: int = 10_000, fps: float = 30.0) -> dict:
    """Return traces per CPU second (all threads counted), best of two runs."""
    from pipeline.imaging.deconvolution import deconvolvers

    rng = np.random.default_rng(0)
    spikes = rng.poisson(0.02, (units, frames)).astype(np.float32)
    trace = np.zeros_like(spikes)
    for t in range(1, frames):
        trace[:, t] = 0.95 * trace[:, t - 1] + spikes[:, t]
    trace += rng.normal(0, 0.3, trace.shape).astype(np.float32)
    out = {}
    for label, (method, params) in variants.items():
        if OF_THE_SET in params.values():
            continue  # costs what the same with time constants costs
        count = units if method.startswith("oasis") or method == "derivative" else units // 10
        deconvolvers[method](trace[:4], fps, **params)  # compile
        cost = []
        for _ in range(2):
            begin = time.process_time()
            deconvolvers[method](trace[:count], fps, **params)
            cost.append(time.process_time() - begin)
        out[label] = round(count / min(cost), 1)
    return out


def variants_of(names: list[str] | None) -> dict:
    """Return label -> (method, parameters): all methods as they come, OASIS in all its forms."""
    from pipeline.imaging.deconvolution import deconvolvers

    out = {name: (name, {}) for name in deconvolvers}
    for name in ("network", "rise"):
        out[f"{name} of the indicator"] = (name, {"indicator": OF_THE_SET})
    sparse = {"soft": {"sparsity": 1.0}, "hard": {}, "noise": {}}
    for name in ("oasis_ar1", "oasis_ar2"):
        for constraint, extra in sparse.items():
            told = {"constraint": constraint, **extra}
            out[f"{name} {constraint}"] = (name, told)
            out[f"{name} {constraint} of the indicator"] = (name, {**told, "indicator": OF_THE_SET})
        out[f"{name} of the indicator"] = (name, {"indicator": OF_THE_SET})
    out["oasis_ar1 tau given"] = ("oasis_ar1", {"decay_s": 0.5})
    out["oasis_ar2 tau given"] = ("oasis_ar2", {"rise_s": 0.03, "decay_s": 0.5})
    return {k: v for k, v in out.items() if not names or k in names or v[0] in names}


def use_weights(path: Path) -> None:
    """Let the network run with other weights, for example of another training."""
    from pipeline.imaging.deconvolution import learned

    other = learned.load_network(path)
    learned.load_network = lambda: other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--rates", nargs="*", type=float, default=[30.0, 7.5], help="Hz")
    parser.add_argument("--no-speed", action="store_true", help="accuracy only")
    parser.add_argument("--cache", type=Path, help="folder of scores that need no computing again")
    parser.add_argument("--weights", type=Path, help="of the network, instead of those shipped")
    parser.add_argument("--simulated", action="store_true", help="indicators not in the data, too")
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    if args.weights:
        use_weights(args.weights)
    variants = variants_of(args.methods)
    report = {} if args.no_speed else {"traces_per_cpu_s": speed(variants)}
    if args.data.is_dir():
        for fps in args.rates:
            report[f"{fps:g} Hz"] = accuracy(args.data, fps, variants, args.cache)
    if args.simulated:
        for fps in args.rates:
            report[f"simulated, {fps:g} Hz"] = simulated(fps, variants)
    if args.json:
        print(json.dumps(report))
        return
    for title, rows in report.items():
        print(title)
        for label, values in rows.items():
            if isinstance(values, dict):
                cells = (
                    f"{k} {v['r40']:.3f}/{v['r100']:.3f}/{v['g50']:.3f}" for k, v in values.items()
                )
                values = "  ".join(cells)
            print(f"  {label:34s} {values}")


if __name__ == "__main__":
    main()
