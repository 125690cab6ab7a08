"""Masks stay lists of pixels from the file of another program to the store."""

import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.imaging.importers import import_results
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.mask_files import read_masks
from pipeline.imaging.segmentation.masks import PixelStack, pack_masks

PEAK = """
import re, sys
import numpy as np
from pipeline.imaging.extraction import fluorescence_methods
from pipeline.imaging.importers import import_results
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.masks import pack_masks, unpack_masks

movie = import_results(sys.argv[1]).scan(sys.argv[2]).movie()
cells = segmenters["extracted"](movie)
packed = pack_masks(cells.masks, cells.weights)
masks, weights = unpack_masks(*packed, movie.shape[1:])
fluorescence_methods["extracted"](movie, masks, weights)
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # of this process alone
print(len(masks), int(peak[1]) / 1e6)
"""


def write_many(folder, units, side=512, frames=20):
    """Write a suite2p folder of round cells."""
    rng = np.random.default_rng(0)
    dy, dx = np.nonzero(np.hypot(*np.mgrid[-5:6, -5:6]) < 5.2)
    centers = rng.integers(6, side - 6, (units, 2))
    folder.mkdir()
    traces = rng.normal(100, 5, (units, frames)).astype(np.float32)
    np.save(folder / "F.npy", traces)
    np.save(folder / "Fneu.npy", traces * 0)
    np.save(folder / "ops.npy", {"fs": 10.0, "Ly": side, "Lx": side}, allow_pickle=True)
    light = np.ones(len(dy), np.float32)
    stat = [{"ypix": y + dy - 5, "xpix": x + dx - 5, "lam": light} for y, x in centers]
    np.save(folder / "stat.npy", np.array(stat, dtype=object), allow_pickle=True)
    return folder


def test_a_thousand_cells_of_a_large_field_take_less_than_600_megabytes(tmp_path):
    plane = write_many(tmp_path / "plane0", 1000)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, plane, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )
    units, peak_gb = done.stdout.split()
    assert int(units) == 1000
    assert float(peak_gb) < 0.6
    assert (tmp_path / "out" / "masks.npz").stat().st_size < 3e6


@pytest.mark.parametrize("kind", ["CaImAn", "suite2p"])
def test_an_empty_footprint_costs_itself_only(tmp_path, kind):
    rng = np.random.default_rng(0)
    traces = rng.random((4, 60)).astype(np.float32)
    if kind == "suite2p":
        path = write_many(tmp_path / "plane0", 4, side=32, frames=60)
        stat = np.load(path / "stat.npy", allow_pickle=True)
        stat[2] = {name: values[:0] for name, values in stat[2].items()}
        np.save(path / "stat.npy", stat, allow_pickle=True)
        traces = np.load(path / "F.npy")
    else:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "a.hdf5"
        dense = np.zeros((12 * 20, 4))
        dense[:30, 0] = dense[40:70, 1] = dense[90:100, 3] = 1
        with h5py.File(path, "w") as file:
            file["estimates/A"] = dense
            file["estimates/C"], file["estimates/YrA"] = traces, traces * 0
            file["estimates/dims"], file["params/data/fr"] = np.array([12, 20]), 30.0
    found = import_results(path)
    assert found.source_row.tolist() == [0, 1, 3]
    np.testing.assert_allclose(found.corrected, traces[[0, 1, 3]], rtol=1e-6)
    assert any(
        "1 units without a pixel are left out, the first is 2" in f.text for f in found.findings
    )


def test_a_trace_without_a_number_costs_its_unit_only(tmp_path):
    path = write_many(tmp_path / "plane0", 4, side=32, frames=60)
    traces = np.load(path / "F.npy")
    traces[1] = np.nan
    np.save(path / "F.npy", traces)
    found = import_results(path)
    assert found.source_row.tolist() == [0, 2, 3]
    (finding,) = found.findings
    assert finding.name == "units-left-out"
    text = "1 units without a number in their traces are left out, the first is 1"
    assert finding.text.endswith(text)
    np.save(path / "F.npy", traces * np.nan)
    with pytest.raises(DataError, match="no unit can be used"):
        import_results(path)


def test_dense_masks_of_a_bundle_are_read_in_blocks_and_an_empty_one_is_left_out(tmp_path):
    rng = np.random.default_rng(1)
    masks = rng.random((30, 400, 500)) < 0.001  # more than a block of pixels
    masks[7] = False
    traces = rng.normal(size=(30, 40))
    np.savez(tmp_path / "t.npz", time_s=np.arange(40) / 10, fluorescence=traces)
    np.savez(tmp_path / "m.npz", masks=masks, mean_image=masks.sum(0))
    scan = open_extracted(tmp_path / "t.npz", tmp_path / "m.npz")
    left = np.delete(np.arange(30), 7)
    cells = segmenters["extracted"](scan.movie())
    np.testing.assert_array_equal(cells.masks, masks[left])
    np.testing.assert_allclose(np.asarray(cells.weights).sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(scan.movie().fluorescence, traces[left], rtol=1e-6)
    assert [str(finding) for finding in scan.findings] == [
        "units-left-out: m.npz: 1 units without a pixel are left out, the first is 7"
    ]
    start, pixel, _ = pack_masks(cells.masks, cells.weights)
    expected = pack_masks(masks[left], masks[left])
    np.testing.assert_array_equal(start, expected[0])
    np.testing.assert_array_equal(pixel, expected[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_start": np.array([0, 9, 3])}, "do not fit each other"),
        ({"mask_pixel": np.array([0, 1, 400])}, "outside of the field"),
        ({"mask_weight": np.array(["a", "b", "c"])}, "no lists of pixels"),
        ({"mean_image": np.zeros(400)}, "size of the masks"),
    ],
)
def test_damaged_lists_of_pixels_are_one_clear_line(tmp_path, change, message):
    whole = {
        "mask_start": np.array([0, 2, 3]),
        "mask_pixel": np.array([0, 1, 399]),
        "mask_weight": np.array([0.5, 0.5, 1.0]),
        "mean_image": np.zeros((20, 20)),
    }
    np.savez(tmp_path / "a.npz", **whole)
    assert read_masks(tmp_path / "a.npz").shape == (2, 20, 20)
    np.savez(tmp_path / "b.npz", **{**whole, **change})
    with pytest.raises(DataError, match=message):
        read_masks(tmp_path / "b.npz")


def test_a_stack_of_pixels_reads_like_the_array_that_it_stands_for():
    rng = np.random.default_rng(2)
    dense = np.where(rng.random((5, 6, 7)) < 0.3, rng.random((5, 6, 7)), 0).astype(np.float32)
    unit, y, x = np.nonzero(dense)
    order = rng.permutation(len(unit))
    points = unit[order], y[order], x[order], dense[unit, y, x][order]
    stack = PixelStack.from_points(*points, dense.shape)
    np.testing.assert_array_equal(stack, dense)
    np.testing.assert_array_equal(stack[-1], dense[-1])
    np.testing.assert_array_equal(np.stack(list(stack)), dense)
    np.testing.assert_array_equal(stack.select([3, 0]), dense[[3, 0]])
    np.testing.assert_array_equal(stack.as_masks(), dense > 0)
    with pytest.raises(IndexError):
        stack[5]
