"""A recording of a laboratory's size: cells found, CPU time, memory and speed of the whole chain.

    python benchmarks/imaging/laboratory.py [--minutes 90] [--fps 8] [--cells 400] [--side 512]
                                    [--folder DIR] [--json]

The simulator writes the movie (15 CPU-ms a frame of 512 x 512: 11 minutes for 90 minutes at
8 Hz, 23 GB), once per folder. `pipeline.imaging.process` then runs in a process of its own, and
`SummaryImages`' pass after it. Cells are scored as in `benchmarks/imaging/recordings.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from recordings import peak_mb, process_case, score

COLUMNS = {
    "frames": "d",
    "n_wanted": "d",
    "recall": ".3f",
    "precision": ".3f",
    "motion_rms": ".3f",
    "r_raw": ".3f",
    "cpu_motion": ".0f",
    "cpu_segmentation": ".0f",
    "cpu_fluorescence": ".0f",
    "cpu_summary": ".0f",
    "cpu": ".0f",
    "rss_mb": ".0f",
}


def record(folder: Path, *, minutes: float, fps: float, cells: int, side: int) -> None:
    """Write one recording at 1 um a pixel."""
    from pipeline.simulate import Detector, Mouse

    mouse = Mouse(
        seed=107,
        n_cells=cells,
        field_px=(side, side),
        um_per_px=1.0,
        fps=fps,
        detector=Detector(photons=0.65),
    )
    shown = max(4, int(60 * minutes / 0.9))
    images = np.random.default_rng(7).integers(0, 256, (shown, 36, 64)).astype(np.uint8)
    mouse.record(images, folder, repeated=0, eye="none", own_clocks=False)


def summary_case(folder: Path) -> dict[str, float]:
    """Take the summary images of the corrected movie, as the table `SummaryImages` does."""
    from pipeline.imaging.movie import MotionCorrected, RasterCorrected
    from pipeline.imaging.summary import summarize
    from pipeline.imaging.tiff.scan import open_scan

    with np.load(folder / "out" / "imaging.npz") as file:
        found = {name: file[name] for name in file.files if "shift" in name or "_px" in name}
    raw = open_scan(sorted(folder.glob("*.tif"))).movie()
    blocks = {}
    if "block_shifts" in found:
        blocks["block_y_shifts"], blocks["block_x_shifts"] = found["block_shifts"]
        blocks["block_centers"] = (found["block_y_px"], found["block_x_px"])
    steady = RasterCorrected(raw, float(found["raster_px"]))
    movie = MotionCorrected(steady, found["shifts_y"], found["shifts_x"], **blocks)
    begin = time.process_time()
    summarize(movie, bin_frames=max(1, round(0.4 * movie.fps)))
    return {"cpu_summary": time.process_time() - begin, "rss_summary_mb": peak_mb()}


def main() -> None:
    """Record, process and score one recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where the recording is kept, and found again")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=("chain", "summary"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "chain":
        print(json.dumps(process_case(options.folder, None)))
        return
    if options.worker == "summary":
        print(json.dumps(summary_case(options.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "recording"
        if not (folder / "recording.json").exists():
            sizes = {name: getattr(options, name) for name in ("minutes", "fps", "cells", "side")}
            record(folder, **sizes)
        row: dict[str, float] = {}
        for part in ("chain", "summary"):
            command = [sys.executable, __file__, "--worker", part, "--folder", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row |= json.loads(done.stdout)
        row["cpu"] += row["cpu_summary"]
        with np.load(folder / "out" / "imaging.npz") as file:
            row["frames"] = len(file["shifts_y"])
        row |= score(folder)
    if options.json:
        print(json.dumps(row, indent=1))
        return
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    print("| " + " | ".join(format(row[name], style) for name, style in COLUMNS.items()) + " |")


if __name__ == "__main__":
    main()
