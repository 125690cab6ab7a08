"""The pages of one TIFF file: where their pixels lie, what their texts say, and reading them."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Finding

_SLACK = 1 << 16  # bytes
_DEFLATE_RATIO = 1032  # bytes that deflate can make of one
_UNCHECKED = 1 << 28  # bytes that a strip may unpack to


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
    private : str
        Micro-Manager's tag of the first page.
    px_per_unit : tuple (y, x) or None
        Resolution tags of the first page.
    resolution_unit : int
        Of the resolution tags: 1 none, 2 inch, 3 cm.
    stamps : array, shape (pages, 4), or None
        ScanImage's number of the frame, of the acquisition, of the frame within the acquisition,
        and time stamp (s) of every page; NaN where one is not written, None where the first page
        has no number.
    places : array, shape (pages, 4), or None
        Micro-Manager's channel, slice, frame and elapsed time (ms) of every page.
    cut : bool
        The file ends within a page; the whole ones before it are here.
    findings : list of Finding
    """

    path: Path
    height: int
    width: int
    dtype: np.dtype
    offsets: np.ndarray
    description: str = ""
    software: str = ""
    artist: str = ""
    private: str = ""
    px_per_unit: tuple[float, float] | None = None
    resolution_unit: int = 1
    stamps: np.ndarray | None = None
    places: np.ndarray | None = None
    cut: bool = False
    findings: list[Finding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def page_bytes(self) -> int:
        """Size of the pixels of one page (bytes)."""
        return self.height * self.width * self.dtype.itemsize

    def spread(self, count: int) -> None:
        """Take one directory for `count` pages whose pixels follow each other.

        Raises
        ------
        DataError
            If the file is shorter than that, or its pixels are packed.
        """
        if self.offsets[0] < 0:
            raise DataError(
                "one directory describes many images, and their pixels are packed",
                file=self.path,
                found=f"1 page, {count} images",
                remedy="save the movie uncompressed",
            )
        size = self.path.stat().st_size
        if count < 1 or self.offsets[0] + count * self.page_bytes > size:
            raise DataError(
                "file is shorter than its images",
                file=self.path,
                found=f"{size} bytes",
                expected=f"{count} images of {self.page_bytes} bytes",
                remedy="copy the file again",
            )
        self.offsets = self.offsets[0] + np.arange(count, dtype=np.int64) * self.page_bytes

    def read(self, pages: np.ndarray, out: np.ndarray) -> None:
        """Read pages into `out`, shape (len(pages), height, width), dtype as stored but native.

        Neighboring pages are read in one go. Plain reads, not a memory map: pages of a map stay
        in the process's memory until the system wants them back. The file is open only while it
        is read, for a scan may have more files than a process may open.
        """
        offsets = self.offsets[pages]
        if np.any(offsets < 0):
            _decode(self.path, self.page_bytes, pages, out)
            return
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError("cannot be read", file=self.path, found=error.strerror) from error
        try:
            self._read_plain(descriptor, offsets, out)
        finally:
            os.close(descriptor)

    def _read_plain(self, descriptor: int, offsets: np.ndarray, out: np.ndarray) -> None:
        position = 0
        while position < len(offsets):
            stop = position + 1
            step = offsets[stop] - offsets[position] if stop < len(offsets) else 0
            if self.page_bytes <= step <= 2 * self.page_bytes + 65536:
                while stop < len(offsets) and offsets[stop] - offsets[stop - 1] == step:
                    stop += 1
            count = stop - position
            span = int(step) * (count - 1) + self.page_bytes if count > 1 else self.page_bytes
            buffer = self._pread(descriptor, span, int(offsets[position]))
            strides = (int(step) if count > 1 else 0, self.width * self.dtype.itemsize)
            out[position:stop] = np.ndarray(
                (count, self.height, self.width),
                self.dtype,
                buffer,
                strides=(*strides, self.dtype.itemsize),
            )
            position = stop

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        chunks, missing = [], size
        while missing:
            try:
                chunk = os.pread(descriptor, missing, offset + size - missing)
            except OSError as error:
                raise DataError("cannot be read", file=self.path, found=error.strerror) from error
            if not chunk:
                raise DataError("file shrank while it was read", file=self.path)
            chunks.append(chunk)
            missing -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decode(path: Path, page_bytes: int, wanted: np.ndarray, out: np.ndarray) -> None:
    """Decode pages into `out`, shape (len(wanted), height, width); `page_bytes` is one's size.

    Raises
    ------
    DataError
        If a page cannot be decoded, or would unpack to far more than a page.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path, is_scanimage=False) as file:
            for index, page in enumerate(wanted):
                found = file.pages[int(page)]
                _check(path, page_bytes, out.dtype.itemsize, file, found)
                out[index] = found.asarray()
    except DataError:
        raise
    except Exception as error:  # of zlib, tifffile and its codecs, for anything odd
        raise DataError(
            "page cannot be decoded",
            file=path,
            found=str(error)[:200],
            remedy="save the movie uncompressed",
        ) from error


def _check(path: Path, page_bytes: int, itemsize: int, file, page) -> None:
    tile = page.tilewidth * page.tilelength * itemsize if page.is_tiled else 0
    packed = sum(page.databytecounts)
    if packed > 2 * page_bytes + _SLACK or tile > 4 * page_bytes + _SLACK:
        raise DataError(
            "strips or tiles are larger than the page",
            file=path,
            field=f"page {page.index}",
            found=f"{max(packed, tile)} bytes",
            expected=page_bytes,
            remedy="save the movie uncompressed",
        )
    if page.compression not in (8, 32946):  # the others make less, or are told how much
        return
    most = max(page_bytes, tile)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count * _DEFLATE_RATIO < _UNCHECKED:
            continue
        file.filehandle.seek(offset)
        unpacker = zlib.decompressobj()
        if len(unpacker.decompress(file.filehandle.read(count), most + 1)) > most:
            raise DataError(
                "a strip unpacks to more than the page",
                file=path,
                field=f"page {page.index}",
                expected=f"{most} bytes",
                remedy="save the movie uncompressed",
            )
