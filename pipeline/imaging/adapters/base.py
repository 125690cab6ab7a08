"""What an adapter gives: a scan with the few attributes that the chain uses."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.movie import MovieBase
from pipeline.imaging.tiff.opening import open_scan
from pipeline.imaging.tiff.scan import FieldInfo
from pipeline.plugins import load_plugins

Opener = Callable[..., Any]


@dataclass(frozen=True)
class Adapter:
    """One kind of source: whether a path is of it, and how it is opened.

    Attributes
    ----------
    name : str
    matches : callable (Path) -> bool
    open : callable (Path, *, fps, um_per_px) -> scan
    """

    name: str
    matches: Callable[[Path], bool]
    open: Opener


adapters: list[Adapter] = []
"""In the order in which they are asked; what none of them wants is read as TIFF files."""


def open_source(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    acquisition: int | None = None,
):
    """Open a movie of any kind that there is an adapter for.

    Parameters
    ----------
    files : path or sequence of paths
        TIFF files or a folder of them (`open_scan`), TIFF with a JSON file beside it, an NWB file
        with TwoPhotonSeries, or a zarr array.
    fps : float, optional
        Frames per second (Hz), where the source does not say or is to be overridden.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um), likewise.
    acquisition : int, optional
        Number of the one acquisition that is meant, where ScanImage's files hold several.

    Returns
    -------
    Scan or SourceScan
        With `n_frames, n_fields, n_channels, channel_numbers, fps, bidirectional, fields, header,
        files` and `movie(field, channel)`.

    Raises
    ------
    DataError
        If the source is malformed or its frame rate unknown.

    Examples
    --------
    >>> import json, tempfile
    >>> import tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.tif"
    ...     tifffile.imwrite(file, np.zeros((5, 16, 24), np.int16))
    ...     _ = file.with_suffix(".json").write_text(json.dumps({"fps": 15}))
    ...     scan = open_source(file)
    >>> scan.n_frames, scan.fps
    (5, 15.0)
    """
    load_plugins()
    several = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if several:
        first = Path(several[0])
        for adapter in adapters:
            if not adapter.matches(first):
                continue
            if len(several) > 1 and adapter.name != "sidecar":
                raise DataError(
                    "only one such source can be opened at a time",
                    file=first,
                    found=f"{len(several)} paths",
                    expected="one",
                )
            if acquisition is not None:
                raise DataError(
                    "source does not number acquisitions", file=first, found=acquisition
                )
            given = files if adapter.name == "sidecar" else first
            return adapter.open(given, fps=fps, um_per_px=um_per_px)
    return open_scan(files, fps=fps, um_per_px=um_per_px, acquisition=acquisition)


class SourceMovie(MovieBase):
    """Frames of anything that is sliced like an array, read when asked.

    Parameters
    ----------
    read : callable (start, stop) -> array, shape (frames, H, W)
    shape : tuple (frames, H, W)
    fps : float
        Frames per second (Hz).
    um_per_px : tuple (y, x) or None
    bidirectional : bool
        Whether a raster phase is to be looked for.
    file : path
        For error messages.
    """

    def __init__(
        self,
        read: Callable[[int, int], NDArray],
        shape: tuple[int, int, int],
        fps: float,
        um_per_px: tuple[float, float] | None,
        *,
        bidirectional: bool,
        file: Path,
    ) -> None:
        self._reader, self.file = read, file
        self.shape, self.fps, self.um_per_px = shape, fps, um_per_px
        self.bidirectional = bidirectional

    def _read(self, start: int, stop: int) -> NDArray:
        try:
            frames = np.asarray(self._reader(start, stop))
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                "frames cannot be read", file=self.file, field=f"{start}-{stop}", found=error
            ) from error
        if frames.dtype.kind == "f" and not np.isfinite(frames).all():
            raise DataError(
                "pixels are not finite numbers",
                file=self.file,
                field=f"frames {start}-{stop}",
                remedy="write the movie again without NaN",
            )
        return frames


class SourceScan:
    """A scan of one channel whose fields are movies of equal length.

    Attributes
    ----------
    n_frames, n_fields, n_channels, fps, bidirectional, fields, channel_numbers, header, files
        As of `pipeline.imaging.tiff.scan.Scan`.
    """

    def __init__(self, movies: Sequence[SourceMovie], file: Path) -> None:
        first = movies[0]
        self._movies, self.files = list(movies), [file]
        self.header: dict[str, Any] = {}
        self.n_frames, self.fps = first.shape[0], first.fps
        if self.n_frames < 1 or min(first.shape) < 1:
            raise DataError("scan has not one frame", file=file, found=first.shape)
        self.n_fields, self.n_channels, self.channel_numbers = len(movies), 1, [1]
        self.bidirectional = first.bidirectional
        self.fields = []
        for index, movie in enumerate(movies):
            height, width = movie.shape[1:]
            line = 1 / (movie.fps * height * len(movies))
            delay = (index + (height - 1) / 2 / height) / (movie.fps * len(movies))
            self.fields.append(
                FieldInfo(
                    index,
                    height,
                    width,
                    movie.um_per_px,
                    None,
                    None,
                    None,
                    delay,
                    line,
                    bidirectional=movie.bidirectional,
                )
            )

    def movie(self, field: int = 0, channel: int = 0) -> SourceMovie:
        """Return the movie of a field (0-based); there is one channel."""
        if not 0 <= field < self.n_fields or channel != 0:
            raise ValueError(
                f"no field {field} with channel {channel}; there are {self.n_fields} fields, "
                f"counted from 0, with channel 0"
            )
        return self._movies[field]


def checked_rate(fps: float | None, file: Path, remedy: str) -> float:
    """Return a frame rate (Hz) that is a positive number.

    Raises
    ------
    DataError
        If it is None, or no positive number.
    """
    if fps is None:
        raise DataError("frame rate is unknown", file=file, field="fps", remedy=remedy)
    if not math.isfinite(fps) or fps <= 0:
        raise DataError(
            "frame rate is impossible",
            file=file,
            field="fps",
            found=fps,
            expected="frames per second, > 0",
        )
    return float(fps)


def checked_scale(um_per_px: Any, file: Path) -> tuple[float, float] | None:
    """Return a pixel size (y, x) in um from a number or a pair; None stays None."""
    if um_per_px is None:
        return None
    try:
        size = np.broadcast_to(np.asarray(um_per_px, np.float64), (2,))
    except (TypeError, ValueError):
        size = np.zeros(2)
    if not (np.isfinite(size) & (size > 0)).all():
        raise DataError(
            "pixel size is impossible",
            file=file,
            field="um_per_px",
            found=um_per_px,
            expected="one or two numbers > 0 (um; y, x)",
        )
    return float(size[0]), float(size[1])
