"""OME-XML: channels, planes, times, rate and pixel size of one file or of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import PurePath
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError, Finding
from pipeline.imaging.tiff.described import SIDECAR, Description, in_seconds, in_um
from pipeline.imaging.tiff.pages import TiffPages

_MOST_TEXT = 1 << 26  # characters: ten times as much in memory
_MOST_PLANES = 1 << 24


def is_ome(page: TiffPages) -> bool:
    """Return whether a file's description is OME-XML."""
    start = page.description[:4096]
    return start.lstrip("\ufeff \r\n\t").startswith("<") and "<OME" in start


def read_xml(text: str, file: str | PathLike) -> ElementTree.Element:
    """Parse XML without a document type, names without their spaces.

    Raises
    ------
    DataError
        If it is damaged, too long, or declares entities.
    """
    if len(text) > _MOST_TEXT or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("XML cannot be read", file=file, expected="no document type, 64 MB")
    try:
        root = ElementTree.fromstring(text.lstrip("\ufeff \r\n\t"))
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError("XML is damaged", file=file, found=str(error)[:120]) from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root


def describe_ome(pages: Sequence[TiffPages], master: TiffPages) -> Description:
    """Return what the OME-XML of `master`, one of the files or one beside them, says of the pages.

    Raises
    ------
    DataError
        If it is damaged, describes several movies, or does not fit the pages.
    """
    root = read_xml(master.description, master.path)
    found = [image.find("Pixels") for image in root.iter("Image")]
    images = [pixels for pixels in found if pixels is not None]
    here = {page.path.name for page in pages}
    if len(images) > 1:
        images = [p for p in images if here & _names(p)] or images
    if len(images) != 1:
        raise DataError(
            "holds several images (series)" if images else "OME-XML describes no image",
            file=master.path,
            found=len(images),
            expected=1,
            remedy="export one movie to a file of its own",
        )
    pixels = images[0]
    sizes = {axis: _size(pixels, axis, master) for axis in "TZC"}
    if math.prod(sizes.values()) > _MOST_PLANES:
        raise _misfit(master, "SizeT, SizeZ, SizeC", list(sizes.values()), pages)
    for name, value in (("X", master.width), ("Y", master.height)):
        if _size(pixels, name, master) != value:
            raise _misfit(master, f"Size{name}", _size(pixels, name, master), pages)
    table = _table(pixels, sizes, pages, master)
    findings = []
    total = sum(len(page) for page in pages)
    placed = int((table >= 0).sum())
    if placed < total:
        raise _misfit(master, "SizeT, SizeZ, SizeC", list(sizes.values()), pages)
    if placed < table.size:
        text = f"{master.path.name}: {placed} of the {table.size} planes that it names are there"
        findings.append(Finding("pages-missing", text))
    across, down = (
        in_um(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "um"))
        for a in "XY"
    )
    step = in_um(pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit", "um"))
    return Description(
        table,
        fps=_rate(pixels, sizes, master, findings),
        um_per_px=(down, across) if across and down else None,
        depths_um=[index * step for index in range(sizes["Z"])] if step else None,
        is_stack=sizes["T"] == 1 and sizes["Z"] > 1,
        findings=findings,
    )


def _names(pixels: ElementTree.Element) -> set[str]:
    return {PurePath(u.get("FileName", "")).name for u in pixels.iter("UUID")}


def _size(pixels: ElementTree.Element, axis: str, master: TiffPages) -> int:
    text = pixels.get(f"Size{axis}", "1")
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 10**8:
        raise _misfit(master, f"Size{axis}", text[:40], [master])
    return int(text[:9])


def _misfit(master: TiffPages, name: str, found: object, pages: Sequence[TiffPages]) -> DataError:
    total = sum(len(page) for page in pages)
    return DataError(
        "OME-XML does not fit the pages",
        file=master.path,
        field=name,
        found=found,
        expected=f"{total} pages of {master.height} x {master.width} px in {len(pages)} files",
        remedy=f"list all files of the movie and no other, or {SIDECAR}",
    )


def _table(pixels, sizes: dict[str, int], pages: Sequence[TiffPages], master: TiffPages):
    """Place every page by the TiffData blocks, or in the order of dimensions."""
    order = pixels.get("DimensionOrder", "XYCZT")
    axes = order[2:]
    if sorted(axes) != ["C", "T", "Z"]:
        raise _misfit(master, "DimensionOrder", order[:40], pages)
    shape = tuple(sizes[axis] for axis in "TZC")
    table = np.full(shape, -1, np.int64)
    first = np.concatenate([[0], np.cumsum([len(page) for page in pages])])
    blocks = list(pixels.iter("TiffData"))
    where = {page.path.name: index for index, page in enumerate(pages)}
    named = {name for b in blocks for u in b.iter("UUID") if (name := _file_name(u))}
    if len(pages) == 1 and len(named) == 1 and not named & where.keys():  # the file was renamed
        where = {named.pop(): 0}
    count_all = math.prod(shape)
    if not blocks:
        blocks = [ElementTree.Element("TiffData")]
    for block in blocks:
        unit = block.find("UUID")
        name = _file_name(unit) if unit is not None else ""
        number = where.get(name) if name else where.get(master.path.name, 0)
        if number is None:  # of a file that was not given
            continue
        number_of_pages = len(pages[number])
        ifd = _index(block, "IFD", master)
        default = 1 if block.get("IFD") is not None else number_of_pages
        planes = _index(block, "PlaneCount", master, default)
        at = [_index(block, f"First{axis}", master) for axis in axes]
        strides = np.cumprod([1, *(sizes[axis] for axis in axes[:-1])])
        if any(a >= sizes[axis] for a, axis in zip(at, axes, strict=True)):
            raise _misfit(master, "TiffData", f"First{axes} {at}", pages)
        start = int(np.dot(at, strides))
        planes = min(planes, number_of_pages - ifd, count_all - start)
        if planes < 1:
            continue
        linear = start + np.arange(planes)
        found = np.unravel_index(linear, [sizes[a] for a in axes], "F")
        places = dict(zip(axes, found, strict=True))
        spot = tuple(places[axis] for axis in "TZC")
        if (table[spot] >= 0).any():
            raise DataError(
                "OME-XML gives two pages one place",
                file=master.path,
                field="TiffData",
                remedy=SIDECAR,
            )
        table[spot] = first[number] + ifd + np.arange(planes)
    return table


def _file_name(unit: ElementTree.Element) -> str:
    return PurePath(unit.get("FileName", "").replace("\\", "/")).name


def _index(block: ElementTree.Element, name: str, master: TiffPages, default: int = 0) -> int:
    text = block.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise _misfit(master, name, text[:40], [master])
    return int(text)


def _rate(pixels, sizes, master: TiffPages, findings: list[Finding]) -> float | None:
    """Return volumes per second: by the times of the planes, else by the increment."""
    unit = pixels.get("TimeIncrementUnit", "s")
    step = in_seconds(pixels.get("TimeIncrement"), unit)
    times: dict[int, float] = {}
    for plane in pixels.iter("Plane"):
        if plane.get("TheZ", "0") == "0" and plane.get("TheC", "0") == "0":
            said = in_seconds(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"))
            text = plane.get("TheT", "")
            if text.isascii() and text.isdigit() and len(text) < 10:
                times[int(text)] = said or 0.0
    found = sorted(times)
    if len(found) < 3 or sizes["T"] < 3:
        return 1 / step if step else None
    gaps = np.diff([times[t] for t in found]) / np.diff(found)
    usual = float(np.median(gaps))
    if usual <= 0:
        return 1 / step if step else None
    if step and abs(usual / step - 1) > 0.01:
        text = f"{master.path.name}: planes are {usual:.6g} s apart by their times, "
        text += f"{step:.6g} s by TimeIncrement; their times are believed"
        findings.append(Finding("rate-contradicted", text))
        return 1 / usual
    return 1 / step if step else 1 / usual
