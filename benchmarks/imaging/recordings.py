"""Score raster, motion, cells and traces on simulated movies, from TIFF files as a rig writes them.

    python benchmarks/imaging/recordings.py [--size quick|usual|large] [--levels easy medium hard]
                                 [--seeds 0 1 2] [--motion NAME] [--json] [--folder DIR]
    python benchmarks/imaging/recordings.py --speed

Every case is recorded by `pipeline.simulate` (kept in DIR if given) and processed by
`pipeline.imaging.process` in a process of its own, so that CPU seconds and peak memory are its own.

- motion: error of the displacement at the active cells, in all frames, less one constant per axis;
  root mean square and 95th percentile of its length (px). `frame` is the error of the frame's mean.
- cells: active ones with their center in the field; centroids within half a soma, or IoU > 0.5.
  Silent cells, and those whose center lies outside, are neither asked for nor counted as false.
- traces: mean Pearson r with the true fluorescence over the cells found. Oracle: the same cells by
  true masks, raster and line-by-line shifts, mean in the mask - 0.7 annulus; `best`: the best of
  that, of weights by brightness, and of a coefficient fitted to the truth.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shift_image
from scipy.optimize import linear_sum_assignment

# side (px, um), active cells, images shown: about 1,100, 3,000 and 10,000 frames at 30 Hz
SIZES = {"quick": (160, 27, 29), "usual": (256, 68, 99), "large": (512, 272, 380)}
SOMA_UM = 12.6  # twice the mean radius in the simulator
# photons per pixel and frame from neuropil at rest; scale of motion; between lines of a frame (px)
LEVELS = {
    "easy": {"photons": 1.2, "motion": 1.0, "nonrigid_px": 0.05},
    "medium": {"photons": 0.6, "motion": 3.2, "nonrigid_px": 0.15},
    "hard": {"photons": 0.3, "motion": 4.5, "nonrigid_px": 0.3},
}


def record(level: str, seed: int, folder: Path, size: str) -> None:
    """Record one case at 30 Hz and 1 um a pixel."""
    from pipeline.simulate import Detector, Mouse

    how = LEVELS[level]
    side, cells, shown = SIZES[size]
    mouse = Mouse(
        seed=100 + seed,
        n_cells=cells,
        field_px=(side, side),
        um_per_px=1.0,
        fps=30.0,
        detector=Detector(photons=how["photons"]),
    )
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (shown, 36, 64)).astype(np.uint8)
    moves = {"drift_px": 1.0, "jitter_px": 0.12, "running_px": 1.5}
    moves = {name: value * how["motion"] for name, value in moves.items()}
    mouse.record(
        images,
        folder,
        repeated=0,
        eye="none",
        own_clocks=False,
        motion={**moves, "nonrigid_px": how["nonrigid_px"], "limit_px": 8.0},
    )


def process_case(folder: Path, motion: str | None) -> dict[str, float]:
    """Run the chain on a recording; return CPU seconds of every step and the peak memory."""
    from pipeline.imaging import process

    marks: list[tuple[str, float]] = []
    process(
        sorted(folder.glob("*.tif")),
        folder / "out",
        motion=motion,
        progress=lambda line: marks.append((line, time.process_time())),
    )
    marks.append(("end", time.process_time()))
    out = {f"cpu_{name}": later - at for (name, at), (_, later) in pairwise(marks)}
    out["cpu"] = marks[-1][1]
    out["rss_mb"] = peak_mb()
    return out


def peak_mb() -> float:
    """Return the most memory that this process ever held (MB)."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts what the parent held when it started this process
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def true_displacement(truth: dict[str, NDArray], rows: NDArray, height: int) -> NDArray:
    """Return the displacement y, x of content at rows (1 or frames, n), (2, frames, n)."""
    out = []
    for axis in "yx":
        phase = 2 * np.pi * rows / height
        wave = np.stack([np.cos(phase), np.sin(phase)])
        if wave.shape[1] == 1:  # the same rows in every frame
            wave = np.broadcast_to(wave, (2, len(truth["shifts_y"]), wave.shape[2]))
        warp = np.einsum("tk,ktr->tr", truth[f"warp_{axis}"], wave)
        out.append(truth[f"shifts_{axis}"][:, None] + warp)
    return np.array(out)


def found_displacement(result: dict[str, NDArray], yx: NDArray, shape: tuple[int, int]) -> NDArray:
    """Return the displacement y, x that the chain gives at places (n, 2), (2, frames, n)."""
    from pipeline.imaging.movie import interpolation_matrix

    rigid = np.stack([result["shifts_y"], result["shifts_x"]])[:, :, None]
    blocks = result.get("block_shifts")
    if blocks is None or not blocks.size:
        return np.broadcast_to(rigid, (*rigid.shape[:2], len(yx)))
    places = np.clip(np.round(yx).astype(int), 0, np.array(shape) - 1)
    down = interpolation_matrix(result["block_y_px"], shape[0])[places[:, 0]]
    across = interpolation_matrix(result["block_x_px"], shape[1])[places[:, 1]]
    return rigid + np.einsum("atij,ni,nj->atn", blocks, down, across)


