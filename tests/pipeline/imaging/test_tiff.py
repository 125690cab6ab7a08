"""TIFF files of microscopes, whole and broken."""

import json
import os
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile

from pipeline.errors import DataError
from pipeline.imaging.tiff import open_scan

HEADER = {
    "hChannels.channelSave": "1",
    "hRoiManager.scanFrameRate": "10.0",
    "hRoiManager.scanVolumeRate": "10.0",
    "hRoiManager.linePeriod": "6.25e-05",
    "hRoiManager.mroiEnable": "false",
    "hRoiManager.imagingFovUm": "[-100 -50;100 -50;100 50;-100 50]",
    "hScan2D.bidirectional": "true",
    "hFastZ.enable": "false",
    "hStackManager.enable": "false",
    "hStackManager.zs": "0",
}


def software(**changes):
    entries = HEADER | {key.replace("__", "."): value for key, value in changes.items()}
    return "\n".join(f"SI.{key} = {value}" for key, value in entries.items())


def write(path, pages, *, header=None, artist=None, first=1, description=None, **options):
    tags = []
    if artist is not None:
        tags.append((315, "s", 0, json.dumps(artist), True))
    with tifffile.TiffWriter(path, **{"bigtiff": True} | options) as file:
        for index, page in enumerate(pages):
            text = description or f"frameNumbers = {first + index}\nframeTimestamps_sec = 0.0"
            file.write(
                page,
                photometric="minisblack",
                description=text,
                metadata=None,
                software=header,
                extratags=tags,
                contiguous=False,
            )
    return path


def pages_of(count, height=16, width=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-500, 3000, (count, height, width)).astype(np.int16)


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


def patch(path, old, new):
    """Replace bytes of a file in place, once."""
    data = bytearray(path.read_bytes())
    where = bytes(data).index(old)
    data[where : where + len(new)] = new
    path.write_bytes(data)


def directories(path):
    """Return the places of the directories of a classic little-endian TIFF, and of their links."""
    data = path.read_bytes()
    link, places = 4, []
    while True:
        offset = struct.unpack_from("<I", data, link)[0]
        if not offset:
            return places
        count = struct.unpack_from("<H", data, offset)[0]
        places.append((link, offset, count))
        link = offset + 2 + 12 * count


def set_tag(path, page, tag, value):
    """Overwrite the value of a tag of one page."""
    data = bytearray(path.read_bytes())
    _, offset, count = directories(path)[page]
    for entry in range(count):
        place = offset + 2 + 12 * entry
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HII", data, place + 2, 4, 1, value)
            path.write_bytes(data)
            return
    raise AssertionError(f"no tag {tag}")


def break_file(kind, path):
    write(path, pages_of(4), header=software(), bigtiff=False)
    size = path.stat().st_size
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "one byte":
        path.write_bytes(b"I")
    elif kind == "header cut":
        path.write_bytes(path.read_bytes()[:6])
    elif kind == "loop":
        places = directories(path)
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, places[2][0], places[0][1])
        path.write_bytes(data)
    elif kind == "offset past the end":
        set_tag(path, 2, 273, size + 1000)
    elif kind == "no pixels":
        for page in range(4):
            set_tag(path, page, 256, 0)
            set_tag(path, page, 257, 0)
    elif kind == "bomb":
        for page in range(4):
            set_tag(path, page, 256, 2**31)
    elif kind == "complex pixels":
        pages = pages_of(4).astype(np.complex64)
        tifffile.imwrite(path, pages, metadata=None, photometric="minisblack")
    elif kind == "float pixels":
        pages = pages_of(4).astype(np.float64)
        tifffile.imwrite(path, pages, metadata=None, photometric="minisblack")
    elif kind == "mixed sizes":
        with tifffile.TiffWriter(path) as file:
            for page in (pages_of(1)[0], pages_of(1, height=20)[0]):
                file.write(page, metadata=None, software=software(), contiguous=False)
    elif kind == "compression":
        set_tag(path, 0, 259, 4711)
    elif kind == "no TIFF":
        path.write_bytes(b"time_s,counts\n0.0,12\n")
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    elif kind == "dangling link":
        path.unlink()
        path.symlink_to(path.with_name("gone.tif"))
    elif kind == "missing":
        path.unlink()


BROKEN = {
    "empty": "empty",
    "one byte": "too short",
    "header cut": "too short",
    "loop": "loop",
    "offset past the end": "past the end",
    "no pixels": "impossible size",
    "bomb": "impossible size",
    "complex pixels": "pixel type",
    "float pixels": "pixel type",
    "mixed sizes": "differ in size",
    "compression": "compression",
    "no TIFF": "not a TIFF",
    "directory": "not a regular file",
    "dangling link": "points nowhere",
    "missing": "no such file",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_one_clear_line(tmp_path, kind):
    path = tmp_path / "broken.tif"
    break_file(kind, path)
    with pytest.raises(DataError, match=BROKEN[kind]) as caught:
        open_scan(path).movie()[:]
    message = str(caught.value)
    assert "\n" not in message
    assert "broken.tif" in message


@pytest.mark.parametrize("lost", [100, 16 * 24 + 500, 16 * 24 * 2 + 300])
@pytest.mark.parametrize("big", [True, False])
def test_a_file_that_was_cut_off_loses_its_last_page_only(tmp_path, lost, big):
    pages = pages_of(6)
    path = write(tmp_path / "cut.tif", pages, header=software(), bigtiff=big)
    os.truncate(path, path.stat().st_size - lost)
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.movie()[:], pages[: scan.n_frames])
    assert scan.n_frames in (4, 5)
    assert [finding.name for finding in scan.findings] == ["file-cut"]
    assert "cut.tif" in scan.findings[0].text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_one_clear_line(tmp_path):
    path = write(tmp_path / "locked.tif", pages_of(2), header=software())
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        open_scan(path)


