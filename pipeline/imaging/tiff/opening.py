"""Open the TIFF files of a scan by what they say of themselves."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Finding
from pipeline.imaging.tiff.described import (
    SIDECAR,
    describe_imagej,
    imagej_entries,
    tifffile_shape,
)
from pipeline.imaging.tiff.foreign import cut_inside, open_described, refuse_unknown
from pipeline.imaging.tiff.header import parse_header, regions_of
from pipeline.imaging.tiff.ome import is_ome
from pipeline.imaging.tiff.pages import TiffPages
from pipeline.imaging.tiff.regions import RoiField
from pipeline.imaging.tiff.scan import Scan
from pipeline.imaging.tiff.scanimage import ScanLayout, scan_layout, unsubtracted
from pipeline.imaging.tiff.stamps import ACQUISITION, NUMBER, Arrangement, numbered, page_rate
from pipeline.imaging.tiff.walker import read_pages

_RATE = 0.01  # by which a header's rate may differ from that of the time stamps


def open_scan(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    acquisition: int | None = None,
    stack: bool = False,
) -> Scan:
    """Open the files of a scan; nothing but the page directories is read.

    Parameters
    ----------
    files : path or sequence of paths
        TIFF files in any order if ScanImage numbered their frames, else in order of acquisition; a
        folder means its .tif files by name.
    fps : float, optional
        Frames per second (Hz). Needed where no file says it; otherwise it overrides what the files
        say, and line period, frame period and delays of planes go with it.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um), where the header does not say or is to be overridden.
    acquisition : int, optional
        Number of the one acquisition that is meant, if the files hold several.
    stack : bool
        Accept a structural stack, which is refused as a movie.

    Returns
    -------
    Scan
        Its `findings` say what was left out or corrected.

    Raises
    ------
    DataError
        If a file is malformed, files do not belong together, what they say of themselves cannot be
        understood, or the frame rate is unknown.
    """
    _check_rate(fps)
    pages = _read(files)
    first = pages[0]
    header, groups = _header(first)
    refuse_unknown(pages[0], header)
    if header:
        scan = _open_scanimage(pages, header, groups, fps, acquisition)
    else:
        scan = open_described(pages, fps)
    if not stack:
        _refuse_stack(scan)
    if fps is not None and scan.fps != fps:
        scan = scan.at_rate(fps)
    if um_per_px is not None:
        scan = scan.with_scale((float(um_per_px[0]), float(um_per_px[1])))
    return scan


def open_plain(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    fps: float,
    um_per_px: tuple[float, float] | None,
    channels: int,
    slices: int,
    bidirectional: bool,
) -> Scan:
    """Open TIFF files whose pages run through channels, then slices, then time, as a person says.

    What the files say of their pages is not asked.

    Raises
    ------
    DataError
        If a file is malformed, or the files differ.
    """
    _check_rate(fps)
    pages = _read(files)
    first = pages[0]
    offset, scale = 0.0, 1.0
    if len(pages) == 1 and len(first) == 1:
        said = tifffile_shape(first) or {"shape": []}
        images = imagej_entries(first).get("images", "1")
        count = int(images[:9]) if images.isascii() and images.isdigit() else 1
        count = max(count, math.prod(said["shape"][:-2]))
        if count > 1 and first.offsets[0] >= 0:
            first.spread(count)
    if imagej_entries(first):
        about = describe_imagej([first]) if channels * slices == 1 else None
        offset, scale = (about.offset, about.scale) if about else (0.0, 1.0)
    whole = RoiField(first.height, first.width, 0, 0, None, None, None, um_per_px)
    period = 1 / (fps * slices)
    layout = ScanLayout(
        fps=float(fps),
        channels=list(range(1, channels + 1)),
        n_slices=slices,
        slices_with_flyback=slices,
        bidirectional=bidirectional,
        line_period_s=period / first.height,
        frame_period_s=period,
        fields=[replace(whole, slice_index=index) for index in range(slices)],
        offset=offset,
        scale=scale,
    )
    return Scan(pages, layout, {})


def _check_rate(fps: float | None) -> None:
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number; got {fps}")


def _read(files) -> list[TiffPages]:
    pages: list[TiffPages] = []
    texts: dict[str, str] = {}
    described = False
    for path in listed_files(files):
        page = read_pages(path)
        if is_ome(page) and "<BinaryOnly" not in page.description[:4096]:
            if described:  # one description of all files is enough, and each may hold megabytes
                page.description = page.description[:4096]
            described = True
        for name in ("description", "software", "artist"):
            text = getattr(page, name)
            setattr(page, name, texts.setdefault(text, text))
        pages.append(page)
    first = pages[0]
    for page in pages[1:]:
        if (page.height, page.width, page.dtype) != (first.height, first.width, first.dtype):
            raise DataError(
                "files of one scan differ in size or type",
                file=page.path,
                found=f"{page.height} x {page.width} {page.dtype}",
                expected=f"{first.height} x {first.width} {first.dtype} as {first.path.name}",
                remedy="list the files of one scan",
            )
    pages = _in_order(pages)
    first = pages[0]
    if np.any(first.offsets < 0):  # a page that only tifffile can read: find out now whether it can
        first.read(np.array([0]), np.empty((1, first.height, first.width), first.dtype))
    return pages


def listed_files(files: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Return the paths of the files of a scan; a folder means its .tif files by name."""
    if isinstance(files, (str, os.PathLike)):
        path = Path(files)
        if path.is_dir() and any(p.suffix.lower() in (".tif", ".tiff") for p in path.iterdir()):
            found = [p for p in path.iterdir() if p.suffix.lower() in (".tif", ".tiff")]
            return sorted(
                found,
                key=lambda p: [
                    (0, int(t), "") if t.isdigit() else (1, 0, t)
                    for t in re.split(r"(\d+)", p.name)
                ],
            )
        return [path]
    paths = [Path(file) for file in files]
    if not paths:
        raise ValueError("no files were given")
    if len({path.resolve() for path in paths}) != len(paths):
        raise DataError("the same file is listed twice", file=paths[0].parent)
    return paths


