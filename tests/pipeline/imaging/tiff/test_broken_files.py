"""Broken and hostile TIFF files are one clear line, at once and in little memory."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile
from tiff_files import BROKEN, break_file, packed_page, pages_of, software, write

from pipeline.errors import DataError
from pipeline.imaging.tiff import open_scan
from pipeline.imaging.tiff import pages as tiff_pages
from pipeline.imaging.tiff.header import parse_header


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


@pytest.mark.parametrize("tiled", [None, 64])
def test_a_strip_that_unpacks_to_far_more_than_its_page_is_not_unpacked(
    tmp_path, monkeypatch, tiled
):
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
    began = time.process_time()
    parse_header(text)
    assert time.process_time() - began < 2
