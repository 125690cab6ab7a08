"""What other programs decided about their units is taken over, and real files keep their values."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from nwb_files import imaging_plane

from pipeline.errors import DataError
from pipeline.imaging.__main__ import _parser, main
from pipeline.imaging.importers import import_results, importers
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.imaging.segmentation import segmenters

REAL = Path(__file__).parents[5] / "shared" / "data" / "real" / "results"
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real results of other programs here")
UNITS, FRAMES, SIZE = 4, 30, (12, 20)


def parts(seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((UNITS, *SIZE), np.float32)
    for unit in range(UNITS):
        masks[unit, 2 * unit : 2 * unit + 3, 4 * unit : 4 * unit + 6] = rng.uniform(0.2, 1, (3, 6))
    return masks, rng.normal(100, 5, (UNITS, FRAMES)).astype(np.float32)


def write_nwb(path, *, columns=(), planes=1, boxes=("Fluorescence",), centers=None, rows=False):
    pynwb = pytest.importorskip("pynwb")
    ophys = pynwb.ophys
    masks, traces = parts()
    file = pynwb.NWBFile("a scan", "id", datetime(2026, 11, 24, tzinfo=UTC))
    module = file.create_processing_module(name="ophys", description="units")
    segmentation = ophys.ImageSegmentation()
    module.add(segmentation)
    holders = {name: ophys.Fluorescence(name=name) for name in boxes}
    for holder in holders.values():
        module.add(holder)
    for number in range(planes):
        plane = imaging_plane(file, f"plane{number}")
        table = segmentation.create_plane_segmentation(
            name=f"Segmentation{number}", description="cells", imaging_plane=plane
        )
        for mask in np.roll(masks, number, axis=2):
            table.add_roi(image_mask=mask if rows else mask.T)
        for name, values in columns:
            table.add_column(name=name, description=name, data=values)
        if centers is not None:
            table.add_column(name="RoiCentroid", description="center", data=centers)
        rois = table.create_roi_table_region(region=list(range(UNITS)), description="all")
        for name, holder in holders.items():
            holder.add_roi_response_series(
                ophys.RoiResponseSeries(
                    name=f"Series{number}",
                    data=traces.T + 1000 * (name != "Fluorescence"),
                    rois=rois,
                    unit="a.u.",
                    rate=12.0,
                )
            )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ([("iscell", np.array([[1, 0.9], [0, 0.1], [1, 0.8], [1, 0.6]]))], [1, 0, 1, 1]),
        ([("iscell", np.array([[1, 0], [0, 0], [1, 0], [1, 0]]))], [1, 0, 1, 1]),
        ([("Accepted", [1, 0, 0, 1]), ("Rejected", [0, 1, 1, 0])], [1, 0, 0, 1]),
        ([("rejected", [False, True, False, False])], [1, 0, 1, 1]),
        ([("valid_roi", [True, True, False, True])], [1, 1, 0, 1]),
        ([], [1, 1, 1, 1]),
    ],
)
def test_rejected_units_of_an_nwb_file_are_not_kept(tmp_path, columns, kept):
    found = import_results(write_nwb(tmp_path / "a.nwb", columns=columns))
    assert found.keep.tolist() == [bool(k) for k in kept]
    assert ((found.soma_probability >= 0.5) == found.keep).all()
    assert bool(columns) != any(finding.name == "units-all-kept" for finding in found.findings)


def test_a_plane_and_a_series_are_chosen_by_name_on_the_command_line(tmp_path, capsys):
    path = write_nwb(tmp_path / "a.nwb", planes=2, boxes=("Fluorescence", "DfOverF"))
    masks, traces = parts()
    with pytest.raises(DataError, match=r"Segmentation0.*Segmentation1.*name one"):
        import_results(path)
    with pytest.raises(DataError, match=r"DfOverF/Series1.*name one"):
        import_results(path, plane="Segmentation1")
    out = ["--out", str(tmp_path), "--plane", "Segmentation1", "--series", "DfOverF"]
    assert main(["import", str(path), *out, "--um-per-px", "1.5", "2"]) == 0
    assert "um_per_px: (1.5, 2.0)" in capsys.readouterr().out
    scan = open_extracted(tmp_path / "traces.npz", tmp_path / "masks.npz")
    np.testing.assert_allclose(scan.movie().fluorescence, traces + 1000)
    np.testing.assert_array_equal(
        segmenters["extracted"](scan.movie()).masks, np.roll(masks, 1, axis=2) > 0
    )


def test_every_parameter_of_an_importer_is_an_option_of_the_command_line():
    actions = _parser()._subparsers._group_actions[0].choices["import"]._actions
    options = {action.dest for action in actions}
    for name in importers:
        assert set(importers.defaults(name)) <= options


def test_masks_of_early_roiextractors_are_known_by_their_centers(tmp_path):
    masks, _ = parts()
    centers = np.array([np.mean(np.nonzero(m), axis=1) for m in masks]).astype(int)
    old = import_results(write_nwb(tmp_path / "old.nwb", centers=centers, rows=True))
    np.testing.assert_array_equal(old.masks, masks > 0)
    said = import_results(tmp_path / "old.nwb", rows_first=False)
    np.testing.assert_array_equal(said.masks, masks.transpose(0, 2, 1) > 0)
    standard = import_results(write_nwb(tmp_path / "new.nwb", centers=centers))
    np.testing.assert_array_equal(standard.masks, masks > 0)


@real
def test_one_recording_is_the_same_by_its_suite2p_folder_and_by_its_nwb_file():
    folder = import_results(REAL / "suite2p_two_planes", plane="plane0")
    file = import_results(REAL / "roiextractors_of_suite2p.nwb")
    assert folder.keep.sum() == file.keep.sum() == 7
    np.testing.assert_array_equal(folder.keep, file.keep)
    np.testing.assert_array_equal(folder.raw, file.raw)
    np.testing.assert_array_equal(folder.corrected, file.corrected)
    np.testing.assert_array_equal(folder.activity, file.activity)
    np.testing.assert_allclose(folder.weights, file.weights, atol=1e-6)
    np.testing.assert_allclose(folder.mean_image, file.mean_image)
    assert file.fps == pytest.approx(10.0)


@real
@pytest.mark.parametrize(
    ("plane", "units", "size"), [("plane1", 25, (128, 128)), ("combined", 40, (128, 256))]
)
def test_the_other_planes_of_a_real_suite2p_folder(plane, units, size):
    found = import_results(REAL / "suite2p_two_planes", plane=plane)
    assert found.pixels.shape == (units, *size)
    assert found.keep.sum() == {"plane1": 7, "combined": 14}[plane]


@real
def test_a_real_output_of_extract_needs_a_rate_and_has_twenty_cells():
    path = REAL / "extract_public_output.mat"
    with pytest.raises(DataError, match="give fps"):
        import_results(path)
    found = import_results(path, fps=20.0)
    assert found.pixels.shape == (20, 50, 50)
    assert found.corrected.shape == (20, 2000)
    assert found.keep.all()
    # where a cell is, its own image is brighter than elsewhere
    inside = found.masks.any(axis=0)
    assert found.mean_image[inside].mean() > found.mean_image[~inside].mean()


def test_rejected_units_stay_in_the_chain_but_below_the_limit_of_somata(tmp_path):
    columns = [("iscell", np.array([[1, 0.2], [0, 0.9], [1, 0.8], [1, 0.6]]))]
    scan = import_results(write_nwb(tmp_path / "a.nwb", columns=columns)).scan(tmp_path / "out")
    probability = segmenters["extracted"](scan.movie()).soma_probability
    np.testing.assert_allclose(probability, [0.5, 0.49, 0.8, 0.6])


def test_a_file_of_another_kind_is_one_line_whatever_is_in_it(tmp_path):
    h5py = pytest.importorskip("h5py")
    _, traces = parts()
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["output/spatial_weights"] = np.array([b"text"])
        file["output/temporal_weights"] = traces
    with h5py.File(tmp_path / "b.mat", "w") as file:
        group = file.create_group("output")
        group.create_dataset("spatial_weights", (4, 60_000, 60_000), "f4", chunks=(1, 100, 100))
        group["temporal_weights"] = traces
    (tmp_path / "c.mat").write_bytes(b"MATLAB 5.0 MAT-file, made by hand")
    for name in ("a.mat", "b.mat", "c.mat"):
        with pytest.raises(DataError, match=name) as caught:
            import_results(tmp_path / name, fps=10.0)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