def length_of(error: NDArray) -> NDArray:
    """Return the length of an error (2, ...), less the median of each axis."""
    error = error - np.median(error.reshape(2, -1), axis=1).reshape(2, *[1] * (error.ndim - 1))
    return np.sqrt((error**2).sum(axis=0))


def counts(hit: NDArray, on_cell: NDArray, wanted: NDArray) -> tuple[float, float, float]:
    """Return precision, recall and F1 from found units' true cells (-1: none)."""
    hits, wrong = int(wanted[hit[hit >= 0]].sum()), int((~on_cell).sum())
    precision, recall = hits / max(hits + wrong, 1), hits / max(int(wanted.sum()), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def assign(cost: NDArray, limit: float) -> NDArray[np.intp]:
    """Pair rows with columns one to one at least cost; -1 above the limit."""
    out = np.full(len(cost), -1)
    if cost.size:
        rows, columns = linear_sum_assignment(np.where(cost <= limit, cost, 1e6))
        good = cost[rows, columns] <= limit
        out[rows[good]] = columns[good]
    return out


def correlations(a: NDArray, b: NDArray) -> NDArray:
    """Return Pearson r of the rows of two arrays."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a.astype(float), b.astype(float)))
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return (a * b).sum(1) / np.maximum(norm, 1e-12)


def oracle_traces(folder: Path, truth: dict, cells: NDArray) -> dict[str, NDArray]:
    """Return traces of cells by the true masks, raster and shifts of every line."""
    from pipeline.imaging.extraction import neuropil_rings
    from pipeline.imaging.movie import MotionCorrected, RasterCorrected
    from pipeline.imaging.tiff import open_scan

    raw = open_scan(sorted(folder.glob("*.tif"))).movie()
    n_frames, height, width = raw.shape
    rows = np.arange(height)[None] + true_displacement(truth, np.arange(height)[None], height)[0]
    field = true_displacement(truth, rows, height).astype(np.float32)
    zero = np.zeros(n_frames)
    movie = MotionCorrected(
        RasterCorrected(raw, float(truth["raster_px"])),
        zero,
        zero,
        block_y_shifts=field[0][:, :, None],
        block_x_shifts=field[1][:, :, None],
        block_centers=(np.arange(height), np.array([width / 2])),
    )
    masks = truth["masks"]
    rings = neuropil_rings(masks[truth["in_field"]], gap_px=2, pixels=400)
    rings = rings[np.searchsorted(np.flatnonzero(truth["in_field"]), cells)]
    total, readers = np.zeros((height, width)), []
    for _, frames in movie.batches(128):
        total += frames.sum(axis=0)
    bright = np.maximum(total / n_frames - np.percentile(total / n_frames, 5), 0)
    for weights in (masks[cells].astype(float), masks[cells] * bright, rings.astype(float)):
        flat = weights.reshape(len(cells), -1)
        readers.append(flat / np.maximum(flat.sum(1, keepdims=True), 1e-12))
    reader = np.concatenate(readers).astype(np.float32)
    traces = np.concatenate(
        [reader @ frames.reshape(len(frames), -1).T for _, frames in movie.batches(128)], axis=1
    )
    mean, weighted, ring = np.split(traces, 3)
    return {"mean": mean, "weighted": weighted, "ring": ring}


def score(folder: Path) -> dict[str, float]:
    """Compare the chain's result with the truth."""
    with np.load(folder / "truth" / "truth.npz") as file:
        truth = dict(file)
    with np.load(folder / "out" / "imaging.npz") as file:
        result = dict(file)
    masks, keep = truth["masks"], result["keep"]
    height, width = masks.shape[1:]
    yx = truth["centroid_yx_px"]
    inside = ((yx >= 0) & (yx <= np.array([height, width]) - 1)).all(1)
    wanted = truth["active"] & inside
    cells = np.flatnonzero(wanted)
    rows = yx[cells, 0][None] + true_displacement(truth, yx[cells, 0][None], height)[0]
    there = true_displacement(truth, rows, height)
    difference = found_displacement(result, yx[cells], (height, width)) - there
    error = length_of(difference)
    # the template may lie anywhere: bring the truth to where the chain put it
    origin = np.median(difference.reshape(2, -1), axis=1)
    yx = yx - origin
    moved = np.array([shift_image(mask.astype(np.float32), -origin, order=1) for mask in masks])
    masks = moved > 0.5
    mean_error = length_of(np.stack([result[f"shifts_{a}"] - truth[f"shifts_{a}"] for a in "yx"]))
    out = {
        "true_rms": float(np.sqrt(np.mean(length_of(there) ** 2))),
        "motion_rms": float(np.sqrt(np.mean(error**2))),
        "motion_p95": float(np.percentile(error, 95)),
        "frame_rms": float(np.sqrt(np.mean(mean_error**2))),
        "raster_error": float(result["raster_px"] - truth["raster_px"]),
    }
    found = result["masks"][keep]
    pixels = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    centre = np.array([pixels[mask].mean(0) for mask in found]).reshape(-1, 2)
    distance = np.linalg.norm(centre[:, None] - yx[None], axis=2)
    a, b = (m.reshape(len(m), -1).astype(np.float32) for m in (found, masks))
    both = a @ b.T
    iou = both / np.maximum(a.sum(1)[:, None] + b.sum(1)[None] - both, 1)
    near = assign(distance, SOMA_UM / 2)
    over = assign(1 - iou, 0.5)
    out["precision"], out["recall"], out["f1"] = counts(near, near >= 0, wanted)
    out["iou_precision"], out["iou_recall"], out["f1_iou"] = counts(over, over >= 0, wanted)
    units = np.flatnonzero((near >= 0) & wanted[near])
    cell = near[units]
    true = truth["dff"][np.searchsorted(truth["activity_cell_id"], truth["cell_id"][cell])]
    out["n_wanted"], out["n_found"] = len(cells), int(keep.sum())
    out["r_raw"] = float(np.mean(correlations(result["traces"][keep][units], true)))
    out["r_denoised"] = float(np.mean(correlations(result["denoised"][keep][units], true)))
    oracle = oracle_traces(folder, truth, cell)
    plain = correlations(oracle["mean"] - 0.7 * oracle["ring"], true)
    tried = [plain]
    for trace in (oracle["mean"], oracle["weighted"]):
        tried += [correlations(trace - c * oracle["ring"], true) for c in np.arange(0, 1.3, 0.1)]
    out["r_oracle"], out["r_oracle_best"] = float(plain.mean()), float(np.max(tried, 0).mean())
    out["r_ratio"] = out["r_raw"] / out["r_oracle"]
    return out


COLUMNS = {
    "true_rms": ".2f",
    "motion_rms": ".3f",
    "motion_p95": ".3f",
    "frame_rms": ".3f",
    "raster_error": "+.3f",
    "precision": ".2f",
    "recall": ".2f",
    "f1": ".3f",
    "f1_iou": ".3f",
    "n_wanted": "d",
    "r_raw": ".3f",
    "r_oracle": ".3f",
    "r_oracle_best": ".3f",
    "r_ratio": ".3f",
    "r_denoised": ".3f",
    "cpu_motion": ".1f",
    "cpu_segmentation": ".1f",
    "cpu": ".1f",
    "rss_mb": ".0f",
}


def speed(frames: int = 600, side: int = 512) -> None:
    """Print CPU-ms a frame of raster and motion: estimation, and estimation with correction.

    The first template, a constant of some seconds, is spread over 3,000 frames.
    """
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    from pipeline.imaging.motion import corrected_movie, motion_methods
    from pipeline.imaging.motion.rigid import first_template
    from pipeline.imaging.movie import ArrayMovie, RasterCorrected

    rng = np.random.default_rng(0)
    image = np.exp(0.5 * 4 * gaussian_filter(rng.normal(size=(side + 40, side + 40)), 1.5))
    walk = gaussian_filter1d(rng.normal(size=(2, frames)), 8, axis=1)
    places = np.round(20 + 3 * walk / walk.std()).astype(int).clip(0, 40)
    light = np.stack([image[y : y + side, x : x + side] for y, x in places.T])
    movie = RasterCorrected(ArrayMovie(rng.poisson(light).astype(np.int16), 30.0, (1.0, 1.0)), 0.5)
    begin = time.process_time()
    first_template(movie, max_shift=30, smooth_px=0.5)
    template = time.process_time() - begin
    for name in ("rigid", "piecewise"):
        begin = time.process_time()
        result = motion_methods[name](movie)
        middle = time.process_time()
        for _ in corrected_movie(movie, result).batches(64):
            pass
        found, both = middle - begin - template, time.process_time() - begin - template
        extra = 1000 * template / 3000
        print(
            f"{name}: estimation {1000 * found / frames + extra:.2f} CPU-ms a frame, "
            f"with correction {1000 * both / frames + extra:.2f}"
        )


def main() -> None:
    """Record, process and score the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="usual", help="large: 512 x 512 x 10,000")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--motion", help="motion method; default the recommended one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where recordings are kept, and found again")
    parser.add_argument("--speed", action="store_true", help="only time motion at 512 x 512")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(process_case(options.worker, options.motion)))
        return
    if options.speed:
        speed()
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        base = options.folder or Path(scratch)
        for level in options.levels:
            for seed in options.seeds:
                folder = base / f"{level}{seed}{options.size.removeprefix('usual')}"
                if not (folder / "recording.json").exists():
                    record(level, seed, folder, options.size)
                command = [sys.executable, __file__, "--worker", str(folder)]
                command += ["--motion", options.motion] if options.motion else []
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append({"level": level, "seed": seed, **json.loads(answer.stdout)})
                rows[-1] |= score(folder)
                if not options.json:
                    print_row(rows[-1], header=len(rows) == 1)
    if options.json:
        print(json.dumps(rows, indent=1))


def print_row(row: dict, *, header: bool) -> None:
    """Print one line of the table."""
    if header:
        print("| level | seed | " + " | ".join(COLUMNS) + " |")
        print("|---" * (len(COLUMNS) + 2) + "|")
    cells = [format(row[name], style) for name, style in COLUMNS.items()]
    print(f"| {row['level']} | {row['seed']} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
