"""What goes into an NWB file comes out of it, and the file is as archives want it."""

import dataclasses
import json

import h5py
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.recording.bundle import read_bundle
from pipeline.recording.nwb.unpack import unpack
from pipeline.recording.streams import read_pupil


@pytest.fixture
def write(tmp_path):
    def written(session, name="s.nwb"):
        from pipeline.recording.nwb.write import write_session

        return write_session(session, tmp_path / name)

    return written


def without_movie(session, fields=1):
    planes = [dataclasses.replace(plane, movie=None) for plane in session.planes[:fields]]
    return dataclasses.replace(session, planes=planes)


def column(path, name):
    header, *rows = path.read_text().splitlines()
    index = header.split(",").index(name)
    cells = [row.split(",")[index] for row in rows]
    return np.array([float(cell) if cell else np.nan for cell in cells])


def test_frames_times_and_fields_of_a_movie_come_back(session, write):
    from pipeline.imaging.adapters import open_source

    path = write(session)
    folder = unpack(path)
    bundle = read_bundle(folder, path)
    assert bundle.files["tiff"] == [path]
    assert bundle.recording.imaging.channel == 1  # the file has the one channel that was used
    np.testing.assert_array_equal(column(folder / "frame_times.csv", "time_s"), session.frame_times)
    scan = open_source(path, fps=9.7)
    assert (scan.n_fields, scan.n_frames, scan.bidirectional) == (2, 60, True)
    for plane, field in zip(session.planes, scan.fields, strict=True):
        found = scan.movie(plane.index)
        assert found[:].dtype == np.int16
        np.testing.assert_array_equal(found[:], plane.movie[:])
        assert (field.height_px, field.width_px) == plane.shape
        assert (field.x_um, field.y_um, field.z_um) == plane.center_um
        assert (field.delay_s, field.line_period_s) == (plane.delay_s, plane.line_period_s)
        assert field.um_per_px == found.um_per_px == (1.5, 2.0)


def test_images_trials_monitor_and_behavior_come_back_to_the_last_bit(session, write):
    path = write(session)
    bundle = read_bundle(unpack(path), path)
    trials = session.trials.columns
    assert bundle.trials["image_hash"] == list(trials["image"].values)
    np.testing.assert_array_equal(bundle.trials["onset_s"], trials["start_time"].values)
    np.testing.assert_array_equal(bundle.trials["offset_s"], trials["stop_time"].values)
    np.testing.assert_array_equal(bundle.trials["blank_before_s"], [0.4, np.nan, 0.4, 0.4, 0.4])
    for name, image in bundle.images.items():
        np.testing.assert_array_equal(image, session.images[name])
    np.testing.assert_array_equal(bundle.curve.luminance_cd_m2, session.monitor[1])
    pupil = read_pupil(bundle.files["pupil"][0])
    np.testing.assert_array_equal(np.column_stack([*pupil.values()]), session.pupil[:, :4])
    counts = bundle.files["treadmill"][0]
    np.testing.assert_array_equal(column(counts, "time_s"), session.counts[:, 0])
    np.testing.assert_array_equal(column(counts, "counts"), session.counts[:, 1])
    said = bundle.recording
    assert (said.animal_id, said.session, said.scan_idx) == (5, 2, 3)
    assert (said.rig, said.brain_area, said.depth_um) == ("bench/2", "V1", 200.0)
    assert (said.treadmill.diameter_cm, said.monitor.width_px) == (20.0, 64)


