"""Every kind of source gives the frames that were written into it."""

import json
import os
import pickle
from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile
from nwb_files import imaging_plane

from pipeline.errors import DataError
from pipeline.imaging import process
from pipeline.imaging.adapters import open_nwb, open_source
from pipeline.imaging.movie import Movie


def frames(n=12, height=6, width=10, seed=0):
    return np.random.default_rng(seed).integers(0, 900, (n, height, width)).astype(np.int16)


def write_tiff(path, pages, **said):
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None)
    if said:
        path.with_suffix(".json").write_text(json.dumps(said))
    return path


def test_a_json_file_says_what_a_plain_tiff_does_not(tmp_path):
    pages = frames(12)
    path = write_tiff(
        tmp_path / "a.tif",
        pages,
        fps=7.5,
        um_per_px=[1.5, 2.0],
        channels=2,
        slices=3,
        bidirectional=False,
    )
    scan = open_source(path)
    assert (scan.n_frames, scan.n_channels, scan.n_fields) == (2, 2, 3)
    assert (scan.fps, scan.bidirectional) == (7.5, False)
    movie = scan.movie(2, 1)
    assert isinstance(movie, Movie)
    assert movie.um_per_px == (1.5, 2.0)
    np.testing.assert_array_equal(movie[:], pages[5::6])


def test_a_tiff_without_json_is_read_as_before(tmp_path):
    path = write_tiff(tmp_path / "a.tif", frames())
    (tmp_path / "a.json").write_text('{"made by": "another program"}')
    with pytest.raises(DataError, match="give fps"):
        open_source(path)
    assert open_source([path], fps=5.0).n_frames == 12


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"fps": 30', "cannot be read"),
        ('{"fps": 30, "gain": 2}', "found \\['gain'\\]"),
        ('{"fps": -1}', "frame rate is impossible"),
        ('{"fps": null}', "write fps"),
        ('{"fps": "fast"}', "wrong type"),
        ('{"fps": 30, "channels": 0}', "number of planes"),
        ('{"fps": 30, "um_per_px": [1, 0]}', "pixel size"),
    ],
)
def test_a_bad_json_file_is_one_clear_line(tmp_path, said, message):
    path = write_tiff(tmp_path / "a.tif", frames())
    (tmp_path / "a.json").write_text(said)
    with pytest.raises(DataError, match=message) as caught:
        open_source(path)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zarr_array_is_read_in_pieces(tmp_path):
    zarr = pytest.importorskip("zarr")
    data = frames(40)
    array = zarr.create_array(
        store=str(tmp_path / "m.zarr"), shape=data.shape, chunks=(8, 6, 10), dtype=data.dtype
    )
    array[:] = data
    array.attrs.update({"fps": 12.5, "um_per_px": 1.25, "bidirectional": False})
    scan = open_source(tmp_path / "m.zarr")
    assert (scan.fps, scan.n_frames, scan.bidirectional) == (12.5, 40, False)
    assert scan.movie().um_per_px == (1.25, 1.25)
    np.testing.assert_array_equal(scan.movie()[5:23], data[5:23])
    assert scan.fields[0].row_delays()[-1] < 1 / 12.5


def test_a_zarr_group_must_hold_one_movie(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    group.create_array("a", shape=(5, 4, 4), dtype="f4")[:] = 1
    assert open_source(tmp_path / "g.zarr", fps=3.0).n_frames == 5
    group.create_array("b", shape=(5, 4, 4), dtype="f4")[:] = 1
    with pytest.raises(DataError, match="not exactly one movie"):
        open_source(tmp_path / "g.zarr", fps=3.0)


def write_nwb(path, data, *, names=("TwoPhotonSeries",), rate=15.0):
    """Write a file by pynwb, data in the standard's order (frame, x, y)."""
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a scan", "id", datetime(2026, 11, 24, tzinfo=UTC))
    plane = imaging_plane(file, grid_spacing=[2e-6, 1.5e-6], grid_spacing_unit="meters")
    for name in names:
        file.add_acquisition(
            pynwb.ophys.TwoPhotonSeries(
                name=name, data=data, imaging_plane=plane, rate=rate, unit="a.u."
            )
        )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def test_an_nwb_movie_has_rows_and_columns_in_place(tmp_path):
    data = frames(20)
    path = write_nwb(tmp_path / "a.nwb", data.transpose(0, 2, 1))
    scan = open_source(path)
    assert (scan.fps, scan.n_frames, scan.n_fields) == (15.0, 20, 1)
    assert scan.movie().um_per_px == pytest.approx((1.5, 2.0))  # x is 2 um, y is 1.5 um
    np.testing.assert_array_equal(scan.movie()[3:9], data[3:9])
    np.testing.assert_array_equal(
        open_nwb(path, rows_first=True).movie()[:2], data[:2].transpose(0, 2, 1)
    )


def test_several_series_of_one_file_are_fields_or_one_is_chosen(tmp_path):
    path = write_nwb(tmp_path / "a.nwb", frames(5).transpose(0, 2, 1), names=("p0", "p1"))
    assert open_source(path).n_fields == 2
    assert open_nwb(path, series="p1").n_fields == 1
    with pytest.raises(DataError, match=r"found \['p0', 'p1'\]"):
        open_nwb(path, series="p9")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"not HDF5 at all" * 50])
