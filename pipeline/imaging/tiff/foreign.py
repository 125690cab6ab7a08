"""Open TIFF files that other programs than ScanImage wrote, by what these say of the pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.imaging.tiff.companions import describe_prairie, is_prairie, thor_rate
from pipeline.imaging.tiff.described import (
    SIDECAR,
    Description,
    describe_imagej,
    describe_micromanager,
    describe_tifffile,
    imagej_entries,
    ordered_table,
    tifffile_shape,
    whole_frames,
)
from pipeline.imaging.tiff.ome import describe_ome, is_ome, read_xml
from pipeline.imaging.tiff.pages import TiffPages
from pipeline.imaging.tiff.regions import RoiField
from pipeline.imaging.tiff.scan import Scan
from pipeline.imaging.tiff.scanimage import ScanLayout
from pipeline.imaging.tiff.stamps import NUMBER, Arrangement
from pipeline.imaging.tiff.walker import read_pages


def _describe(pages: list[TiffPages]) -> Description:
    first = pages[0]
    if is_prairie(pages) and (is_ome(first) or first.software.startswith("Prairie")):
        return describe_prairie(pages)
    if all(page.places is not None for page in pages):
        return describe_micromanager(pages)
    if is_ome(first):
        return describe_ome(pages, _master(pages))
    for page in pages[1:]:
        same = bool(imagej_entries(page)) == bool(imagej_entries(first)) or len(page) == 1
        if not same or is_ome(page):
            raise DataError(
                "files of one scan were written by different programs",
                file=page.path,
                expected=f"a description as in {first.path.name}",
                remedy="list the files of one scan",
            )
    if imagej_entries(first):
        about = describe_imagej(pages)
        for page in pages[1:]:
            own = imagej_entries(page)
            for name in ("channels", "slices", "c0", "c1"):
                if own and own.get(name) != imagej_entries(first).get(name):
                    raise DataError(
                        "files of one scan differ",
                        file=page.path,
                        field=name,
                        found=own.get(name),
                        expected=f"{imagej_entries(first).get(name)} as {first.path.name}",
                        remedy="list the files of one scan",
                    )
        return about
    if tifffile_shape(first) is not None:
        return describe_tifffile(pages)
    total = sum(len(page) for page in pages)
    channels = 1
    if first.stamps is not None:  # ScanImage's pages whose header was lost
        numbers = np.concatenate([p.stamps[:, NUMBER] for p in pages if p.stamps is not None])
        sizes = np.unique(numbers, return_counts=True)[1]
        channels = int(np.median(sizes))
        if (sizes[:-1] != channels).any() or len(numbers) != total or total % channels:
            channels = 1
    table = ordered_table({"T": total // channels, "Z": 1, "C": channels}, "TZC", total)
    return Description(table)


def _master(pages: list[TiffPages]) -> TiffPages:
    """Return the file whose OME-XML describes all, which may lie beside those given."""
    for page in pages:
        if is_ome(page) and "<BinaryOnly" not in page.description:
            return page
    root = read_xml(pages[0].description, pages[0].path)
    only = root.find("BinaryOnly")
    name = Path(only.get("MetadataFile", "") if only is not None else "").name
    beside = pages[0].path.with_name(name) if name else pages[0].path
    if not name or not beside.is_file() or beside.suffix.lower() not in (".tif", ".tiff"):
        raise DataError(
            "file that describes all others is missing",
            file=pages[0].path,
            field="MetadataFile",
            found=name or "no name",
            remedy="copy it beside the others",
        )
    return read_pages(beside)


def open_described(pages: list[TiffPages], fps: float | None) -> Scan:
    """Open files by their own description, or as one page a frame if they have none.

    Raises
    ------
    DataError
        If the description is damaged or not understood, or nothing says the rate.
    """
    first = pages[0]
    about = _describe(pages)
    for page in pages[:-1]:
        if page.cut:
            raise cut_inside(page)
    rate = fps or about.fps or thor_rate(pages, about.table.shape[1])
    if rate is None and about.is_stack:
        rate = 1.0
    if rate is None:
        raise DataError(
            "has no ScanImage header, so that its frame rate is unknown",
            file=first.path,
            found=f"{about.table.shape[2]} channels, {about.table.shape[1]} planes",
            remedy="give fps (frames per second)",
        )
    slices = about.table.shape[1]
    table, place = whole_frames(about.table)
    depths: Sequence[float | None] = about.depths_um or [None] * slices
    fields = [
        RoiField(first.height, first.width, 0, index, None, None, depths[index], about.um_per_px)
        for index in range(slices)
    ]
    period = about.frame_period_s or 1 / rate / slices
    layout = ScanLayout(
        fps=float(about.fps or rate),
        channels=about.channels,
        n_slices=slices,
        slices_with_flyback=slices,
        bidirectional=about.bidirectional,
        line_period_s=about.line_period_s or period / first.height,
        frame_period_s=period,
        fields=fields,
        offset=about.offset,
        scale=about.scale,
        slow=about.is_stack,
    )
    return Scan(
        pages,
        layout,
        {},
        arranged=Arrangement(table, place, np.zeros(len(table), np.int64)),
        findings=about.findings,
        numbered=bool(len(place)) and int(place[-1]) + 1 != len(place),  # some are missing
    )


def cut_inside(page: TiffPages) -> DataError:
    """Return the error of a file that was cut off and is not the last."""
    return DataError(
        "file was cut off, and others follow it",
        file=page.path,
        found=f"{len(page)} whole pages",
        remedy="copy the file again, or list only the files before or after it",
    )


def refuse_unknown(first: TiffPages, header: dict[str, object]) -> None:
    """Raise if a file is ScanImage's, but its header is not understood."""
    start = first.description[:4096] + first.software[:4096]
    if not header and re.search(r"scanimage|\bstate\.|\bSI\d?\.", start, re.IGNORECASE):
        raise DataError(
            "has a header of ScanImage that is not understood",
            file=first.path,
            found=" ".join(start.split())[:80],
            remedy=SIDECAR,
        )
