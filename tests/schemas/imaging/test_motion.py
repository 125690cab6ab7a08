"""Tables from frames to activity: numbers of the correction, and the same numbers twice."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

pytestmark = pytest.mark.tables

FRAMES, SIZE = 600, 64


def bending(seed=0):
    """Return photon counts of five cells that flash in a field that shifts and stretches."""
    import cv2

    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    haze = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 1.5)
    haze = np.exp(0.3 * haze / haze.std())
    places = [(18, 18), (18, 45), (32, 32), (46, 17), (45, 46)]
    cells = [np.hypot(rows - y, columns - x) < 5 for y, x in places]
    kernel = np.exp(-np.arange(40) / 8)
    flashes = [np.convolve(rng.random(FRAMES) < 0.02, kernel)[:FRAMES] for _ in cells]
    slow = gaussian_filter1d(rng.normal(size=(3, FRAMES)), 5, axis=1)
    slow /= slow.std(axis=1, keepdims=True)
    movie = np.empty((FRAMES, SIZE, SIZE), np.int16)
    for t in range(FRAMES):
        light = haze + sum(f[t] * 2 * cell for f, cell in zip(flashes, cells, strict=True))
        y = rows - slow[0, t] - 0.5 * slow[2, t] * np.cos(np.pi * rows / SIZE)
        place = [axis.astype(np.float32) for axis in (columns - slow[1, t], y)]
        light = light.astype(np.float32)
        light = cv2.remap(light, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        movie[t] = rng.poisson(light * 5) * 10 + 50
    return movie


def test_populating_twice_from_one_tiff_gives_the_same_numbers(database, write_bundle):
    import tifffile

    from schemas import imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import task_rows
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(tiff=True, eye=False, running=False, treadmill=None)
    tifffile.imwrite(folder / "scan.tif", bending(), photometric="minisblack")
    key = ingest_bundle(folder)
    task_rows.scan_tasks(key, default_recipe())
    tables = (
        imaging.ScanInfo,
        imaging.RasterPhase,
        imaging.Motion,
        imaging.SummaryImages,
        imaging.Segmentation,
        imaging.Fluorescence,
        imaging.Activity,
    )
    rounds = []
    for _ in range(2):
        (imaging.ScanInfo & key).delete(prompt=False, part_integrity="cascade")
        for table in tables:
            table.populate(key, suppress_errors=False)
        motion = (imaging.Motion & key).fetch1()
        arrays = {"shifts": motion["shifts"].load(), "blocks": motion["block_shifts"].load()}
        for table, names in (
            (imaging.Segmentation, ("mask_start", "mask_pixel", "mask_weight")),
            (imaging.Fluorescence, ("raw", "neuropil", "corrected")),
            (imaging.Activity, ("activity", "denoised")),
        ):
            arrays |= {name: (table & key).fetch1(name).load() for name in names}
        rounds.append((motion, arrays))
    motion, arrays = rounds[0]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, rounds[1][1][name], err_msg=name)
    assert len(arrays["corrected"]) >= 4
    assert arrays["blocks"].shape[2] > 0  # the field bent, and was followed
    assert motion["accepted"]
    assert motion["correlation_after"] > motion["correlation_before"]
    assert motion["crispness_after"] > motion["crispness_before"]
    assert 0 <= motion["worse_fraction"] < 0.5
    assert len(motion["plane_similarity"]) == 10
    assert motion["z_drift"] < 0.2
