"""Score deconvolution on simultaneous spikes and fluorescence, and time it.

    python benchmarks/deconvolution.py [--json] [--data ../shared/data/spikes] [--methods a b]

Traces are averaged to 30 and 7.5 Hz and freed of a 60-s 8th percentile; score: Pearson r of
activity with the true spike counts in bins of 40 and 100 ms and after a 50-ms Gaussian. Recordings
of one neuron are averaged, then the median over neurons is taken. No delay is fitted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, percentile_filter

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "spikes"


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


def accuracy(folder: Path, fps: float, variants: dict) -> dict:
    """Return medians by variant and data set."""
    from pipeline.imaging.deconvolution import deconvolvers

    table = recordings(folder, fps)
    out = {}
    for label, (method, params) in variants.items():
        by_set: dict[str, list] = {}
        for one in table:
            result = deconvolvers[method](one["trace"][None], fps, **params)
            row = (one["neuron"], score(result.activity[0], one["edges"], one["spikes"]))
            by_set.setdefault(one["set"], []).append(row)
        out[label] = {name: medians(rows) for name, rows in by_set.items()}
        out[label]["all"] = medians([row for rows in by_set.values() for row in rows])
    return out


def speed(variants: dict, units: int = 200, frames: int = 10_000, fps: float = 30.0) -> dict:
    """Return traces per CPU second (all threads counted), best of three runs."""
    from pipeline.imaging.deconvolution import deconvolvers

    rng = np.random.default_rng(0)
    spikes = rng.poisson(0.02, (units, frames)).astype(np.float32)
    trace = np.zeros_like(spikes)
    for t in range(1, frames):
        trace[:, t] = 0.95 * trace[:, t - 1] + spikes[:, t]
    trace += rng.normal(0, 0.3, trace.shape).astype(np.float32)
    out = {}
    for label, (method, params) in variants.items():
        deconvolvers[method](trace[:4], fps, **params)  # compile
        cost = []
        for _ in range(3):
            begin = time.process_time()
            deconvolvers[method](trace, fps, **params)
            cost.append(time.process_time() - begin)
        out[label] = round(units / min(cost), 1)
    return out


def variants_of(names: list[str] | None) -> dict:
    """Return label -> (method, parameters): every method as it comes and OASIS's constraints."""
    from pipeline.imaging.deconvolution import deconvolvers

    out = {name: (name, {}) for name in deconvolvers}
    for name in ("oasis_ar1", "oasis_ar2"):
        for constraint in ("hard", "noise"):
            out[f"{name} {constraint}"] = (name, {"constraint": constraint})
    out["oasis_ar1 tau given"] = ("oasis_ar1", {"decay_s": 0.5})
    out["oasis_ar2 tau given"] = ("oasis_ar2", {"rise_s": 0.03, "decay_s": 0.5})
    return {k: v for k, v in out.items() if not names or k in names or v[0] in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--methods", nargs="*")
    args = parser.parse_args()
    variants = variants_of(args.methods)
    report = {"traces_per_cpu_s": speed(variants)}
    if args.data.is_dir():
        for fps in (30.0, 7.5):
            report[f"{fps:g} Hz"] = accuracy(args.data, fps, variants)
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
            print(f"  {label:22s} {values}")


if __name__ == "__main__":
    main()