def test_units_of_a_file_without_movie_come_back_to_the_last_bit(session, write):
    from pipeline.imaging.importers.extracted import open_extracted
    from pipeline.imaging.segmentation import segmenters
    from pipeline.imaging.segmentation.masks import PixelStack

    plane = session.planes[0]
    bundle = read_bundle(unpack(write(without_movie(session))))
    scan = open_extracted(bundle.files["traces"][0], bundle.files["masks"][0])
    movie, packed = scan.movie(), PixelStack(*plane.masks, plane.shape)
    np.testing.assert_array_equal(scan.time_s, session.frame_times)
    np.testing.assert_array_equal(movie.fluorescence, plane.traces["corrected"].load())
    np.testing.assert_array_equal(movie.given["neuropil"], plane.traces["neuropil"].load())
    share = np.repeat([packed[unit].sum() for unit in range(3)], packed.counts)
    np.testing.assert_array_equal(movie.weights.pixel, packed.pixel)
    np.testing.assert_allclose(movie.weights.value, packed.value / share, rtol=1e-6)
    np.testing.assert_array_equal(movie.mean_image, plane.images["mean_image"])
    times = scan.fields[0].delay_s, scan.fields[0].line_period_s
    assert times == pytest.approx((plane.delay_s, plane.line_period_s), rel=1e-6)
    (said,) = [f.text for f in bundle.findings if f.name == "units-kept"]
    assert "2 of 3 units were kept" in said
    soma = segmenters["extracted"](movie).soma_probability
    np.testing.assert_allclose(soma, [0.9, 0.2, 0.5])  # kept, though nobody gave a probability


def test_speed_alone_becomes_a_stream_of_speed(session, write):
    path = write(dataclasses.replace(session, counts=None))
    folder = unpack(path)
    read_bundle(folder, path)
    assert not (folder / "treadmill.csv").exists()
    np.testing.assert_allclose(column(folder / "running.csv", "speed_cm_s"), session.speed[:, 1])


def test_units_of_two_fields_without_movie_must_be_chosen(session, write):
    path = write(without_movie(session, fields=2))
    with pytest.raises(
        DataError, match=r"s\.nwb: nwb\.plane: .* found .*units_0.*units_1.*name one"
    ):
        unpack(path)
    folder = unpack(path, entries={"nwb": {"plane": "units_1"}})
    with np.load(folder / "masks.npz") as file:
        assert file["mean_image"].shape == session.planes[1].shape


def test_a_linked_movie_is_named_from_the_file_and_not_followed(session, write, tmp_path):
    (tmp_path / "raw").mkdir()
    movie = tmp_path / "raw" / "scan_00001.tif"
    movie.write_bytes(b"frames")
    plane = dataclasses.replace(session.planes[0], movie=None, linked=[(movie, 0)])
    path = write(dataclasses.replace(session, planes=[plane]))
    with h5py.File(path) as file:
        named = file["acquisition/raw_movie_0/external_file"][()]
        assert [name.decode() for name in named] == ["raw/scan_00001.tif"]
    folder = unpack(path)  # the units are in the file
    assert (folder / "traces.npz").exists()
    bare = dataclasses.replace(plane, masks=None)
    other = write(dataclasses.replace(session, planes=[bare]), "bare.nwb")
    with pytest.raises(DataError, match=r"bare\.nwb: .*neither a movie nor .*not followed"):
        unpack(other)


def test_what_is_computed_of_a_scan_is_in_the_file(session, write):
    import pynwb

    with pynwb.NWBHDF5IO(write(session), "r") as io:
        file = io.read()
        ophys = file.processing["ophys"]
        for plane in session.planes:
            motion = ophys[f"motion_{plane.index}"].data[:]
            np.testing.assert_array_equal(motion, plane.motion.T)
            units = ophys["ImageSegmentation"][f"units_{plane.index}"].to_dataframe()
            assert units["keep"].tolist() == [True, False, True]
            assert units.index.tolist() == list(plane.units.columns["unit_id"].values)
            for name, trace in plane.traces.items():
                series = ophys[name][f"{name}_{plane.index}"]
                np.testing.assert_array_equal(series.data[:], trace.load().T)
        order = [image.name for image in file.stimulus_template["images"].order_of_images]
        shown = file.stimulus["presented_images"]
        images = session.trials.columns["image"].values
        assert [order[row] for row in shown.data[:]] == list(images)
        assert file.trials.to_dataframe()["image"].tolist() == list(images)
        planned = set(file.stimulus_template["planned_images"].images)
        assert planned == set(session.images) - set(images)
        whence = file.processing["misc"]["image_provenance"].to_dataframe()
        assert whence["kind"].tolist() == ["mei", "gabor"]
        assert file.subject.subject_id == "5"


