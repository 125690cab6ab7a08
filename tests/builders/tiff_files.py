"""TIFF files of microscopes, whole and broken, for every test that reads one."""

import json
import struct

import numpy as np
import tifffile

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
