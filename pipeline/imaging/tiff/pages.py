"""Where the pixels of each page of a TIFF file lie.

A reader of its own, beside tifffile, because a scan has tens of thousands of equal pages: it checks
every page against the file before the first frame is read, and names what is wrong in one line.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import DataError

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
_SLACK = 1 << 16  # bytes
_DEFLATE_RATIO = 1032  # bytes that deflate can make of one
_UNCHECKED = 1 << 28  # bytes that a strip may unpack to
_DTYPES = {
    (8, 1): "u1",
    (8, 2): "i1",
    (16, 1): "u2",
    (16, 2): "i2",
    (32, 1): "u4",
    (32, 2): "i4",
    (32, 3): "f4",
}


@dataclass
class TiffPages:
    """Pages of one file.

    Attributes
    ----------
    path : Path
    height, width : int
        Size of every page (px).
    dtype : numpy dtype
        As stored, byte order included.
    offsets : array of int64, shape (pages,)
        Where the pixels of a page begin (bytes), or -1 where it must be decoded by tifffile.
    description, software, artist : str
        Text tags of the first page.
    """

    path: Path
    height: int
    width: int
    dtype: np.dtype
    offsets: np.ndarray
    description: str = ""
    software: str = ""
    artist: str = ""
    resolution_px_per_unit: tuple[float, float] | None = None
    _descriptor: int | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def page_bytes(self) -> int:
        """Size of the pixels of one page (bytes)."""
        return self.height * self.width * self.dtype.itemsize

    def read(self, pages: np.ndarray, out: np.ndarray) -> None:
        """Read pages into `out`, shape (len(pages), height, width), dtype as stored but native.

        Neighboring pages are read in one go. Plain reads, not a memory map: pages of a map stay
        in the process's memory until the system wants them back.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        offsets = self.offsets[pages]
        if np.any(offsets < 0):
            self._decode(pages, out)
            return
        position = 0
        while position < len(pages):
            stop = position + 1
            step = offsets[stop] - offsets[position] if stop < len(pages) else 0
            if self.page_bytes <= step <= 2 * self.page_bytes + 65536:
                while stop < len(pages) and offsets[stop] - offsets[stop - 1] == step:
                    stop += 1
            count = stop - position
            span = int(step) * (count - 1) + self.page_bytes if count > 1 else self.page_bytes
            buffer = self._pread(span, int(offsets[position]))
            strides = (int(step) if count > 1 else 0, self.width * self.dtype.itemsize)
            out[position:stop] = np.ndarray(
                (count, self.height, self.width),
                self.dtype,
                buffer,
                strides=(*strides, self.dtype.itemsize),
            )
            position = stop

    def _pread(self, size: int, offset: int) -> bytes:
        chunks, missing = [], size
        while missing:
            chunk = os.pread(self._descriptor, missing, offset + size - missing)
            if not chunk:
                raise DataError("file shrank while it was read", file=self.path)
            chunks.append(chunk)
            missing -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _decode(self, pages: np.ndarray, out: np.ndarray) -> None:
        import tifffile

        try:
            with tifffile.TiffFile(self.path, is_scanimage=False) as file:
                for index, page in enumerate(pages):
                    found = file.pages[int(page)]
                    self._check_packed(file, found)
                    out[index] = found.asarray()
        except DataError:
            raise
        except Exception as error:  # of zlib, tifffile and its codecs, for anything odd
            raise DataError(
                "page cannot be decoded",
                file=self.path,
                found=str(error)[:200],
                remedy="save the movie uncompressed",
            ) from error

    def _check_packed(self, file, page) -> None:
        """Refuse pixels that unpack to far more than a page, before they are."""
        tile = page.tilewidth * page.tilelength * self.dtype.itemsize if page.is_tiled else 0
        packed = sum(page.databytecounts)
        if packed > 2 * self.page_bytes + _SLACK or tile > 4 * self.page_bytes + _SLACK:
            raise DataError(
                "strips or tiles are larger than the page",
                file=self.path,
                field=f"page {page.index}",
                found=f"{max(packed, tile)} bytes",
                expected=self.page_bytes,
                remedy="save the movie uncompressed",
            )
        if page.compression not in (8, 32946):  # the others make less, or are told how much
            return
        most = max(self.page_bytes, tile)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count * _DEFLATE_RATIO < _UNCHECKED:
                continue
            file.filehandle.seek(offset)
            unpacker = zlib.decompressobj()
            if len(unpacker.decompress(file.filehandle.read(count), most + 1)) > most:
                raise DataError(
                    "a strip unpacks to more than the page",
                    file=self.path,
                    field=f"page {page.index}",
                    expected=f"{most} bytes",
                    remedy="save the movie uncompressed",
                )

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


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
            raise self.fail(
                f"{what} lies past the end of the file",
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
        head = self.bytes_at(0, min(16, self.size), "header")
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
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
        seen, places, pages = set(), [], None
        while offset:
            if offset in seen:
                raise self.fail("page directories form a loop", found=f"page {len(places)}")
            seen.add(offset)
            entries, following = self.directory(offset, len(places))
            shape = self.geometry(entries, len(places))
            if pages is None:
                pages = self.first_page(entries, shape)
            elif shape != (pages.height, pages.width, pages.dtype):
                raise self.fail(
                    "pages differ in size or type",
                    field=f"page {len(places)}",
                    found=f"{shape[0]} x {shape[1]} {shape[2]}",
                    expected=f"{pages.height} x {pages.width} {pages.dtype} as page 0",
                )
            places.append(self.place(entries, shape, len(places)))
            offset = following
        if pages is None:
            raise self.fail("TIFF has no pages")
        pages.offsets = np.array(places, dtype=np.int64)
        return pages

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

    def text(self, entries: dict, tag: int) -> str:
        if tag not in entries:
            return ""
        kind, count, value = entries[tag]
        if kind not in (1, 2, 7) or count > 1 << 28:
            return ""
        if count > len(value):
            pointer = int(np.frombuffer(value, self.next_format)[0])
            value = self.bytes_at(pointer, count, f"text tag {tag}")
        return value[:count].split(b"\0")[0].decode("utf-8", errors="replace")

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
                raise self.fail(
                    "pixels lie past the end of the file",
                    field=f"page {page}",
                    found=f"bytes {start}-{start + size}",
                    expected=f"at most {self.size}",
                    remedy="the recording was cut off: copy the file again",
                )
        ends = [start + size for start, size in zip(offsets, counts, strict=True)]
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

    def first_page(self, entries: dict, shape: tuple) -> TiffPages:
        height, width, dtype = shape
        return TiffPages(
            self.path,
            height,
            width,
            dtype,
            np.zeros(0, np.int64),
            *(self.text(entries, tag) for tag in (270, 305, 315)),
        )


# none, LZW, deflate, packbits, deflate (old code), Zstandard, JPEG 2000 lossless, LERC
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 50000, 34712, 34887}
