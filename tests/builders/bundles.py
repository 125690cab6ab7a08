"""Small recordings written by hand: what is true of them is known without the code."""

import json
import shutil

import numpy as np
import tifffile

from pipeline.stimulus.images import write_png

FRAMES, UNITS, FPS = 600, 6, 10.0


def images(n, shape=(36, 64), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_recording(
    folder, animal_id, *, tiff=False, npz=False, eye=True, running=True, n_images=12, **json_
):
    """Write a recording of an extracted scan or a TIFF; `json_` replaces entries of the JSON."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    shown = images(n_images)
    names = [f"picture_{index}.png" for index in range(n_images)]
    if npz:
        np.savez(folder / "images.npz", names=np.array(names), images=shown)
    else:
        for file, image in zip(names, shown, strict=True):
            write_png(folder / "images" / file, image)
    order = [*range(n_images), 0, 1, 0, 1]  # two images are repeated
    onset = 1.0 + 1.2 * np.arange(len(order))
    rows = [
        f"{i},{names[image]},{on:.4f},{on + 0.5:.4f},0.4"
        for i, (image, on) in enumerate(zip(order, onset, strict=True))
    ]
    (folder / "trials.csv").write_text(
        "trial_idx,image,onset_s,offset_s,blank_before_s\n" + "\n".join(rows) + "\n"
    )
    pixels = np.arange(0, 256, 15)
    luminance = 0.3 + 30 * (pixels / 255) ** 2.2
    (folder / "monitor.csv").write_text(
        "pixel_value,luminance_cd_m2\n"
        + "".join(f"{p},{lum:.5f}\n" for p, lum in zip(pixels, luminance, strict=True))
    )
    time = np.arange(FRAMES) / FPS
    if tiff:
        movie = rng.normal(500, 20, (FRAMES, 24, 24)).astype(np.int16)
        tifffile.imwrite(folder / "scan.tif", movie, photometric="minisblack")
        (folder / "frame_times.csv").write_text(
            "frame,time_s\n" + "".join(f"{i},{t:.4f}\n" for i, t in enumerate(time))
        )
        imaging = {"files": ["scan.tif"], "channel": 1, "um_per_px": [1.5, 1.5]}
    else:
        masks = np.zeros((UNITS, 24, 24), bool)
        for unit in range(UNITS):
            masks[unit, 2 + 3 * unit : 5 + 3 * unit, 4:8] = True
        traces = np.abs(rng.normal(size=(UNITS, FRAMES))).astype(np.float32)
        np.savez(folder / "traces.npz", time_s=time, fluorescence=traces)
        np.savez(folder / "masks.npz", masks=masks, mean_image=masks.sum(0, dtype=np.float32))
        imaging = {"traces": "traces.npz", "masks": "masks.npz", "um_per_px": [1.5, 1.5]}
    if eye:
        t = np.arange(0, 60, 0.05)
        table = np.stack([t, 80 + np.sin(t), 60 + np.cos(t), 15 + np.sin(t / 5)], axis=1)
        table[100:110, 1:] = np.nan
        np.savetxt(
            folder / "pupil.csv",
            table,
            delimiter=",",
            comments="",
            header="time_s,center_x_px,center_y_px,radius_px",
        )
    if running:
        t = np.arange(0, 60, 0.02)
        counts = (2**32 - 500 + np.arange(len(t)) * 2) % 2**32  # wraps after 250 samples
        np.savetxt(
            folder / "treadmill.csv",
            np.stack([t, counts], axis=1),
            delimiter=",",
            fmt=["%.4f", "%d"],
            comments="",
            header="time_s,counts",
        )
    recording = {
        "format": "inception-recording/1",
        "animal_id": animal_id,
        "session": 1,
        "scan_idx": 1,
        "scan_ts": "2026-11-20T09:00:00",
        "rig": "bench",
        "brain_area": "V1",
        "depth_um": 200,
        "imaging": imaging,
        "indicator": "GCaMP6s",
        "monitor": {"width_px": 256, "height_px": 144, "calibration": "monitor.csv"},
        "treadmill": {"diameter_cm": 10.0, "counts_per_rev": 1000},
        "plan": None,
        **json_,
    }
    (folder / "recording.json").write_text(json.dumps(recording))
    return folder