def serious(path):
    """Return the checks that fail, by what DANDI demands: it makes more of them critical."""
    inspector = pytest.importorskip("nwbinspector", reason="pip install 'inception-loop[dev]'")
    found = inspector.inspect_nwbfile(nwbfile_path=path, config=inspector.load_config("dandi"))
    return {message.check_function_name for message in found if message.importance.name in SERIOUS}


SERIOUS = ("CRITICAL", "BEST_PRACTICE_VIOLATION", "ERROR", "PYNWB_VALIDATION")


def test_inspectors_of_nwb_and_dandi_find_nothing_serious(session, write):
    assert serious(write(session)) == set()
    assert serious(write(without_movie(session))) == set()


def test_the_age_that_nobody_said_is_left_out_and_named(session, write):
    from pipeline.recording.nwb.write import missing_facts

    silent = dataclasses.replace(session, said={})
    assert serious(write(silent)) == {"check_subject_age"}
    asked = ["sex", "age", "experimenter", "institution", "excitation_nm", "emission_nm"]
    assert missing_facts(silent) == asked
    born = {**session.entries, "date_of_birth": "2026-08-22"}
    assert "age" not in missing_facts(dataclasses.replace(silent, entries=born))


def test_an_entry_that_no_file_has_a_place_for_is_refused(session, write):
    with pytest.raises(DataError, match=r"weather: unknown entry; found sun; expected one of"):
        write(dataclasses.replace(session, said={"weather": "sun"}))
    with pytest.raises(DataError, match=r"a name that ends in \.nwb"):
        write(session, "s.h5")


def test_even_times_are_a_rate_and_uneven_ones_are_kept():
    from pipeline.recording.nwb.timing import timing

    even = timing(3.0 + np.arange(100) / 7.5)
    assert set(even) == {"rate", "starting_time"}
    assert even["rate"] == pytest.approx(7.5, rel=1e-12)
    jitter = 3.0 + np.arange(100) / 7.5 + 1e-6 * np.arange(100) ** 2
    np.testing.assert_array_equal(timing(jitter)["timestamps"], jitter)


def test_even_times_come_back_to_the_last_bit(session, write):
    time = 0.05 * np.arange(len(session.pupil))  # whose last bits no rate gives
    session.pupil[:, 0] = time
    path = write(session)
    with h5py.File(path) as file:
        assert "starting_time" in file["processing/behavior/PupilTracking/pupil_radius"]
    found = read_pupil(unpack(path) / "pupil.csv")
    np.testing.assert_array_equal(found["time_s"], time)


def test_a_movie_is_read_a_buffer_at_a_time():
    pytest.importorskip("pynwb")
    from pipeline.recording.nwb.write_imaging import BUFFER_BYTES, MovieChunks

    class Long:
        shape, most = (40_000, 64, 64), 0

        def __getitem__(self, frames):
            start, stop, _ = frames.indices(self.shape[0])
            Long.most = max(Long.most, stop - start)
            return np.zeros((stop - start, 64, 64), np.int16)

    chunks = MovieChunks(Long())
    assert sum(chunk.data.shape[0] for chunk in chunks) == 40_000
    assert Long.most * 64 * 64 * 2 <= BUFFER_BYTES


def test_the_same_file_again_changes_nothing_and_another_is_refused(session, write):
    path = write(session)
    folder = unpack(path)
    before = {item.name: item.stat().st_mtime_ns for item in folder.iterdir()}
    assert unpack(path) == folder
    assert {item.name: item.stat().st_mtime_ns for item in folder.iterdir()} == before
    with pytest.raises(DataError, match="folder holds something else"):
        unpack(path, entries={"session": 4})
    assert [item.name for item in folder.parent.iterdir() if ".bundle." in item.name] == []


def test_entries_go_before_what_the_file_says(session, write, tmp_path):
    path = write(session)
    folder = unpack(path, tmp_path / "other", {"session": 4, "monitor": {"width_px": 128}})
    said = json.loads((folder / "recording.json").read_text())
    assert (said["animal_id"], said["session"]) == (5, 4)
    assert said["monitor"] == {"calibration": "monitor.csv", "height_px": 36, "width_px": 128}
