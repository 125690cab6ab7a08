"""TIFF files of microscopes are read with their frames, fields, rates and scales."""

import numpy as np
import pytest
import tifffile
from tiff_files import HEADER, pages_of, software, write

from pipeline.errors import DataError
from pipeline.imaging.tiff import open_scan
from pipeline.imaging.tiff.header import parse_header


def test_reads_frames_rate_and_scale_of_a_scanimage_file(tmp_path):
    pages = pages_of(7)
    scan = open_scan(write(tmp_path / "a.tif", pages, header=software()))
    assert (scan.n_frames, scan.n_fields, scan.n_channels) == (7, 1, 1)
    assert scan.fps == 10.0
    assert scan.bidirectional
    field = scan.fields[0]
    assert field.um_per_px == pytest.approx((100 / 16, 200 / 24))
    assert field.delay_s == pytest.approx(7.5 * 6.25e-5)
    movie = scan.movie()
    assert movie.shape == (7, 16, 24)
    np.testing.assert_array_equal(movie[2:5], pages[2:5])
    np.testing.assert_array_equal(movie[:], pages)
    assert [start for start, _ in movie.batches(3)] == [0, 3, 6]


@pytest.mark.parametrize("options", [{"bigtiff": False}, {"byteorder": ">"}])
def test_classic_and_big_endian_files_read_alike(tmp_path, options):
    pages = pages_of(4)
    scan = open_scan(write(tmp_path / "a.tif", pages, header=software(), **options))
    np.testing.assert_array_equal(scan.movie()[:], pages)


def test_compressed_pages_and_several_strips_are_read(tmp_path):
    pages = pages_of(4)
    with tifffile.TiffWriter(tmp_path / "deflate.tif") as file:
        for page in pages:
            file.write(page, compression="zlib", metadata=None, software=software())
    with tifffile.TiffWriter(tmp_path / "strips.tif") as file:
        for page in pages:
            file.write(page, rowsperstrip=5, metadata=None, software=software())
    for name in ("deflate.tif", "strips.tif"):
        np.testing.assert_array_equal(open_scan(tmp_path / name).movie()[:], pages)


def test_files_of_a_scan_follow_their_frame_numbers(tmp_path):
    pages = pages_of(9)
    first = write(tmp_path / "b.tif", pages[:5], header=software(), first=1)
    second = write(tmp_path / "a.tif", pages[5:], header=software(), first=6)
    scan = open_scan([second, first])
    assert scan.n_frames == 9
    np.testing.assert_array_equal(scan.movie()[3:7], pages[3:7])


def test_channels_and_slices_with_flyback_are_taken_apart(tmp_path):
    pages = pages_of(2 * 4 * 3 + 5)  # 3 volumes of 3 slices and 1 flyback, 2 channels; 5 left over
    header = software(
        hChannels__channelSave="[1;3]",
        hFastZ__enable="true",
        hStackManager__zs="[0 20 40]",
        hFastZ__numFramesPerVolume="4",
        hRoiManager__scanFrameRate="40",
    )
    scan = open_scan(write(tmp_path / "v.tif", pages, header=header))
    assert (scan.n_frames, scan.n_fields, scan.n_channels, scan.fps) == (3, 3, 2, 10.0)
    assert scan.channel_numbers == [1, 3]
    assert [field.z_um for field in scan.fields] == [0, 20, 40]
    np.testing.assert_array_equal(scan.movie(field=2, channel=1)[:], pages[5:24:8])
    later = scan.fields[1].delay_s - scan.fields[0].delay_s
    assert later == pytest.approx(1 / 40)


