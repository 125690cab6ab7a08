"""npy, npz and PNG files of anybody become arrays or one line, in memory that the files justify."""

import io
import os
import random
import resource
import struct
import subprocess
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from pipeline.dataset import load
from pipeline.errors import DataError
from pipeline.npy import npz_names, read_npy, read_npz
from pipeline.stimulus import images as stimulus_images
from pipeline.stimulus.images import load_images, read_png, write_png


def arrays():
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(3, 4, 5))
    return {
        "c": grid,
        "fortran": np.asfortranarray(grid),
        "big": grid.astype(">f4"),
        "truth": grid > 0,
        "words": np.array(["train", "ü", ""]),
        "codes": np.array([b"a", b"bc"]),
        "point": np.array(7),
        "none": np.zeros((0, 3), np.int16),
        "phase": grid.astype(np.complex64),
        "when": np.array(["2026-11-29"], "M8[D]"),
        "records": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    }


def refused(call, path):
    with pytest.raises(DataError) as caught:
        call(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, save):
    given = arrays()
    save(tmp_path / "a.npz", **given)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == npz_names(tmp_path / "a.npz") == list(given)
    for name, array in given.items():
        np.save(tmp_path / "one.npy", array)
        for one in (found[name], read_npy(tmp_path / "one.npy")):
            assert (one.dtype, one.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(one, array)
            assert one.flags.writeable
    assert list(read_npz(tmp_path / "a.npz", ("big", "absent"))) == ["big"]


def header(descr="<f8", shape=(3,), version=(1, 0)):
    stream = io.BytesIO()
    entries = {"descr": descr, "fortran_order": False, "shape": shape}
    write = np.lib.format.write_array_header_1_0
    (write if version == (1, 0) else np.lib.format.write_array_header_2_0)(stream, entries)
    return stream.getvalue()


BROKEN = {
    "nothing": b"",
    "text": b"a,b\n1,2\n",
    "a terabyte": header(shape=(10**6, 1000, 1000)),
    "beyond counting": header(shape=(2**62, 2**62)),
    "below 0": header(shape=(3,)).replace(b"(3,)", b"(-3,)"),
    "cut": header(shape=(3,)) + bytes(23),
    "objects": header("|O") + bytes(24),
    "records with objects": header([("a", "|O")]) + bytes(24),
    "a header of brackets": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    "no expression": b"\x93NUMPY\x01\x00\x04\x00open",
    "another version": b"\x93NUMPY\x09\x00" + header()[8:],
    "no such type": header().replace(b"'<f8'", b"'<f9'"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_array_is_one_line(tmp_path, broken):
    (tmp_path / "a.npy").write_bytes(BROKEN[broken])
    assert "cannot be read" in refused(read_npy, tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", BROKEN[broken])
    assert "images.npy: cannot be read" in refused(read_npz, tmp_path / "a.npz")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("a.png", "zero.png"):
        for call in (read_npy, read_npz, npz_names, read_png):
            assert "no regular file" in refused(call, tmp_path / name)
    for call in (read_npy, read_npz, npz_names, read_png):
        refused(call, tmp_path / "gone")


def test_random_damage_of_an_npz_is_one_line(tmp_path):
    rng = random.Random(1)
    path = tmp_path / "a.npz"
    whole = []
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays())
        whole.append(path.read_bytes())
    outcomes = {"value": 0, "refused": 0}
    for _ in range(600):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice((1, 2, 4))):
            place = rng.randrange(len(data))
            if rng.random() < 0.8:
                data[place] = rng.randrange(256)
            else:
                del data[place : place + rng.randrange(1, 30)]
        path.write_bytes(data)
        try:
            read_npz(path)
            outcomes["value"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def peak_mb(code, *arguments):
    """Return what a process said, and how much memory it took above a bare import (MB)."""
    program = (
        "import sys, resource\nfrom pipeline.errors import DataError\n"
        "from pipeline.npy import read_npz\nfrom pipeline.stimulus.images import load_images\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try:\n    {code}\nexcept DataError as error:\n    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.strip().rsplit("\n", 1)
    return said, int(megabytes)


def test_a_small_npz_that_holds_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as file,
    ):
        file.write(header("|u1", (1024, 1024, 1024)))
        for _ in range(64):
            file.write(bytes(1 << 24))
    assert path.stat().st_size < 2_000_000
    said, megabytes = peak_mb("read_npz(sys.argv[1])", path)
    assert "that are compressed" in said
    assert megabytes < 100


def test_a_member_whose_size_is_a_lie_is_one_line(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros(100_000))
    data = bytearray(path.read_bytes())
    central = data.find(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<I", 1000)  # the directory says less
    path.write_bytes(data)
    refused(read_npz, path)


def test_a_png_that_unpacks_to_gigabytes_is_not_decoded(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(10**7)))
        + chunk(b"IEND", b"")
    )
    said, megabytes = peak_mb("load_images(sys.argv[1])", tmp_path / "images")
    assert "40000 x 40000 pixels" in said
    assert megabytes < 100


def test_a_folder_of_flat_images_is_read_up_to_a_limit(tmp_path, monkeypatch):
    for number in range(4):
        write_png(tmp_path / f"{number}.png", np.full((1000, 1000), number, np.uint8))
    _, found = load_images(tmp_path)
    assert found.shape == (4, 1000, 1000)
    monkeypatch.setattr(stimulus_images, "FREE_FOLDER", 3_000_000)
    assert "far larger than their files" in refused(load_images, tmp_path)


def test_images_of_another_format_under_the_name_png_are_refused(tmp_path):
    _, data = cv2.imencode(".bmp", np.zeros((4, 4), np.uint8))
    (tmp_path / "a.png").write_bytes(data.tobytes())
    assert "expected 8-bit gray PNG" in refused(read_png, tmp_path / "a.png")


def test_a_data_set_that_claims_a_terabyte_is_one_line(tmp_path):
    path = tmp_path / "claim.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header("|u1", (10**6, 1000, 1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "claims 1000000000000 bytes" in refused(load, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
