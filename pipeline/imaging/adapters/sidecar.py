"""Plain TIFF files with a JSON file beside the first that says what no header does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.imaging.tiff.opening import listed_files, open_plain
from pipeline.imaging.tiff.scan import Scan
from pipeline.jsonfile import read_json

from .base import Adapter, adapters, checked_rate, checked_scale

KEYS = ("fps", "um_per_px", "channels", "slices", "bidirectional")


def sidecar_of(path: Path) -> Path:
    """Return the name of the JSON file that belongs to a TIFF file."""
    return path.with_suffix(".json")


def open_with_sidecar(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
) -> Scan:
    """Open TIFF files by the JSON file of the first: `a.tif` and `a.json`.

    Parameters
    ----------
    files : path or sequence of paths
        In order of acquisition.
    fps, um_per_px : optional
        Override what the file says.

    Notes
    -----
    The JSON object holds `fps` (volumes per second, Hz), and optionally `um_per_px` (number, or
    [y, x]), `channels` and `slices` (pages run through channels, then slices, then time; default
    1) and `bidirectional` (default true).

    Raises
    ------
    DataError
        If the JSON file is malformed, or a TIFF file is.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.tif"
    ...     tifffile.imwrite(file, np.zeros((6, 16, 24), np.int16))
    ...     _ = file.with_suffix(".json").write_text('{"fps": 15, "slices": 2}')
    ...     scan = open_with_sidecar(file)
    >>> scan.n_frames, scan.n_fields
    (3, 2)
    """
    first = listed_files(files)[0]
    path = sidecar_of(first)
    said = read_json(path)
    if not isinstance(said, dict) or set(said) - set(KEYS):
        found = sorted(set(said) - set(KEYS)) if isinstance(said, dict) else type(said).__name__
        raise DataError(
            "is no description of a movie",
            file=path,
            found=found,
            expected=f"an object with some of {list(KEYS)}",
        )
    counts = {name: said.get(name, 1) for name in ("channels", "slices")}
    for name, count in counts.items():
        if type(count) is not int or not 1 <= count <= 1000:
            raise DataError(
                "is no number of planes", file=path, field=name, found=count, expected="1 to 1000"
            )
    for name, kind in (("bidirectional", bool), ("fps", (int, float, type(None)))):
        if not isinstance(said.get(name, None if name == "fps" else True), kind):
            raise DataError("has the wrong type", file=path, field=name, found=said[name])
    rate = checked_rate(fps or said.get("fps"), path, "write fps (Hz) into the JSON file")
    scale = checked_scale(um_per_px or said.get("um_per_px"), path)
    return open_plain(
        files,
        fps=rate,
        um_per_px=scale,
        bidirectional=said.get("bidirectional", True),
        **counts,
    )


def has_sidecar(path: Path) -> bool:
    """Return whether a TIFF file has a JSON file that speaks of frames per second.

    Other programs write JSON files of the same name; those are none of ours.
    """
    if path.is_dir():
        path = listed_files(path)[0]
    beside = sidecar_of(path)
    if path.suffix.lower() not in (".tif", ".tiff") or not beside.is_file():
        return False
    with beside.open("rb") as file:
        return b'"fps"' in file.read(1 << 16)


adapters.append(Adapter("sidecar", has_sidecar, open_with_sidecar))
