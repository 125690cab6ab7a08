"""Score the pupil tracker on rendered eye videos, and time it.

    python benchmarks/behavior/pupil.py [--json] [--videos 6] [--frames 150] [--seed 0]

Eyes differ in size, contrast, fur, ellipticity and lighting; every frame has two reflections of
the lamps, the lid comes down to 20 % of the eye, whiskers cross, and in a few blinks it closes all
the way. Frames are drawn by supersampling and packed as MJPG, as an eye camera does. A frame
counts as a blink while the lid hides more than half of the pupil's edge.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

OVER = 3  # samples per pixel and axis
BLINK_FRAMES = 9


@dataclass(frozen=True)
class Truth:
    """What was drawn; arrays of shape (frames,)."""

    x: NDArray
    y: NDArray
    radius: NDArray
    visible: NDArray  # share of the pupil's edge below the lid


@dataclass(frozen=True)
class Look:
    """How one eye looks: gray levels, shape and size."""

    height: int
    width: int
    pupil: float
    iris: float
    skin: float
    ratio: float
    tilt: float
    lid: float


def looks(rng: np.random.Generator) -> Look:
    """Draw an eye."""
    height = int(rng.integers(90, 200))
    pupil = rng.uniform(12, 60)
    return Look(
        height,
        int(height * 1.35),
        pupil,
        pupil + rng.uniform(35, 80),
        rng.uniform(110, 190),
        rng.uniform(0.85, 1.0),
        rng.uniform(0, np.pi),
        rng.uniform(0.0, 0.2),
    )


def lid_course(frames: int, rest: float, rng: np.random.Generator) -> NDArray:
    """Return how much of the eye the upper lid covers (1): at rest, with blinks of 0.3 s."""
    lid = np.full(frames, rest)
    for start in range(int(rng.integers(20, 40)), frames - BLINK_FRAMES, 45):
        shape = np.sin(np.pi * (np.arange(BLINK_FRAMES) + 0.5) / BLINK_FRAMES) ** 0.5
        lid[start : start + BLINK_FRAMES] = np.maximum(rest, shape)
    return lid


def render(look: Look, frames: int, rng: np.random.Generator) -> tuple[list[NDArray], Truth]:
    """Draw the frames of an eye."""
    t = np.arange(frames)
    cx = look.width / 2 + 0.04 * look.width * np.sin(t / 7 + rng.uniform(0, 6))
    cy = look.height / 2 + 0.03 * look.height * np.cos(t / 9) + rng.normal(0, 0.3, frames)
    radius = look.height * (0.16 + 0.05 * np.sin(t / 25 + rng.uniform(0, 6)))
    lid = lid_course(frames, look.lid, rng)
    rows, columns = (np.mgrid[: look.height * OVER, : look.width * OVER] + 0.5) / OVER - 0.5
    fur = look.skin + 14 * np.sin(columns / 2.7 + rng.uniform(0, 6)) * np.sin(rows / 3.9)
    middle_y, middle_x = look.height / 2, look.width / 2
    part = 1 - ((columns - middle_x) / (0.44 * look.width)) ** 2
    arch = np.sqrt(np.clip(part, 0, None)) * 0.4 * look.height
    whisker = np.abs(rows - 0.3 * look.height - 0.25 * columns) < 0.7
    edge = 2 * np.pi * np.arange(180) / 180
    images, visible = [], np.empty(frames)
    for k in range(frames):
        dx, dy = columns - cx[k], rows - cy[k]
        u = dx * np.cos(look.tilt) + dy * np.sin(look.tilt)
        v = -dx * np.sin(look.tilt) + dy * np.cos(look.tilt)
        long, short = radius[k] / np.sqrt(look.ratio), radius[k] * np.sqrt(look.ratio)
        image = look.iris + 5 * np.sin(11 * np.arctan2(dy, dx)) + 0.08 * dx
        image = np.where((u / long) ** 2 + (v / short) ** 2 < 1, look.pupil, image)
        for gx, gy, size in ((-0.35, -0.3, 0.2), (0.75, 0.45, 0.16)):  # two lamps
            near = np.hypot(dx - gx * radius[k], dy - gy * radius[k])
            image = np.where(near < size * radius[k], 250.0, image)
        top = middle_y - arch + lid[k] * 2 * arch
        covered = (rows < top) | (rows > middle_y + arch) | (arch == 0)
        image = np.where(covered, fur, image)
        image = np.where(covered & (np.abs(rows - top) < 1.3), 65.0, image)  # lashes
        image = np.where(whisker, image * 0.6, image)
        image = image.reshape(look.height, OVER, look.width, OVER).mean(axis=(1, 3))
        image = cv2.GaussianBlur(image, (0, 0), 0.8) + rng.normal(0, 3, image.shape)
        images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
        eu, ev = long * np.cos(edge), short * np.sin(edge)
        ex = cx[k] + eu * np.cos(look.tilt) - ev * np.sin(look.tilt)
        ey = cy[k] + eu * np.sin(look.tilt) + ev * np.cos(look.tilt)
        opening = np.sqrt(np.clip(1 - ((ex - middle_x) / (0.44 * look.width)) ** 2, 0, None))
        opening *= 0.4 * look.height
        visible[k] = np.mean(ey > middle_y - opening + lid[k] * 2 * opening)
    return images, Truth(cx, cy, radius, visible)


def write_video(path: Path, images: list[NDArray]) -> None:
    """Write gray frames as MJPG."""
    height, width = images[0].shape
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 30.0, (width, height), True)
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()


def score(found, truth: Truth) -> dict[str, NDArray]:
    """Return errors of all frames with an answer, open frames with one, and blinks with one."""
    known = np.isfinite(found.radius_px)
    open_ = truth.visible >= 0.8
    blink = truth.visible < 0.5  # in between either answer is right, if it is accurate
    distance = np.hypot(found.center_x_px - truth.x, found.center_y_px - truth.y)
    return {
        "center_px": distance[known],
        "radius": np.abs(found.radius_px - truth.radius)[known] / truth.radius[known],
        "found_open": known[open_],
        "guessed_blink": known[blink],
    }


def run(videos: int, frames: int, seed: int) -> dict[str, float]:
    """Render, track and score videos; errors are over all frames with an answer."""
    from pipeline.behavior import pupil_trackers

    track = pupil_trackers[pupil_trackers.default]
    rows, spent = [], 0.0
    for video in range(videos):
        rng = np.random.default_rng((seed, video))
        look = looks(rng)
        images, truth = render(look, frames, rng)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "eye.avi"
            write_video(path, images)
            begin = time.process_time()
            found = track(path)
            spent += time.process_time() - begin
        rows.append(score(found, truth))
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return {
        "center_median_px": float(np.median(joined["center_px"])),
        "center_p95_px": float(np.percentile(joined["center_px"], 95)),
        "center_worst_px": float(joined["center_px"].max()),
        "radius_median": float(np.median(joined["radius"])),
        "radius_p95": float(np.percentile(joined["radius"], 95)),
        "radius_worst": float(joined["radius"].max()),
        "open_frames_found": float(joined["found_open"].mean()),
        "blink_frames": len(joined["guessed_blink"]),
        "blinks_guessed": float(joined["guessed_blink"].mean()),
        "cpu_ms_per_frame": 1000 * spent / (videos * frames),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = run(args.videos, args.frames, args.seed)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20s} {value:.4g}")


if __name__ == "__main__":
    main()
