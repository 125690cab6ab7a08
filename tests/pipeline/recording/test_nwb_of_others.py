"""Files of others are understood, or refused in one line with file, field and remedy."""

import json
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from nwb_files import imaging_plane

from pipeline.errors import DataError
from pipeline.imaging.segmentation.mask_files import read_masks
from pipeline.recording.bundle import read_bundle
from pipeline.recording.nwb.unpack import read_entries, unpack
from pipeline.recording.streams import read_pupil, read_running

pynwb = pytest.importorskip("pynwb")

REAL = Path(__file__).parents[4] / "shared/data/real/results/roiextractors_of_suite2p.nwb"
FRAMES, UNITS = 200, 4
TIME = 3 + np.cumsum(np.random.default_rng(0).uniform(0.09, 0.11, FRAMES))
SHOWN = [0, 1, 2, 1, -1, 0]  # a row of -1 is a blank sweep


def pictures(n=3, shape=(18, 32)):
    return np.random.default_rng(1).integers(0, 256, (n, *shape), np.uint8)


def traces():
    return np.random.default_rng(2).normal(size=(FRAMES, UNITS)).astype(np.float32)


@pytest.fixture
def entries(tmp_path):
    """What a person says beside the file."""
    gray = np.arange(0, 256, 15)
    rows = "".join(f"{g},{0.3 + 30 * (g / 255) ** 2.2:.5f}\n" for g in gray)
    (tmp_path / "curve.csv").write_text("pixel_value,luminance_cd_m2\n" + rows)
    said = {
        "animal_id": 7,
        "session": 1,
        "scan_idx": 1,
        "monitor": {"width_px": 64, "height_px": 36, "calibration": "curve.csv"},
        "nwb": {"images_rows_first": True},
    }
    (tmp_path / "said.json").write_text(json.dumps(said))
    return read_entries(tmp_path / "said.json")


def presentations(name="natural_images_presentations", column="image_index", shown=SHOWN):
    onset = 4 + 0.75 * np.arange(len(shown))
    table = pynwb.epoch.TimeIntervals(name=name, description="sweeps")
    table.add_column(name=column, description="which image")
    for start, image in zip(onset, shown, strict=True):
        table.add_interval(start_time=start, stop_time=start + 0.25, **{column: image})
    return table