def _in_order(pages: list[TiffPages]) -> list[TiffPages]:
    """Sort files by acquisition and number of their first frame, if all have one and differ."""
    stamps = [page.stamps[0] for page in pages if page.stamps is not None]
    keys = [(stamp[ACQUISITION], stamp[NUMBER]) for stamp in stamps]
    if len(set(keys)) != len(pages):
        return pages
    return [page for _, page in sorted(zip(keys, pages, strict=True), key=lambda pair: pair[0])]


def _header(page: TiffPages) -> tuple[dict[str, object], dict]:
    header = parse_header(page.description, page.software)
    groups = regions_of(page.artist, page.software, page.description) if header else {}
    return header, groups


def _open_scanimage(
    pages: list[TiffPages],
    header: dict[str, object],
    groups: dict,
    fps: float | None,
    acquisition: int | None,
) -> Scan:
    first = pages[0]
    if first.dtype.kind == "f" or first.dtype.itemsize != 2:
        raise DataError(
            "pixel type is not ScanImage's",
            file=first.path,
            found=first.dtype,
            expected="16-bit integers",
        )
    rate_known = any(key.endswith(("scanFrameRate", "scanFramePeriod")) for key in header)
    if fps is not None and not rate_known and "state.acq.frameRate" not in header:
        header["SI.hRoiManager.scanFrameRate"] = fps
    layout = scan_layout(header, groups, first.height, first.width, first.path)
    _compare_headers(pages, layout)
    findings: list[Finding] = []
    if left := unsubtracted(header, layout.channels, first.path):
        text = f"{first.path.name}: ScanImage did not subtract the offset of its digitizer, "
        text += f"{left} gray levels by channel; dF/F is too small by that much baseline"
        findings.append(Finding("offset-kept", text))
    arranged = None
    per_frame = len(layout.channels) * layout.slices_with_flyback
    has_numbers = all(page.stamps is not None for page in pages) and not layout.slow
    if has_numbers:
        arranged = numbered(
            np.concatenate([page.stamps for page in pages]),
            np.repeat(np.arange(len(pages)), [len(page) for page in pages]),
            channels=len(layout.channels),
            slices=layout.n_slices,
            written=layout.slices_with_flyback,
            average=layout.average,
            files=[page.path for page in pages],
        )
        arranged, more = _chosen(arranged, acquisition, first.path)
        findings += more
        layout = _by_stamps(layout, arranged, first.path, findings)
    elif acquisition not in (None, 1):
        raise DataError("files do not number acquisitions", file=first.path, found=acquisition)
    if not has_numbers:
        findings += _check_split(pages, per_frame)
    return Scan(
        pages, layout, header, arranged=arranged, findings=findings, numbered=arranged is not None
    )