def test_unreadable_file_is_reported_whoever_asks(tmp_path, monkeypatch):
    path = write(tmp_path / "locked.tif", pages_of(2), header=software())

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(DataError, match=r"locked\.tif: cannot be read; found Permission denied"):
        open_scan(path)


def test_non_finite_pixels_are_refused_when_read(tmp_path):
    pages = pages_of(4).astype(np.float32)
    pages[1, 4, 4] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", pages, photometric="minisblack")
    with pytest.raises(DataError, match="not finite"):
        open_scan(tmp_path / "nan.tif", fps=10.0).movie()[:]


def packed_page(path, strip, *, compression=8, size=64, tiled=None):
    """Write a TIFF of one page of `size` x `size` px of 16 bits, whose strip is given."""
    first = 8 + len(strip) + len(strip) % 2
    tags = [
        (256, 4, 1, size),
        (257, 4, 1, size),
        (258, 3, 1, 16),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (339, 3, 1, 2),
    ]
    if tiled:
        tags += [(322, 4, 1, tiled), (323, 4, 1, tiled), (324, 4, 1, 8), (325, 4, 1, len(strip))]
    else:
        tags += [(273, 4, 1, 8), (278, 4, 1, size), (279, 4, 1, len(strip))]
    path.write_bytes(
        b"II*\0"
        + struct.pack("<I", first)
        + strip
        + bytes(len(strip) % 2)
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        + bytes(4)
    )
    return path


@pytest.mark.parametrize("tiled", [None, 64])
def test_a_strip_that_unpacks_to_far_more_than_its_page_is_not_unpacked(
    tmp_path, monkeypatch, tiled
):
    from pipeline.imaging.tiff import pages as tiff_pages

    pixels = np.arange(64 * 64, dtype="<i2")
    whole = packed_page(tmp_path / "a.tif", zlib.compress(pixels.tobytes()), tiled=tiled)
    found = open_scan(whole, fps=10).movie()[:]
    np.testing.assert_array_equal(found.reshape(-1), pixels)
    bomb = zlib.compress(bytes(1 << 28))  # 260 kB: already the compressed strip is too large
    with pytest.raises(DataError, match="larger than the page"):
        open_scan(packed_page(tmp_path / "b.tif", bomb, tiled=tiled), fps=10).movie()[:]
    monkeypatch.setattr(tiff_pages, "_UNCHECKED", 1 << 20)
    bomb = zlib.compress(bytes(1 << 24))
    with pytest.raises(DataError, match="unpacks to more than the page"):
        open_scan(packed_page(tmp_path / "c.tif", bomb, tiled=tiled), fps=10).movie()[:]
    open_scan(whole, fps=10).movie()[:]  # under the same check


def test_tiles_much_larger_than_the_page_are_refused(tmp_path):
    strip = zlib.compress(bytes(100))
    with pytest.raises(DataError, match="larger than the page"):
        open_scan(packed_page(tmp_path / "a.tif", strip, tiled=1 << 20), fps=10).movie()[:]


@pytest.mark.parametrize("strip", [b"\0" * 40, b"x\x9c" + b"\xff" * 40, zlib.compress(b"a")])
def test_pixels_that_cannot_be_unpacked_are_one_clear_line(tmp_path, strip):
    with pytest.raises(DataError) as caught:
        open_scan(packed_page(tmp_path / "a.tif", strip), fps=10).movie()[:]
    assert "\n" not in str(caught.value)


def test_pages_that_share_one_long_table_are_refused_at_once(tmp_path):
    strips, pages = 1 << 16, 500
    table = np.full(strips, 8, "<u4").tobytes()
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + 2 * len(table)) + table + table)
    for number in range(pages):
        tags = [
            (256, 4, 1, 64),
            (257, 4, 1, 64),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (273, 4, strips, 8),
            (277, 3, 1, 1),
            (278, 4, 1, 1),
            (279, 4, strips, 8),
        ]
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
        data += struct.pack("<I", len(data) + 4 if number + 1 < pages else 0)
    (tmp_path / "a.tif").write_bytes(data)
    began = time.process_time()
    with pytest.raises(DataError, match="pages share tables"):
        open_scan(tmp_path / "a.tif", fps=10)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "SI.a = x" + " " * 200_000 + "y",
        "SI.a" + " " * 200_000 + "b",
        "SI.a = " + "[" * 20_000 + "]" * 20_000,
        "SI.a = " + "{" * 20_000,
        "SI.a" * 50_000,
        "SI.a = [" + " ;" * 100_000 + "]",
    ],
)
def test_no_line_of_a_header_takes_long(text):
    from pipeline.imaging.tiff.header import parse_header

    began = time.process_time()
    parse_header(text)
    assert time.process_time() - began < 2


def test_lines_of_a_header_are_names_and_values():
    from pipeline.imaging.tiff.header import parse_header

    text = "SI.a.b = 'x = y'\nscanimage.SI5.c\t=  [1 2;3 4] \nother = 1\nSI.d\nSI.e=\nSI. = 3"
    assert parse_header(text) == {"SI.a.b": "x = y", "SI5.c": [[1, 2], [3, 4]], "SI.e": ""}