def write(path, *, templates=None, tables=None, radius="pupil_area", unit="cm/s", rois=True):
    """Write a session as Allen's files have it: dF/F, a stack of images, a table of sweeps."""
    file = pynwb.NWBFile("a session", "id", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
    file.subject = pynwb.file.Subject(subject_id="mouse_a", species="Mus musculus")
    plane = imaging_plane(
        file,
        "imaging_plane_1",
        device=file.create_device(name="MESO.1"),
        description="VISp",
        excitation_lambda=910.0,
        indicator="GCaMP6f",
        location="VISp",
        grid_spacing=[0.8e-6, 0.7e-6],
        grid_spacing_unit="meters",
    )
    if rois:
        module = file.create_processing_module(name="ophys", description="units")
        segmentation = pynwb.ophys.ImageSegmentation()
        module.add(segmentation)
        table = segmentation.create_plane_segmentation(
            name="cell_specimen_table", description="cells", imaging_plane=plane
        )
        for row in range(UNITS):
            mask = np.zeros((20, 16), np.float32)  # x, y
            mask[3 * row : 3 * row + 3, 2:6] = 1
            table.add_roi(image_mask=mask)
        region = table.create_roi_table_region(region=list(range(UNITS)), description="all")
        box = pynwb.ophys.DfOverF(name="dff")
        module.add(box)
        box.add_roi_response_series(
            pynwb.ophys.RoiResponseSeries(
                name="traces", data=traces(), rois=region, unit="1", timestamps=TIME
            )
        )
    for template in [stack()] if templates is None else templates:
        file.add_stimulus_template(template)
    for table in [presentations()] if tables is None else tables:
        file.add_time_intervals(table)
    running = file.create_processing_module(name="running", description="wheel")
    running.add(
        pynwb.TimeSeries(name="speed", data=np.linspace(0, 20, FRAMES), unit=unit, timestamps=TIME)
    )
    eye = file.create_processing_module(name="behavior", description="eye")
    series = pynwb.TimeSeries(
        name=radius, data=np.pi * np.linspace(5, 9, FRAMES) ** 2, unit="px^2", timestamps=TIME
    )
    eye.add(pynwb.behavior.PupilTracking(time_series=series))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def stack(data=None, name="natural_images"):
    data = pictures() if data is None else data
    return pynwb.image.ImageSeries(name=name, data=data, unit="gray", rate=1.0)


def test_a_session_with_units_images_pupil_and_running_is_understood(tmp_path, entries):
    folder = unpack(write(tmp_path / "a.nwb"), entries=entries)
    bundle = read_bundle(folder)
    said = bundle.recording
    assert (said.animal_id, said.rig, said.brain_area, said.indicator) == (
        7,
        "MESO.1",
        "VISp",
        "GCaMP6f",
    )
    assert said.scan_ts == datetime(2024, 5, 6, 7, 8, 9)
    assert said.imaging.um_per_px == pytest.approx((0.7, 0.8))
    with np.load(folder / "traces.npz") as file:
        np.testing.assert_array_equal(file["fluorescence"], traces().T)
        np.testing.assert_array_equal(file["time_s"], TIME)
    masks = read_masks(folder / "masks.npz")
    assert masks.shape == (UNITS, 16, 20)
    assert (masks[1][2:6, 3:6] > 0).all()
    from pipeline.stimulus.images import image_hash

    named = [image_hash(image) for image in pictures()]
    assert bundle.trials["image_hash"] == [named[image] for image in SHOWN if image >= 0]
    np.testing.assert_allclose(bundle.trials["onset_s"], [4, 4.75, 5.5, 6.25, 7.75])
    np.testing.assert_allclose(bundle.trials["offset_s"] - bundle.trials["onset_s"], 0.25)
    pupil = read_pupil(bundle.files["pupil"][0])
    np.testing.assert_allclose(pupil["radius_px"], np.linspace(5, 9, FRAMES))
    assert np.isnan(pupil["center_x_px"]).all()  # the file has none
    speed = read_running(bundle.files["running"][0])
    np.testing.assert_allclose(speed["speed_cm_s"], np.linspace(0, 20, FRAMES))


@pytest.mark.parametrize(("unit", "scale"), [("m/s", 100.0), ("cm/s", 1.0)])
def test_running_speed_comes_in_cm_per_s(tmp_path, entries, unit, scale):
    folder = unpack(write(tmp_path / "a.nwb", unit=unit), entries=entries)
    speed = read_running(folder / "running.csv")["speed_cm_s"]
    np.testing.assert_allclose(speed, scale * np.linspace(0, 20, FRAMES))


def test_images_of_a_collection_are_named_by_text(tmp_path, entries):
    from pynwb.image import GrayscaleImage

    images = [GrayscaleImage(name=f"im{i}", data=image) for i, image in enumerate(pictures())]
    box = pynwb.base.Images(name="images", images=images, description="shown")
    shown = ["im2", "im0", "omitted", "im2"]
    table = presentations(column="image_name", shown=shown)
    path = write(tmp_path / "a.nwb", templates=[box], tables=[table])
    hashes = read_bundle(unpack(path, entries=entries)).trials["image_hash"]
    assert len(hashes) == 3
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("rows_first", [True, False])
def test_images_stand_upright_as_the_monitor_does(tmp_path, entries, rows_first):
    data = pictures() if rows_first else pictures().transpose(0, 2, 1)
    entries["nwb"] = {}  # nobody says how they are stored
    path = write(tmp_path / "a.nwb", templates=[stack(np.ascontiguousarray(data))])
    bundle = read_bundle(unpack(path, entries=entries))
    (shape,) = {image.shape for image in bundle.images.values()}
    assert shape == (18, 32)


def test_onsets_alone_need_the_duration_to_be_said(tmp_path, entries):
    path = tmp_path / "a.nwb"
    write(path, tables=[])
    with h5py.File(path, "a") as file:
        group = file.create_group("stimulus/presentation/sweeps")
        group.attrs["neurodata_type"] = "IndexSeries"
        group["data"] = np.array([0, 2, 1], np.uint32)
        group["timestamps"] = [4.0, 5.0, 7.5]
    with pytest.raises(DataError, match=r"sweeps: onsets without offsets; .*duration_s"):
        unpack(path, entries=entries)
    entries["nwb"]["duration_s"] = 0.5
    bundle = read_bundle(unpack(path, entries=entries))
    np.testing.assert_allclose(bundle.trials["offset_s"], [4.5, 5.5, 8.0])


def test_one_of_several_tables_is_chosen_by_name(tmp_path, entries):
    tables = [presentations(), presentations("gratings_presentations", shown=[2, 2])]
    path = write(tmp_path / "a.nwb", tables=tables)
    with pytest.raises(DataError, match=r"not exactly one table .*gratings_presentations.*name"):
        unpack(path, entries=entries)
    entries["nwb"]["intervals"] = "gratings_presentations"
    assert len(read_bundle(unpack(path, entries=entries)).trials["trial_idx"]) == 2


def uint16_images():
    return [stack(pictures().astype(np.uint16) * 200)]


def nan_times(path):
    with h5py.File(path, "a") as file:
        file["processing/ophys/dff/traces/timestamps"][5] = np.nan


def no_times(path):
    with h5py.File(path, "a") as file:
        del file["processing/ophys/dff/traces/timestamps"]


def short_times(path):
    with h5py.File(path, "a") as file:
        del file["processing/running/speed/timestamps"]
        file["processing/running/speed/timestamps"] = TIME[:-3]


def elsewhere(path):
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["data"] = traces()
    with h5py.File(path, "a") as file:
        del file["processing/ophys/dff/traces/data"]
        file["processing/ophys/dff/traces/data"] = h5py.ExternalLink(str(other), "data")


def bomb(path):
    with h5py.File(path, "a") as file:
        del file["processing/running/speed/data"]
        made = file["processing/running/speed"].create_dataset(
            "data", (1 << 33,), "f8", chunks=True
        )
        made.attrs["unit"] = "cm/s"


def no_nwb(path):
    with h5py.File(path, "a") as file:
        del file.attrs["nwb_version"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bad_date(path):
    with h5py.File(path, "a") as file:
        del file["session_start_time"]
        file["session_start_time"] = "yesterday"


BROKEN = {
    "no images": ({"templates": []}, None, "stimulus/templates: holds no images"),
    "levels": ({"templates": uint16_images()}, None, "found 0? ?.*whole numbers from 0 to 255"),
    "number": (
        {"tables": [presentations(shown=[0, 99])]},
        None,
        "image_index: image is not among the templates; found .*99.*one of 3 images",
    ),
    "blank": ({"tables": [presentations(shown=[-1, -1])]}, None, "no image was shown"),
    "no table": ({"tables": []}, None, "nwb.intervals: not exactly one table"),
    "no units": ({"rois": False}, None, "holds neither a movie nor responses"),
    "unit": ({"unit": "revolutions"}, None, "unit of the running speed .* found 'revolutions'"),
    "pupil": ({"radius": "pupil"}, None, "size of the pupil is not understood"),
    "nan": ({}, nan_times, "frame times do not increase"),
    "no times": ({}, no_times, "fps: frame rate is unknown"),
    "few times": ({}, short_times, r"times do not fit the samples; found \(197,\)"),
    "bomb": ({}, bomb, "speed/data: array claims more than the file holds"),
    "outside": ({}, elsewhere, "data lie in another file"),
    "no nwb": ({}, no_nwb, "is no NWB file"),
    "cut": ({}, cut, "is no readable HDF5 file|is damaged"),
    "date": ({}, bad_date, "session_start_time: is no time; found 'yesterday'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_one_line(tmp_path, entries, name):
    options, damage, message = BROKEN[name]
    path = write(tmp_path / "a.nwb", **options)
    if damage is not None:
        damage(path)
    with pytest.raises(DataError, match=message) as caught:
        unpack(path, entries=entries)
    assert "a.nwb" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.bundle").exists()


@pytest.mark.parametrize("name", ["animal_id", "session", "scan_idx", "monitor"])
def test_what_the_file_does_not_say_is_asked_for(tmp_path, entries, name):
    entries.pop(name)
    with pytest.raises(DataError, match=rf"a\.nwb: {name}.*--entries"):
        unpack(write(tmp_path / "a.nwb"), entries=entries)


def test_a_choice_that_does_not_exist_is_named(tmp_path, entries):
    entries["nwb"]["planes"] = "x"
    with pytest.raises(DataError, match=r"nwb\.planes: unknown choice; expected .*'plane'"):
        unpack(write(tmp_path / "a.nwb"), entries=entries)


def test_bytes_that_are_flipped_make_values_or_one_line(tmp_path, entries):
    path = write(tmp_path / "a.nwb")
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    said = []
    for trial in range(25):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 40):
            broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            unpack(path, tmp_path / f"out{trial}", entries)
        except DataError as error:
            said.append(str(error))
    assert said
    assert [text for text in said if "\n" in text] == []


@pytest.mark.skipif(not REAL.exists(), reason="the real recordings are not here")
def test_a_real_file_without_images_is_refused_in_one_line(tmp_path, entries):
    with pytest.raises(DataError, match=r"roiextractors_of_suite2p\.nwb") as caught:
        unpack(REAL, tmp_path / "out", entries)
    assert "\n" not in str(caught.value)