def test_fields_of_a_mesoscope_are_cut_out_at_their_places(tmp_path):
    def roi(center, height):
        field = {
            "centerXY": center,
            "sizeXY": [2.0, 1.0],
            "rotationDegrees": 0,
            "pixelResolutionXY": [24, height],
        }
        return {"zs": 0, "discretePlaneMode": 0, "scanfields": field}

    artist = {
        "RoiGroups": {"imagingRoiGroup": {"rois": [roi([1.0, -2.0], 10), roi([3.0, 0.5], 6)]}}
    }
    pages = pages_of(3, height=20)  # 10 lines, 4 lines of flight, 6 lines
    header = software(hRoiManager__mroiEnable="true") + "\nSI.objectiveResolution = 150"
    scan = open_scan(write(tmp_path / "m.tif", pages, header=header, artist=artist))
    assert scan.n_fields == 2
    np.testing.assert_array_equal(scan.movie(field=1)[:], pages[:, 14:20])
    lower = scan.fields[1]
    assert (lower.x_um, lower.y_um) == pytest.approx((450.0, 75.0))
    assert lower.um_per_px == pytest.approx((150 / 6, 300 / 24))
    assert lower.delay_s == pytest.approx((14 + 2.5) * 6.25e-5)
    np.testing.assert_allclose(np.diff(lower.row_delays()), 6.25e-5)


def test_pixels_of_a_line_are_scanned_one_after_the_other_there_and_back(tmp_path):
    header = software(hScan2D__fillFractionTemporal="0.7")
    scan = open_scan(write(tmp_path / "a.tif", pages_of(2, height=6, width=10), header=header))
    delays = scan.fields[0].pixel_delays()
    line = 6.25e-5
    assert delays.shape == (6, 10)
    np.testing.assert_allclose(np.diff(delays[2]), 0.07 * line)
    np.testing.assert_allclose(np.diff(delays[3]), -0.07 * line)
    np.testing.assert_allclose(delays.mean(axis=1), (np.arange(6) + 0.5) * line)
    header = software(hScan2D__bidirectional="false")
    scan = open_scan(write(tmp_path / "b.tif", pages_of(2, height=6, width=10), header=header))
    assert (np.diff(scan.fields[0].pixel_delays(), axis=1) > 0).all()


def test_header_in_the_image_description_is_read_as_well(tmp_path):
    text = "\n".join(f"scanimage.SI.{key} = {value}" for key, value in HEADER.items())
    scan = open_scan(write(tmp_path / "old.tif", pages_of(3), description=text))
    assert scan.fps == 10.0
    assert scan.n_frames == 3


def test_plain_tiff_needs_and_takes_a_frame_rate(tmp_path):
    pages = pages_of(5)
    tifffile.imwrite(tmp_path / "plain.tif", pages)
    with pytest.raises(DataError, match="give fps"):
        open_scan(tmp_path / "plain.tif")
    scan = open_scan(tmp_path / "plain.tif", fps=15.0, um_per_px=(1.5, 1.5))
    assert scan.fps == 15.0
    assert scan.fields[0].um_per_px == (1.5, 1.5)
    np.testing.assert_array_equal(scan.movie()[:], pages)


def test_imagej_stack_brings_its_own_rate(tmp_path):
    pages = pages_of(6)
    tifffile.imwrite(
        tmp_path / "ij.tif",
        pages.reshape(3, 2, 16, 24),
        imagej=True,
        metadata={"axes": "TCYX", "finterval": 0.1},
    )
    scan = open_scan(tmp_path / "ij.tif")
    assert scan.fps == pytest.approx(10.0)
    np.testing.assert_array_equal(scan.movie(channel=1)[:], pages[1::2])


@pytest.mark.parametrize("value", ["-10", "0", "NaN", "Inf", "1e9"])
def test_impossible_frame_rates_are_refused(tmp_path, value):
    path = write(tmp_path / "a.tif", pages_of(3), header=software(hRoiManager__scanFrameRate=value))
    with pytest.raises(DataError, match="scanFrameRate"):
        open_scan(path)


def test_lines_of_a_header_are_names_and_values():
    text = "SI.a.b = 'x = y'\nscanimage.SI5.c\t=  [1 2;3 4] \nother = 1\nSI.d\nSI.e=\nSI. = 3"
    assert parse_header(text) == {"SI.a.b": "x = y", "SI5.c": [[1, 2], [3, 4]], "SI.e": ""}
