"""Inputs for the methods of imaging and of the eye camera: a small movie, traces, files."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from pipeline.imaging.importers import extract as read_extract
from pipeline.imaging.importers.extracted import ExtractedMovie
from pipeline.imaging.movie import ArrayMovie
from pipeline.imaging.quality import Evidence
from pipeline.imaging.segmentation.masks import PixelStack, pack_masks

FPS, UM = 16.0, (1.5, 1.5)


@cache
def scene():
    """Return frames (240, 72, 72), masks and events of six cells: they move, rows are off."""
    rng = np.random.default_rng(30)
    n, side = 240, 72
    y, x = np.mgrid[:side, :side]
    texture = gaussian_filter(rng.normal(size=(side + 40, side + 40)), 2.0)
    texture = 60 + 25 * texture / texture.std()
    place = np.array([[16, 16], [16, 50], [36, 30], [52, 56], [56, 18], [34, 58]], float)
    calcium = gaussian_filter1d((rng.random((6, n)) < 0.04).astype(float), 1.5, axis=1) * 12
    shift = 1.5 * np.sin(np.arange(n)[:, None] / np.array([9.0, 13.0]))
    distance = np.hypot(*(np.stack([y, x])[:, None] - place.T[:, :, None, None]))
    profile = np.exp(-((distance / 4.5) ** 4))
    spectrum = np.fft.rfft2(texture)
    fy, fx = np.fft.fftfreq(side + 40)[:, None], np.fft.rfftfreq(side + 40)[None]
    frames = np.empty((n, side, side), np.float32)
    for t, (dy, dx) in enumerate(shift):
        moved = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * (fy * dy + fx * dx)), s=texture.shape)
        cells = np.hypot(*(np.stack([y - dy, x - dx])[:, None] - place.T[:, :, None, None]))
        glow = ((0.5 + calcium[:, t])[:, None, None] * np.exp(-((cells / 4.5) ** 4))).sum(0)
        frames[t] = moved[20 : 20 + side, 20 : 20 + side] + 60 * glow
    frames[:, 1::2] = np.roll(frames[:, 1::2], 1, axis=2)
    frames[70:73] += 400  # a flash of light
    frames = rng.poisson(np.maximum(frames, 1) * 4) * 5.0 + 100
    return frames.astype(np.int16), profile > 0.5, calcium


@cache
def bending():
    """Return a movie of 200 frames whose upper and lower half move differently, and one leap."""
    rng = np.random.default_rng(35)
    n, side = 200, 128
    texture = gaussian_filter(rng.normal(size=(side + 24, side + 24)), 1.5)
    texture = 40 + 20 * texture / texture.std()
    y, x = np.mgrid[:side, :side].astype(float)
    line = (y / side - 0.5) * 2
    frames = np.empty((n, side, side), np.int16)
    for t in range(n):
        down = 1.2 * np.sin(t / 11) + 0.8 * line * np.sin(t / 17) + (5.0 if t == 90 else 0.0)
        right = 0.9 * np.cos(t / 7) + 0.7 * line**2 * np.cos(t / 13)
        seen = map_coordinates(texture, [y - down + 12, x - right + 12], order=3)
        frames[t] = rng.poisson(np.maximum(seen, 1)) * 20 + 100
    return ArrayMovie(frames, 30.0, UM)


def movie(cells=False):
    frames = scene()[0]
    if cells:  # as after the corrections
        still = frames.copy()
        still[:, 1::2] = np.roll(still[:, 1::2], -1, axis=2)
        frames = still
    return ArrayMovie(frames, FPS, UM)


def extracted():
    _, masks, calcium = scene()
    traces = (5 + calcium + 0.1 * np.random.default_rng(31).normal(size=calcium.shape)).astype("f4")
    even = PixelStack(*pack_masks(masks, masks / masks.sum((1, 2), keepdims=True)), masks.shape[1:])
    return ExtractedMovie(even, masks.sum(0, dtype=np.float32), traces, FPS, UM)


def either(method):
    return method.run(extracted() if method.name == "extracted" else movie())


def motion(method):
    return method.run(extracted() if method.name == "extracted" else bending())


def segmentation(method):
    return method.run(extracted() if method.name == "extracted" else movie(cells=True))


def fluorescence(method):
    masks = scene()[1]
    weights = (masks / masks.sum((1, 2), keepdims=True)).astype(np.float32)
    source = extracted() if method.name == "extracted" else movie(cells=True)
    return method.run(source, masks, weights)


def deconvolution(method):
    rng = np.random.default_rng(32)
    spikes = rng.poisson(0.05, (3, 500))
    decay = np.exp(-np.arange(60) / (0.6 * FPS))
    clean = np.array([np.convolve(s, decay)[:500] for s in spikes])
    return method.run((100 + 80 * clean + 8 * rng.normal(size=clean.shape)).astype("f4"), FPS)


def quality(method):
    frames = movie()
    bright = frames.array.mean((1, 2), dtype=float)
    spread = np.ptp(np.percentile(frames.array, [1, 99], axis=(1, 2)), axis=0)
    return method.run(Evidence(frames, bright, spread, 0.1, 1.2, 0.01))


def classifier(method):
    rng = np.random.default_rng(33)
    from pipeline.imaging.segmentation.classifier import FEATURES

    soma = np.arange(40) % 2 == 0
    features = rng.normal(size=(40, len(FEATURES))) + 0.7 * soma[:, None]
    return method.run(features, soma)


# files that other programs write


def foreign():
    rng = np.random.default_rng(34)
    weights = np.zeros((3, 12, 20), np.float32)
    for unit in range(3):
        weights[unit, 1 + 3 * unit : 4 + 3 * unit, 5 * unit : 5 * unit + 5] = rng.uniform(
            0.2, 1, (3, 5)
        )
    return weights, rng.normal(200, 20, (3, 40)).astype(np.float32)


def suite2p(path):
    weights, raw = foreign()
    path.mkdir()
    np.save(path / "F.npy", raw)
    np.save(path / "Fneu.npy", np.full_like(raw, 30) + np.arange(40, dtype=np.float32))
    np.save(path / "iscell.npy", np.array([[1, 0.9], [0, 0.2], [1, 0.8]]))
    np.save(path / "spks.npy", np.maximum(raw - 220, 0))
    stat = [
        {"ypix": np.nonzero(w)[0], "xpix": np.nonzero(w)[1], "lam": w[np.nonzero(w)]}
        for w in weights
    ]
    np.save(path / "stat.npy", np.array(stat, dtype=object), allow_pickle=True)
    np.save(
        path / "ops.npy",
        {"fs": 7.5, "Ly": 12, "Lx": 20, "meanImg": weights.sum(0)},
        allow_pickle=True,
    )
    return path


def caiman(path):
    h5py = pytest.importorskip("h5py")
    from scipy import sparse

    weights, traces = foreign()
    flat = sparse.csc_matrix(weights.transpose(0, 2, 1).reshape(3, -1).T)  # pixels down the columns
    with h5py.File(path, "w") as file:
        group = file.create_group("estimates")
        stored = group.create_group("A")
        for name in ("data", "indices", "indptr"):
            stored[name] = getattr(flat, name)
        stored["shape"] = np.array(flat.shape)
        group["C"], group["S"] = traces, np.maximum(traces - 200, 0)
        group["idx_components"], group["dims"] = np.array([0, 2]), np.array([12, 20])
        group["b"], group["f"] = np.arange(240.0)[:, None], np.full((1, 40), 2.0)
        file["params/data/fr"] = 15.0
    return path


def nwb(path):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    from pynwb import ophys

    weights, traces = foreign()
    file = pynwb.NWBFile("a test", "1", datetime(2026, 1, 1, tzinfo=UTC))
    device = file.create_device("microscope")
    channel = ophys.OpticalChannel(name="green", description="green", emission_lambda=510.0)
    plane = file.create_imaging_plane(
        name="plane",
        optical_channel=channel,
        description="cortex",
        device=device,
        excitation_lambda=920.0,
        indicator="GCaMP6s",
        location="V1",
    )
    module = file.create_processing_module("ophys", "cells")
    box = ophys.ImageSegmentation()
    module.add(box)
    table = box.create_plane_segmentation(
        name="PlaneSegmentation", description="cells", imaging_plane=plane
    )
    for weight in weights:
        table.add_roi(image_mask=weight.T)
    rois = table.create_roi_table_region(region=[0, 1, 2], description="all")
    series = ophys.Fluorescence(name="Fluorescence")
    module.add(series)
    series.add_roi_response_series(
        ophys.RoiResponseSeries(
            name="Fluorescence", data=traces.T, rois=rois, unit="a.u.", rate=12.0
        )
    )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def extract(path):
    h5py = pytest.importorskip("h5py")

    weights, traces = foreign()
    with h5py.File(path, "w") as file:
        file["output/spatial_weights"] = weights.transpose(0, 2, 1)  # as MATLAB stores (H, W, n)
        file["output/temporal_weights"] = traces
        file["output/info/cellcheck/is_bad"] = np.array([[0.0], [1.0], [0.0]])
    return path


def importer(method):
    write, name = {
        "suite2p": (suite2p, "plane0"),
        "caiman": (caiman, "a.hdf5"),
        "nwb": (nwb, "a.nwb"),
        "extract": (extract, "a.mat"),
    }[method.name]
    path = write(method.folder / name)
    # EXTRACT keeps no rate, so that one must be given
    found = read_extract(path, fps=12.0) if method.name == "extract" else method.run(path)
    names = "activity corrected keep masks mean_image neuropil raw soma_probability time_s"
    return {n: getattr(found, n) for n in (*names.split(), "um_per_px", "weights")}


def deeplabcut(path):
    names = [f"pupil_{i}" for i in range(8)]
    rows = ["scorer" + ",net" * 24, "bodyparts" + "".join(f",{n}" * 3 for n in names)]
    rows.append("coords" + ",x,y,likelihood" * 8)
    for frame in range(4):
        points = [
            (50 + frame + 9 * np.cos(a), 40 + 8 * np.sin(a), 0.2 if frame == 2 else 0.95)
            for a in np.arange(8) * np.pi / 4
        ]
        rows.append(",".join([str(frame), *(f"{v:.6f}" for p in points for v in p)]))
    path.write_text("\n".join(rows))
    return path


def sleap(path):
    import h5py

    angle = np.arange(8) * np.pi / 4
    at = np.stack([[50 + f + 9 * np.cos(angle), 40 + 8 * np.sin(angle)] for f in range(4)], axis=2)
    with h5py.File(path, "w") as file:
        file["node_names"] = [f"pupil_{i}".encode() for i in range(8)]
        file["tracks"] = at[None]  # (tracks, 2, nodes, frames)
        file["point_scores"] = np.array([0.9, 0.8, 0.1, 0.7]) * np.ones((1, 8, 4))
    return path


def facemap(path):
    area = np.array([314.0, np.nan, 78.5, 120.0])
    com = np.array([[3.0, 7.0], [np.nan, np.nan], [4.0, 8.0], [5.0, 6.0]])
    np.save(path, {"pupil": [{"area": area, "com": com}]}, allow_pickle=True)
    return path


def video(path):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 30.0, (96, 72), True)
    y, x = np.mgrid[:72, :96]
    for frame in range(8):
        image = np.full((72, 96), 165.0)
        image[((x - 48) / 40) ** 2 + ((y - 36) / 28) ** 2 < 1] = 95
        image[np.hypot(x - 45 - frame, y - 35) < 11 + 0.4 * frame] = 35
        image[np.hypot(x - 40, y - 30) < 2.5] = 250
        image = cv2.GaussianBlur(image, (0, 0), 0.7)
        grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        writer.write(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def pupil(method):
    write, name = {
        "rays": (video, "eye.mkv"),
        "deeplabcut": (deeplabcut, "dlc.csv"),
        "facemap": (facemap, "cam_proc.npy"),
        "sleap": (sleap, "eye.analysis.h5"),
    }[method.name]
    return method.run(write(method.folder / name))


IMAGING = {
    "raster method": either,
    "motion method": motion,
    "segmenter": segmentation,
    "fluorescence method": fluorescence,
    "deconvolver": deconvolution,
    "quality check": quality,
    "mask classifier": classifier,
    "importer": importer,
    "pupil tracker": pupil,
}
