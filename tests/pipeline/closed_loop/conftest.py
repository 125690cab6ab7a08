import hashlib

import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.stimulus.monitor import MonitorCurve


def name_of(image):
    """The content hash as DESIGN states it, written down anew."""
    return hashlib.sha256(b"%dx%d:" % image.shape + image.tobytes()).hexdigest()


@pytest.fixture
def contents():
    """All that `write_package` needs but the folder: 3 targets, 2 kinds, 2 natural images."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 36, 64), dtype=np.uint8)
    names = [name_of(picture) for picture in pictures]
    by_kind = {"mei": names[:3], "rf": names[3:6], "natural": names[6:]}
    plan = plan_methods["balanced_blocks"](by_kind, minutes=5, repeats=4, seed=3)
    rows = []
    for kind, ids in by_kind.items():
        for unit, image in enumerate(ids):
            row = {"image": image, "kind": kind, "mean_cd_m2": 10.0 + unit / 10, "sd_cd_m2": 2.0}
            if kind != "natural":
                row |= {"session": 1, "scan_idx": 2, "field": 0, "unit_id": unit + 5}
            rows.append(row | {"clipped_fraction": 0.01, "predicted": 1.5})
    pixel = np.arange(0, 256, 15)
    return {
        "plan_id": "0123456789abcdef",
        "animal_id": 7,
        "source": [{"session": np.int64(1), "scan_idx": 2}],
        "monitor": {"width_px": 256, "height_px": 144},
        "curve": MonitorCurve(pixel, 0.2 + 30 * (pixel / 255) ** 2.2),
        "seed": 3,
        "trials": plan.trials,
        "images": dict(zip(names, pictures, strict=True)),
        "images_table": pd.DataFrame(rows),
        "units_table": pd.DataFrame(
            {
                "session": 1,
                "scan_idx": 2,
                "field": 0,
                "unit_id": [5, 6, 7],
                "y_px": [1.5, 20.0, 30.0],
                "x_px": [2.0, 3.0, 4.25],
            }
        ),
    }
