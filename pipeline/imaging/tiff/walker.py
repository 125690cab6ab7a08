"""Every page of a TIFF file found and checked before the first frame is read.

A reader of its own, beside tifffile, because a scan has tens of thousands of equal pages, and what
is wrong with one of them has to be named in one line.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Finding
from pipeline.imaging.tiff.pages import TiffPages
from pipeline.imaging.tiff.stamps import NO_PLACE, NO_STAMP, page_place, page_stamp

_TYPES = {
    1: "u1",
    2: "S1",
    3: "u2",
    4: "u4",
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    16: "u8",
    17: "i8",
}
_TYPES |= {13: "u4", 18: "u8"}
_MAX_SIDE = 1 << 16
_MAX_PAGE_BYTES = 1 << 29
_MAX_PAGES = 1 << 23
_STAMP_BYTES = 1024  # of a description, in which the number and the time of a page stand
_MICROMANAGER = 51123
_VENDORS = {
    34412: "Zeiss LSM",
    34361: "Olympus FluoView",
    33629: "MetaMorph stack",
    33560: "Imaris",
    65320: "Andor",
}
_SCANIMAGE = 117637889  # number at byte 16 of ScanImage's BigTIFFs
_DTYPES = {
    (8, 1): "u1",
    (8, 2): "i1",
    (16, 1): "u2",
    (16, 2): "i2",
    (32, 1): "u4",
    (32, 2): "i4",
    (32, 3): "f4",
}


class _Cut(DataError):
    """Something lies past the end of the file."""


def read_pages(path: str | os.PathLike) -> TiffPages:
    """Find and check every page of a TIFF (classic or BigTIFF, any byte order).

    Raises
    ------
    DataError
        If the path is no readable regular file, the file is no TIFF, is cut off or inconsistent,
        its pages differ in size or type, or the pixels are not gray integers or float32.
    """
    path = Path(path)
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise DataError("is not a regular file", file=path, expected="a TIFF file")
        with path.open("rb") as handle:
            return _Walker(path, handle, info.st_size).walk()
    except FileNotFoundError as error:
        dangling = path.is_symlink()
        problem = "link points nowhere" if dangling else "no such file"
        raise DataError(problem, file=path, expected="a TIFF file") from error
    except OSError as error:
        raise DataError("cannot be read", file=path, found=error.strerror) from error


class _Walker:
    def __init__(self, path: Path, handle, size: int) -> None:
        self.path, self.handle, self.size = path, handle, size
        self.left = 2 * size + (1 << 20)  # bytes of tables, which pages may share in part

    def fail(self, problem: str, **details) -> DataError:
        return DataError(problem, file=self.path, **details)

    def bytes_at(self, offset: int, count: int, what: str) -> bytes:
        if offset < 0 or offset + count > self.size:
            raise _Cut(
                f"{what} lies past the end of the file",
                file=self.path,
                found=f"bytes {offset}-{offset + count}",
                expected=f"at most {self.size}",
                remedy="copy the file again",
            )
        self.left -= count
        if self.left < 0:
            raise self.fail(
                "pages share tables that are longer than the file",
                field=what,
                expected="tables of its own for every page",
                remedy="write the file again",
            )
        self.handle.seek(offset)
        return self.handle.read(count)

    def walk(self) -> TiffPages:
        if self.size < 8:
            raise self.fail(
                "file is empty" if not self.size else "file is too short for a TIFF",
                found=f"{self.size} bytes",
            )
        head = self.bytes_at(0, min(32, self.size), "header")
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        magic = struct.unpack(order + "H", head[2:4])[0] if order else 0
        if magic not in (42, 43):
            raise self.fail("is not a TIFF", found=f"first bytes {head[:4]!r}")
        self.order, self.big = order, magic == 43
        if self.big and len(head) < 16:
            raise self.fail("header is cut off", found=f"{self.size} bytes")
        width = "Q" if self.big else "I"
        offset = struct.unpack_from(order + width, head, 8 if self.big else 4)[0]
        self.count_format = order + ("Q" if self.big else "H")
        self.entry_type = np.dtype(
            [
                ("tag", order + "u2"),
                ("type", order + "u2"),
                ("count", order + ("u8" if self.big else "u4")),
                ("value", "V8" if self.big else "V4"),
            ]
        )
        self.next_format = order + width
        self.end, self.last_text = 0, (None, NO_STAMP)
        seen: set[int] = set()
        places: list[int] = []
        pages: TiffPages | None = None
        broken: DataError | None = None
        stamps: list[tuple[float, float, float, float]] = []
        spots: list[tuple[float, float, float, float]] = []
        while offset:
            if offset in seen:
                raise self.fail("page directories form a loop", found=f"page {len(places)}")
            if len(seen) >= _MAX_PAGES:
                raise self.fail("file has too many pages", expected=f"at most {_MAX_PAGES}")
            seen.add(offset)
            page = len(seen) - 1
            try:
                entries, following = self.directory(offset, page)
                if page == 0:
                    self.refuse_private(entries)
                shape = self.geometry(entries, page)
                place = self.place(entries, shape, page)
            except _Cut as error:
                if pages is None or broken is not None:
                    raise broken or error from None
                broken = error
                if "directory" in str(error) or "tag" in str(error):
                    break
                offset = following
                continue
            if broken is not None:  # whole pages after one that is not: no file that was cut off
                raise broken
            if pages is None:
                pages = self.first_page(entries, shape, head)
            elif shape != (pages.height, pages.width, pages.dtype):
                raise self.fail(
                    "pages differ in size or type",
                    field=f"page {page}",
                    found=f"{shape[0]} x {shape[1]} {shape[2]}",
                    expected=f"{pages.height} x {pages.width} {pages.dtype} as page 0",
                )
            places.append(place)
            if page == 0 or stamps:
                self.stamp(entries, stamps, spots)
            if page == 0 and stamps[0] == NO_STAMP and not spots:
                stamps = []
            offset = following
        if pages is None:
            raise self.fail("TIFF has no pages")
        pages.offsets = np.array(places, dtype=np.int64)
        if stamps and stamps[0] != NO_STAMP:
            pages.stamps = np.array(stamps)
        if spots and spots[0] != NO_PLACE:
            pages.places = np.array(spots)
        if broken is not None:
            self.accept_cut(pages, broken)
        return pages

    def refuse_private(self, entries: dict) -> None:
        """Raise if private tags describe the planes, which no other reader knows."""
        for tag, name in _VENDORS.items():
            if tag in entries and (tag != 33629 or entries[tag][1] > 1):
                raise self.fail(
                    f"is a {name} file, which describes its planes in private tags",
                    remedy="export it as OME-TIFF from the microscope's program or Fiji",
                )

    def accept_cut(self, pages: TiffPages, broken: DataError) -> None:
        """Take the whole pages of a file that was cut off; raise if it was not."""
        left = self.size - self.end
        if left > 2 * pages.page_bytes + (1 << 16):
            raise broken
        pages.cut = True
        text = f"{self.path.name}: the file was cut off within page {len(pages)}"
        text += f"; its {len(pages)} whole pages are read"
        pages.findings.append(Finding("file-cut", text))

    def stamp(self, entries: dict, stamps: list, spots: list) -> None:
        """Note what a page says of its own number and time."""
        where = entries.get(270)
        if where != self.last_text[0]:  # pages may share a text
            self.last_text = (where, page_stamp(self.text(entries, 270, _STAMP_BYTES)))
        stamps.append(self.last_text[1])
        if _MICROMANAGER in entries:
            spots.append(page_place(self.text(entries, _MICROMANAGER)))
        elif spots:
            spots.append(NO_PLACE)

    def directory(self, offset: int, page: int) -> tuple[dict[int, tuple], int]:
        what = f"directory of page {page}"
        size = struct.calcsize(self.count_format)
        count = struct.unpack(self.count_format, self.bytes_at(offset, size, what))[0]
        if not 0 < count < 4096:
            raise self.fail(f"{what} is damaged", found=f"{count} tags")
        length = count * self.entry_type.itemsize
        raw = self.bytes_at(offset + size, length + struct.calcsize(self.next_format), what)
        table = np.frombuffer(raw, self.entry_type, count)
        following = struct.unpack_from(self.next_format, raw, length)[0]
        rows = zip(
            table["tag"].tolist(),
            table["type"].tolist(),
            table["count"].tolist(),
            [value.tobytes() for value in table["value"]],
            strict=True,
        )
        return {tag: (kind, number, value) for tag, kind, number, value in rows}, following

    def numbers(self, entries: dict, tag: int, default=None, page: int = 0) -> list[int]:
        if tag not in entries:
            if default is None:
                raise self.fail(f"page {page} lacks tag {tag}", remedy="write the file again")
            return [default]
        kind, count, value = entries[tag]
        if kind not in _TYPES or kind == 2 or not 0 < count <= 1 << 20:
            raise self.fail(f"tag {tag} of page {page} is damaged", found=f"{count} of type {kind}")
        dtype = np.dtype(self.order + _TYPES[kind])
        if count * dtype.itemsize > len(value):
            pointer = int(np.frombuffer(value, self.next_format)[0])
            value = self.bytes_at(pointer, count * dtype.itemsize, f"tag {tag} of page {page}")
        return np.frombuffer(value, dtype, count).tolist()

    def text(self, entries: dict, tag: int, most: int = 1 << 28) -> str:
        if tag not in entries:
            return ""
        kind, count, value = entries[tag]
        if kind not in (1, 2, 7) or count > 1 << 28:
            return ""
        if count > len(value):
            pointer = int(np.frombuffer(value, self.next_format)[0])
            value = self.bytes_at(pointer, min(count, most), f"text tag {tag}")
        return value[:count].split(b"\0")[0].decode("utf-8", errors="replace")

    def ratio(self, entries: dict, tag: int) -> float:
        """Return a rational tag; 0 if there is none or it is damaged."""
        kind, count, value = entries.get(tag, (0, 0, b""))
        if kind != 5 or count != 1:
            return 0.0
        if len(value) < 8:
            value = self.bytes_at(int(np.frombuffer(value, self.next_format)[0]), 8, f"tag {tag}")
        above, below = struct.unpack(self.order + "II", value)
        return above / below if below else 0.0

    def geometry(self, entries: dict, page: int) -> tuple[int, int, np.dtype]:
        width, height = (self.numbers(entries, tag, page=page)[0] for tag in (256, 257))
        where = f"page {page}"
        if not (0 < width < _MAX_SIDE and 0 < height < _MAX_SIDE):
            raise self.fail(
                "page has an impossible size", field=where, found=f"{height} x {width} px"
            )
        bits = self.numbers(entries, 258, 1, page)
        samples = self.numbers(entries, 277, 1, page)[0]
        kind = self.numbers(entries, 339, 1, page)[0]
        if samples != 1:
            raise self.fail(
                "pages are not gray images",
                field=where,
                found=f"{samples} samples per pixel",
                expected="1",
            )
        name = _DTYPES.get((bits[0], kind))
        if name is None:
            raise self.fail(
                "pixel type cannot be used",
                field=where,
                found=f"{bits[0]} bits, sample format {kind}",
                expected="8- or 16-bit integers, 32-bit integers or float32",
            )
        dtype = np.dtype(self.order + name)
        if height * width * dtype.itemsize > _MAX_PAGE_BYTES:
            raise self.fail(
                "page has an impossible size", field=where, found=f"{height} x {width} px"
            )
        return height, width, dtype

    def place(self, entries: dict, shape: tuple, page: int) -> int:
        """Return where the page's pixels begin, or -1 if tifffile has to decode it."""
        height, width, dtype = shape
        compression = self.numbers(entries, 259, 1, page)[0]
        if compression not in _COMPRESSIONS:
            raise self.fail(
                "unknown compression",
                field=f"page {page}",
                found=compression,
                remedy="save the movie uncompressed",
            )
        tiled = 322 in entries
        tags = (324, 325) if tiled else (273, 279)
        offsets = self.numbers(entries, tags[0], page=page)
        counts = self.numbers(entries, tags[1], page=page)
        if len(offsets) != len(counts):
            raise self.fail(
                f"strip tables of page {page} disagree",
                found=f"{len(offsets)} offsets, {len(counts)} sizes",
            )
        for start, size in zip(offsets, counts, strict=True):
            if start + size > self.size or not size or not start:
                problem = "pixels lie past the end of the file"
                raise (_Cut if start + size > self.size else DataError)(
                    problem,
                    file=self.path,
                    field=f"page {page}",
                    found=f"bytes {start}-{start + size}",
                    expected=f"at most {self.size}",
                    remedy="the recording was cut off: copy the file again",
                )
        ends = [start + size for start, size in zip(offsets, counts, strict=True)]
        self.end = max(self.end, *ends)
        needed = height * width * dtype.itemsize
        if compression != 1 or tiled or self.numbers(entries, 266, 1, page)[0] != 1:
            return -1
        if sum(counts) < needed:
            raise self.fail(
                "strips are shorter than the page",
                field=f"page {page}",
                found=f"{sum(counts)} bytes",
                expected=needed,
            )
        return offsets[0] if offsets[1:] == ends[:-1] else -1

    def first_page(self, entries: dict, shape: tuple[int, int, np.dtype], head: bytes) -> TiffPages:
        texts = [self.text(entries, tag) for tag in (270, 305, 315)]
        if self.big and len(head) == 32 and not texts[1].startswith(("SI", "{")):
            texts = self.scanimage_block(head, texts)
        across, down = (self.ratio(entries, tag) for tag in (282, 283))
        unit = self.numbers(entries, 296, 2)[0]
        height, width, dtype = shape
        description, software, artist = texts
        return TiffPages(
            self.path,
            height,
            width,
            dtype,
            np.zeros(0, np.int64),
            description,
            software,
            artist,
            private=self.text(entries, _MICROMANAGER, 1 << 20),
            px_per_unit=(down, across) if across > 0 and down > 0 else None,
            resolution_unit=unit,
        )

    def scanimage_block(self, head: bytes, texts: list[str]) -> list[str]:
        """Return the texts that ScanImage keeps behind the header of a BigTIFF, if there are."""
        magic, version, settings, regions = struct.unpack("<IIII", head[16:32])
        if magic != _SCANIMAGE or version < 3 or 32 + settings + regions > self.size:
            return texts
        block = self.bytes_at(32, settings + regions, "ScanImage's settings")
        found = [block[:settings], block[settings:]]
        return [texts[0], *(t.split(b"\0")[0].decode("utf-8", errors="replace") for t in found)]


# none, LZW, deflate, packbits, deflate (old code), Zstandard, JPEG 2000 lossless, LERC
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 50000, 34712, 34887}
