"""Files in the layouts that other programs write come back as what was written into them."""

import os
from pathlib import Path

import numpy as np
import pytest
from nwb_files import imaging_plane

from pipeline.errors import DataError
from pipeline.imaging.__main__ import main
from pipeline.imaging.importers import import_results
from pipeline.imaging.importers.unpickle import load_pickled_npy

UNITS, FRAMES, HEIGHT, WIDTH = 4, 50, 12, 20
SHARED = Path(__file__).parents[5] / "shared" / "data" / "suite2p" / "plane0"


def truth(seed=0):
    """Return masks (units, H, W) as weights of sum 1, and traces (units, frames)."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((UNITS, HEIGHT, WIDTH), np.float32)
    for unit in range(UNITS):
        weights[unit, 1 + 2 * unit : 4 + 2 * unit, 3 * unit : 3 * unit + 5] = rng.uniform(
            0.2, 1, (3, 5)
        )
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    return weights, rng.normal(200, 20, (UNITS, FRAMES)).astype(np.float32)


def write_suite2p(folder, *, ops=True, spks=True):
    weights, raw = truth()
    folder.mkdir(parents=True)
    neuropil = np.full_like(raw, 30) + np.arange(FRAMES, dtype=np.float32)
    np.save(folder / "F.npy", raw)
    np.save(folder / "Fneu.npy", neuropil)
    np.save(folder / "iscell.npy", np.stack([[1, 0, 1, 1], [0.9, 0.2, 0.8, 0.6]], axis=1))
    if spks:
        np.save(folder / "spks.npy", np.maximum(raw - 220, 0))
    stat = []
    for weight in weights:
        y, x = np.nonzero(weight)
        stat.append(
            {
                "ypix": y,
                "xpix": x,
                "lam": weight[y, x],
                "med": [3, 4],
                "npix": len(y),
                "radius": np.float64(2.5),
                "overlap": y > 3,
            }
        )
    np.save(folder / "stat.npy", np.array(stat, dtype=object), allow_pickle=True)
    if ops:
        np.save(
            folder / "ops.npy",
            {
                "fs": 7.5,
                "Ly": HEIGHT,
                "Lx": WIDTH,
                "nonrigid": True,
                "meanImg": np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH),
                "save_path": Path("/data/mouse"),
                "sigma": np.float32(1.5),
            },
        )
    return folder


def test_a_suite2p_folder(tmp_path):
    plane = write_suite2p(tmp_path / "suite2p" / "plane0")
    weights, raw = truth()
    found = import_results(tmp_path / "suite2p")
    assert found.fps == pytest.approx(7.5)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-5)
    slow = 0.7 * (np.arange(FRAMES) - (FRAMES - 1) / 2)  # the neuropil less its median
    np.testing.assert_allclose(found.corrected, raw - slow, rtol=1e-5)
    np.testing.assert_allclose(found.activity, np.maximum(raw - 220, 0))
    assert found.keep.tolist() == [True, False, True, True]
    np.testing.assert_allclose(found.soma_probability, [0.9, 0.2, 0.8, 0.6])
    assert found.mean_image[1, 2] == WIDTH + 2
    bare = import_results(plane, neuropil_coefficient=0.0)
    np.testing.assert_allclose(bare.corrected, raw)


def test_imported_traces_are_deconvolved_from_the_shell(tmp_path, capsys):
    write_suite2p(tmp_path / "plane0")
    assert main(["import", str(tmp_path / "plane0"), "--out", str(tmp_path)]) == 0
    traces = str(tmp_path / "traces.npz")
    assert main(["deconvolution", traces, "--out", str(tmp_path), "--method", "derivative"]) == 0
    with np.load(tmp_path / "deconvolution.npz") as found:
        assert found["fps"] == pytest.approx(7.5)
        assert found["activity"].shape == (UNITS, FRAMES)


def test_a_suite2p_folder_without_options_needs_a_rate(tmp_path):
    plane = write_suite2p(tmp_path / "plane0", ops=False, spks=False)
    with pytest.raises(DataError, match="give fps"):
        import_results(plane)
    found = import_results(plane, fps=10.0, width_px=WIDTH)
    assert found.masks.shape == (UNITS, 10, WIDTH)  # the last row that a mask has
    assert found.activity is None
    assert found.mean_image[found.masks.any(axis=0)].min() > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real suite2p folder here")
def test_a_real_suite2p_folder():
    found = import_results(SHARED, fps=30.0)
    assert found.corrected.shape == (219, 2000)
    assert found.masks.any(axis=(1, 2)).all()
    np.testing.assert_allclose(found.weights.sum(axis=(1, 2)), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("F.npy", "cannot be read"),
        ("stat.npy", "cannot be read safely"),
        ("Fneu.npy", "differ"),
        ("iscell.npy", "does not fit"),
    ],
)
def test_a_damaged_suite2p_folder_is_one_clear_line(tmp_path, file, message):
    plane = write_suite2p(tmp_path / "plane0")
    if file in ("F.npy", "stat.npy"):
        (plane / file).write_bytes((plane / file).read_bytes()[:90])
    else:
        np.save(plane / file, np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match=message) as caught:
        import_results(plane)
    assert "\n" not in str(caught.value)


class Payload:
    def __reduce__(self):
        return os.system, ("touch broken_in",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stat.npy"
    np.save(path, np.array([{"ypix": Payload()}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"it names (posix|nt)\.system"):
        load_pickled_npy(path)
    assert not (tmp_path / "broken_in").exists()


def test_containers_scalars_and_paths_survive_the_careful_unpickler(tmp_path):
    path = tmp_path / "a.npy"
    value = {
        "a": np.arange(3, dtype=">i2"),
        "b": [np.float32(1.5), "text", None, (1, 2)],
        "c": Path("/data/x"),
        "d": np.bool_(True),
        "e": np.array(["u", "v"]),
    }
    np.save(path, value, allow_pickle=True)
    found = load_pickled_npy(path).item()
    np.testing.assert_array_equal(found["a"], value["a"])
    assert found["b"] == value["b"]
    assert found["c"].endswith("data/x")
    assert found["d"]
    assert found["e"].tolist() == ["u", "v"]


def write_caiman(path, *, residual=True):
    h5py = pytest.importorskip("h5py")
    from scipy import sparse

    weights, traces = truth()
    footprints = weights.transpose(0, 2, 1).reshape(UNITS, -1).T  # pixels down the columns
    footprints = footprints / np.linalg.norm(footprints, axis=0)
    sums = (footprints**2).sum(0) / footprints.sum(0)
    smooth = np.round(traces / 10) * 10
    matrix = sparse.csc_matrix(footprints)
    with h5py.File(path, "w") as file:
        group = file.create_group("estimates")
        stored = group.create_group("A")
        for name in ("data", "indices", "indptr"):
            stored[name] = getattr(matrix, name)
        stored["shape"] = np.array(matrix.shape)
        group["C"] = smooth / sums[:, None]
        group["S"] = np.maximum(smooth - 200, 0)
        if residual:
            group["YrA"] = (traces - smooth) / sums[:, None]
        group["idx_components"] = np.array([0, 2])
        group["cnn_preds"] = np.bytes_("NoneType")
        group["b"] = np.arange(HEIGHT * WIDTH, dtype=float)[:, None]
        group["f"] = np.full((1, FRAMES), 2.0)
        group["dims"] = np.array([HEIGHT, WIDTH])
        file["params/data/fr"] = 15.0
    return path


def test_a_caiman_file(tmp_path):
    weights, traces = truth()
    found = import_results(write_caiman(tmp_path / "a.hdf5"))
    assert found.fps == pytest.approx(15.0)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(found.corrected, traces, rtol=1e-4)
    assert found.keep.tolist() == [True, False, True, False]
    assert found.activity.shape == traces.shape
    assert found.mean_image[1, 0] == 2.0  # the second pixel is below the first
    alone = import_results(write_caiman(tmp_path / "b.h5", residual=False), fps=30.0)
    np.testing.assert_allclose(alone.corrected, np.round(traces / 10) * 10, rtol=1e-4)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("estimates", "is no CaImAn file"),
        ("estimates/C", "lacks a matrix"),
        ("estimates/dims", "size of the field"),
        ("estimates/A/indices", "footprints cannot be read"),
        ("params", "give fps"),
    ],
)
def test_a_caiman_file_that_lacks_a_part_is_one_clear_line(tmp_path, broken, message):
    h5py = pytest.importorskip("h5py")
    path = write_caiman(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file[broken]
    with pytest.raises(DataError, match=message) as caught:
        import_results(path)
    assert "\n" not in str(caught.value)


def write_nwb(path, *, pixel_masks=False, extra=False):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    ophys = pynwb.ophys
    weights, traces = truth()
    file = pynwb.NWBFile("a scan", "id", datetime(2026, 11, 24, tzinfo=UTC))
    plane = imaging_plane(file, grid_spacing=[2e-6, 1.5e-6], grid_spacing_unit="meters")
    module = file.create_processing_module(name="ophys", description="units")
    segmentation = ophys.ImageSegmentation()
    module.add(segmentation)
    table = segmentation.create_plane_segmentation(
        name="PlaneSegmentation", description="cells", imaging_plane=plane
    )
    for weight in weights:
        if pixel_masks:
            y, x = np.nonzero(weight)
            table.add_roi(pixel_mask=list(zip(x, y, weight[y, x], strict=True)))
        else:
            table.add_roi(image_mask=weight.T)  # the standard says (x, y)
    rois = table.create_roi_table_region(region=list(range(UNITS)), description="all")
    series = {
        "Fluorescence": traces,
        "Neuropil": np.full_like(traces, 50),
        "Deconvolved": np.maximum(traces - 220, 0),
    }
    if extra:
        series["Second"] = traces
    for name, values in series.items():
        box = ophys.Fluorescence(name=name)
        module.add(box)
        box.add_roi_response_series(
            ophys.RoiResponseSeries(
                name=name, data=values.T, rois=rois, unit="a.u.", rate=12.0, starting_time=3.0
            )
        )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


@pytest.mark.parametrize("pixel_masks", [False, True])
def test_an_nwb_file(tmp_path, pixel_masks):
    weights, traces = truth()
    found = import_results(write_nwb(tmp_path / "a.nwb", pixel_masks=pixel_masks))
    height, width = found.masks.shape[1:]
    np.testing.assert_allclose(found.weights, weights[:, :height, :width], rtol=1e-5)
    assert found.time_s[0] == 3.0
    assert found.fps == pytest.approx(12.0)
    assert found.um_per_px == pytest.approx((1.5, 2.0))
    np.testing.assert_allclose(found.corrected, traces)  # neuropil that never changes
    np.testing.assert_allclose(found.activity, np.maximum(traces - 220, 0))


def test_an_nwb_file_with_two_series_must_be_told_which(tmp_path):
    path = write_nwb(tmp_path / "a.nwb", extra=True)
    with pytest.raises(DataError, match="name one"):
        import_results(path)
    _, traces = truth()
    np.testing.assert_allclose(import_results(path, series="Second").raw, traces)


def test_imported_results_walk_through_the_steps_of_the_chain(tmp_path):
    from pipeline.imaging.deconvolution import deconvolvers
    from pipeline.imaging.extraction import fluorescence_methods
    from pipeline.imaging.segmentation import segmenters

    weights, raw = truth()
    found = import_results(write_suite2p(tmp_path / "plane0"), um_per_px=(1.5, 2.0))
    scan = found.scan(tmp_path / "out")
    movie = scan.movie()
    assert movie.um_per_px == (1.5, 2.0)
    cells = segmenters["extracted"](movie)
    np.testing.assert_allclose(cells.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(cells.soma_probability, found.soma_probability)
    traces = fluorescence_methods["extracted"](movie, cells.masks, cells.weights)
    np.testing.assert_array_equal(traces.raw, raw)
    np.testing.assert_array_equal(traces.corrected, found.corrected)
    assert traces.neuropil[0, 0] == 30
    activity = deconvolvers["derivative"](traces.corrected, scan.fps).activity
    assert activity.shape == raw.shape


def test_a_path_of_no_known_program_says_what_there_is(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(DataError, match="name an importer of"):
        import_results(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no such file"):
        import_results(tmp_path / "gone.nwb")
