"""A session made by hand: two fields, few frames, everything known."""

import datetime

import numpy as np
import pytest

FRAMES, FPS, SHAPES = 60, 9.7, ((12, 20), (14, 16))


def uneven(n, step, seed):
    return 0.5 + np.cumsum(np.random.default_rng(seed).uniform(0.9, 1.1, n) * step)


@pytest.fixture
def session():
    """All parts of a session that a file has a place for."""
    pytest.importorskip("pynwb")
    from pipeline.imaging.movie import ArrayMovie
    from pipeline.imaging.segmentation.masks import pack_masks
    from pipeline.recording.nwb.session import Column, Plane, Session, Table, Trace
    from pipeline.stimulus.images import image_hash

    rng = np.random.default_rng(0)
    planes = []
    for index, (height, width) in enumerate(SHAPES):
        masks = np.zeros((3, height, width), bool)
        for unit in range(3):
            masks[unit, 2 + 3 * unit : 5 + 3 * unit, 4 + unit : 9] = True
        weights = rng.random(masks.shape).astype(np.float32) * masks
        traces = rng.normal(size=(3, FRAMES)).astype(np.float32)
        units = {
            "unit_id": Column("number", [100_000 * index + row + 1 for row in range(3)]),
            "keep": Column("kept", [True, False, True]),
            "soma_probability": Column("soma", [0.9, 0.2, None]),
        }
        frames = rng.integers(-50, 900, (FRAMES, height, width), np.int16)
        planes.append(
            Plane(
                index,
                (height, width),
                um_per_px=(1.5, 2.0),
                center_um=(10.0, -5.0, 200.0 + 30 * index),
                delay_s=0.02 + 0.05 * index,
                line_period_s=0.001,
                bidirectional=True,
                movie=ArrayMovie(frames, FPS),
                raster_px=0.25,
                motion=rng.normal(size=(2, FRAMES)).astype(np.float32),
                blocks=(rng.normal(size=(2, FRAMES, 2, 3)).astype(np.float32), [3, 9], [4, 8, 12]),
                images={"mean_image": rng.random((height, width)).astype(np.float32)},
                masks=pack_masks(masks, weights),
                units=Table("units", "", units),
                traces={
                    name: Trace(lambda data=traces + i: data, "a.u.", name)
                    for i, name in enumerate(("corrected", "raw", "neuropil", "activity"))
                },
            )
        )
    pixels = rng.integers(0, 256, (4, 18, 32), np.uint8)
    images = {image_hash(image): image for image in pixels}
    names = sorted(images)
    shown = [names[i] for i in (0, 1, 0, 2, 1)]
    onset = 1.0 + 1.1 * np.arange(5) + np.array([0, 0.01, 0, 0.02, 0])
    trials = {
        "start_time": Column("on", onset),
        "stop_time": Column("off", onset + 0.5),
        "trial_idx": Column("trial", [0, 1, 2, 3, 4]),
        "image": Column("hash", shown),
        "blank_before_s": Column("gray", [0.4, None, 0.4, 0.4, 0.4]),
        "kind": Column("kind", ["natural"] * 5),
    }
    eye = uneven(80, 0.08, 1)
    wheel = uneven(90, 0.07, 2)
    pupil = np.column_stack([eye, 80 + np.sin(eye), 60 + np.cos(eye), 15 + eye / 7, eye * 0 + 1])
    pupil[10:14, 1:4], pupil[10:14, 4] = np.nan, 0
    provenance = {
        "image": Column("hash", names[:2]),
        "kind": Column("kind", ["mei", "gabor"]),
        "unit_id": Column("unit", [1, 3]),
    }
    return Session(
        entries={
            "animal_id": 5,
            "session": 2,
            "scan_idx": 3,
            "scan_ts": "2026-11-20T09:00:00",
            "rig": "bench/2",
            "brain_area": "V1",
            "depth_um": 200.0,
            "indicator": "GCaMP6s",
            "imaging": {"channel": 2, "um_per_px": [1.5, 2.0]},
            "monitor": {"width_px": 64, "height_px": 36},
            "treadmill": {"diameter_cm": 20.0, "counts_per_rev": 8000.0},
            "genotype": None,
            "date_of_birth": None,
        },
        start=datetime.datetime(2026, 11, 20, 9),
        said={
            "age": "P90D",
            "sex": "F",
            "experimenter": ["Doe, Jane"],
            "institution": "Institute",
            "excitation_nm": 920,
            "emission_nm": 510,
        },
        frame_times=uneven(FRAMES, 1 / FPS, 0),
        planes=planes,
        images=images,
        about={name: "an image" for name in names},
        trials=Table("trials", "presentations", trials),
        pupil=pupil,
        counts=np.column_stack([wheel, (2**32 - 300 + 11 * np.arange(90)) % 2**32]),
        speed=np.column_stack([wheel, np.where(wheel > 5, np.nan, 3.25 * np.sin(wheel))]),
        monitor=(np.arange(0, 256, 15), 0.3 + 30 * (np.arange(0, 256, 15) / 255) ** 2.2),
        tables=[Table("image_provenance", "whence", provenance)],
    )