def test_what_is_no_nwb_file_is_one_clear_line(tmp_path, content):
    pytest.importorskip("h5py")
    path = tmp_path / "a.nwb"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nwb: is no readable HDF5 file"):
        open_source(path)


def test_the_chain_takes_any_source(tmp_path, simulator):
    zarr = pytest.importorskip("zarr")
    movie = simulator(seed=2, size=64, frames=150, cells=8).movie
    array = zarr.create_array(store=str(tmp_path / "m.zarr"), shape=movie.shape, dtype="i2")
    array[:] = movie
    tiff = write_tiff(tmp_path / "m.tif", movie, fps=10.0, um_per_px=1.0)
    made = [
        process(source, tmp_path / name, um_per_px=1.0, fps=10.0, deconvolver="derivative")
        for name, source in (("zarr", tmp_path / "m.zarr"), ("tiff", tiff))
    ]
    one, two = (np.load(path) for path in made)
    for name in ("shifts_y", "raster_px", "traces"):
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("kind", ["external storage", "external link", "virtual"])
def test_an_hdf5_file_whose_data_lie_elsewhere_is_refused(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(b"password of the database" * 10)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = np.zeros((10, 4, 6), np.uint8)
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        group = file.create_group("acquisition/s")
        group.attrs["neurodata_type"] = "TwoPhotonSeries"
        group.create_dataset("starting_time", data=0.0).attrs["rate"] = 10.0
        if kind == "external storage":
            place = [(str(tmp_path / "secret"), 0, 240)]
            group.create_dataset("data", shape=(10, 4, 6), dtype="u1", external=place)
        elif kind == "external link":
            group["data"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/data")
        else:
            layout = h5py.VirtualLayout((10, 4, 6), "u1")
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (10, 4, 6))
            group.create_virtual_dataset("data", layout)
    with pytest.raises(DataError, match="data lie in another file") as caught:
        open_nwb(path)
    assert "\n" not in str(caught.value)


def test_links_within_an_hdf5_file_are_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        group = file.create_group("acquisition/s")
        group.attrs["neurodata_type"] = "TwoPhotonSeries"
        group.create_dataset("starting_time", data=0.0).attrs["rate"] = 10.0
        file["numbers"] = frames(10)
        group["data"] = h5py.SoftLink("/numbers")
        file["nowhere"] = h5py.SoftLink("/gone")
    assert open_nwb(tmp_path / "a.nwb").n_frames == 10


class Runs:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def test_a_zarr_whose_chunks_are_pickles_is_refused_and_does_not_run(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        str(path), shape=(2, 4, 4), chunks=(2, 4, 4), dtype="i2", zarr_format=2, compressors=None
    )
    array.attrs["fps"] = 10.0
    array[:] = 1
    meta = json.loads((path / ".zarray").read_text())
    ran = tmp_path / "ran"
    (path / "0.0.0").write_bytes(pickle.dumps(Runs(os.system, (f"touch {ran}",))))
    for changed in (
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "json2"}},
    ):
        (path / ".zarray").write_text(json.dumps({**meta, **changed}))
        with pytest.raises(DataError) as caught:
            open_source(path).movie()[0:2]
        assert "\n" not in str(caught.value)
        assert not ran.exists()


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_as_they_are_commonly_packed_are_read(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    pages = frames()
    more = {"shards": (12, 6, 10)} if version == 3 else {}
    for name, packed in (("auto", {}), ("plain", {"compressors": None}), ("sharded", more)):
        path = tmp_path / f"{name}.zarr"
        array = zarr.create_array(
            str(path),
            shape=pages.shape,
            chunks=(4, 6, 10),
            dtype="i2",
            zarr_format=version,
            **packed,
        )
        array[:] = pages
        array.attrs["fps"] = 10.0
        np.testing.assert_array_equal(open_source(path).movie()[:], pages)