def _check_split(pages: list[TiffPages], per_frame: int) -> list[Finding]:
    """Refuse files without numbers of which one ends within a frame, unless all make whole ones."""
    total = sum(len(page) for page in pages)
    findings = []
    for page, following in itertools.pairwise(pages):
        if page.cut:
            raise cut_inside(page)
        if not len(page) % per_frame:
            continue
        if total % per_frame:
            raise DataError(
                "file ends within a frame (volume), and nothing says that the next one goes on",
                file=page.path,
                found=f"{len(page)} pages, then {following.path.name}",
                expected=f"a multiple of {per_frame} pages (channels x slices)",
                remedy="list the files of one acquisition",
            )
        text = f"{page.path.name} ends within a frame (volume), which the next file is taken to go "
        findings.append(Finding("frame-split", text + "on with, as all files together are whole"))
    return findings


def _compare_headers(pages: list[TiffPages], layout: ScanLayout) -> None:
    """Refuse a file whose own header tells of another kind of scan."""
    first, seen = pages[0], {}
    names = ("channels", "n_slices", "slices_with_flyback", "fields", "average", "slow")
    for page in pages[1:]:
        text = (page.software or page.description, page.artist)
        if page.software and text == (first.software, first.artist):
            continue
        if text not in seen:
            header, groups = _header(page)
            if not header:
                raise DataError(
                    "file has no header of ScanImage, the first one does",
                    file=page.path,
                    remedy="list the files of one scan",
                )
            seen = {text: scan_layout(header, groups, page.height, page.width, page.path)}
        own = seen[text]
        for name in names:
            if getattr(own, name) != getattr(layout, name):
                found, expected = (_short(getattr(part, name)) for part in (own, layout))
                raise DataError(
                    "file is of another kind of scan than the first",
                    file=page.path,
                    field=name,
                    found=found,
                    expected=f"{expected} as {first.path.name}",
                    remedy="list the files of one scan, or move the others to another folder",
                )
        if abs(own.fps / layout.fps - 1) > _RATE:
            raise DataError(
                "file is of another rate than the first",
                file=page.path,
                found=f"{own.fps:.6g} Hz",
                expected=f"{layout.fps:.6g} Hz as {first.path.name}",
                remedy="list the files of one scan, or move the others to another folder",
            )


def _short(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], RoiField):
        one = value[0]
        return f"{len(value)} fields, the first {one.height_px} x {one.width_px} px at z {one.z_um}"
    return str(value)[:80]


def _chosen(
    arranged: Arrangement, acquisition: int | None, file: Path
) -> tuple[Arrangement, list[Finding]]:
    """Keep one acquisition, or all of them and say so."""
    known = arranged.acquisitions
    if acquisition is not None:
        runs = [index for index, number in enumerate(known) if number == acquisition]
        if len(runs) != 1 and 1 <= acquisition <= len(known) and len(set(known)) < len(known):
            runs = [acquisition - 1]  # every grab begins at 1 again: counted instead
        if len(runs) != 1:
            raise DataError(
                "no such acquisition", file=file, found=acquisition, expected=f"one of {known[:20]}"
            )
        here = arranged.run == runs[0]
        seconds = None if arranged.seconds is None else arranged.seconds[here]
        run = np.zeros(int(here.sum()), np.int64)
        kept = Arrangement(
            arranged.table[here], arranged.place[here], run, [known[runs[0]]], seconds
        )
        return kept, list(kept.findings)
    if len(known) < 2:
        return arranged, []
    counts = np.bincount(arranged.run, minlength=len(known)).tolist()
    text = f"{file.name}: {len(known)} acquisitions of {counts[:12]} frames are joined; each begins"
    text += " with a frame of its own. Give acquisition=N or list the files of one to take one"
    return arranged, [Finding("acquisitions-joined", text)]


def _by_stamps(
    layout: ScanLayout, arranged: Arrangement, file: Path, findings: list[Finding]
) -> ScanLayout:
    """Believe the time stamps where the header's rate contradicts them."""
    rate = page_rate(arranged)
    if rate is None or abs(rate / layout.fps - 1) <= _RATE:
        return layout
    text = f"{file.name}: frames come at {rate:.6g} Hz by their time stamps, {layout.fps:.6g} Hz by"
    findings.append(Finding("rate-contradicted", text + " the header; the stamps are believed"))
    return replace(layout, fps=rate)


def _refuse_stack(scan: Scan) -> None:
    layout = scan.layout
    if layout.slow or (layout.n_slices > 1 and scan.n_frames == 1):
        name = "SI.hStackManager.framesPerSlice" if scan.header else "slices"
        raise DataError(
            "is a slow z stack, not a functional scan" if scan.header else "is one z stack",
            file=scan.files[0],
            field=name,
            found=f"{layout.n_slices} slices, {layout.repeats} pages at each",
            expected="1 page of every slice in turn" if scan.header else "a movie",
            remedy="read it as a structural stack"
            + ("" if scan.header else f"; if its pages are a movie, {SIDECAR}"),
        )
