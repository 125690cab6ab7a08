"""Images and their presentations from an NWB file."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, text
from pipeline.imaging.adapters.nwb_tables import check_claim, read_table, values
from pipeline.recording.nwb.session import Column, Table
from pipeline.recording.nwb.timing import series_times
from pipeline.stimulus.images import check_aspect, image_hash

if TYPE_CHECKING:
    import h5py

IMAGE_COLUMNS = ("image", "image_hash", "image_name", "image_index", "frame", "stimulus_index")
"""Columns that may say which image an interval showed, the first that is there."""
BLANK = ("", "omitted", "blank", "gray", "grey", "none", "n/a", "spontaneous")
HASH = re.compile(r"[0-9a-f]{64}")
MOST_IMAGE_BYTES = 1 << 31

Shape = tuple[int, int] | None


class Templates:
    """Images of a file by name and by number; pixels are read when asked.

    Parameters
    ----------
    file : h5py.File
    path : path
        For messages.
    rows_first : bool, optional
        Images are (row, column); the standard says (x, y).
    monitor : (int, int), optional
        Height and width (px): decides where `rows_first` is not given and one way alone fits.
    """

    def __init__(
        self, file: h5py.File, path: Path, rows_first: bool | None, monitor: Shape
    ) -> None:
        self.path, self.rows_first, self.monitor = path, rows_first, monitor
        self.places: list[Callable[[], NDArray]] = []
        self.by_name: dict[str, int] = {}
        self._done: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        place = file.get("stimulus/templates")
        groups = [] if place is None else [place[name] for name in sorted(place)]
        for group in groups:
            kind = text(group.attrs.get("neurodata_type"))
            if kind == "Images":
                self._collection(file, group)
            elif "data" in group and group["data"].ndim == 3:
                self._stack(group["data"])
        self.names = {row: name for name, row in self.by_name.items()}

    def _collection(self, file: h5py.File, group: h5py.Group) -> None:
        order = group.get("order_of_images")
        if order is not None:
            items = [file[reference] for reference in values(order, self.path)]
        else:
            items = [group[name] for name in sorted(group)]
        for item in items:
            self.by_name.setdefault(item.name.rsplit("/", 1)[-1], len(self.places))
            self.places.append(functools.partial(values, item, self.path))

    def _stack(self, data: h5py.Dataset) -> None:
        check_claim(data, self.path)
        for row in range(data.shape[0]):
            self.places.append(functools.partial(_frame, data, row))

    def row(self, said: Any, where: Mapping[str, Any]) -> int | None:
        """Return the image that a table names by text or number; None for a blank."""
        if isinstance(said, str):
            if said in self.by_name:
                return self.by_name[said]
            if said.strip().lower() in BLANK:
                return None
            said = float(said) if re.fullmatch(r"-?\d+(\.0*)?", said.strip()) else said
        number = isinstance(said, (int, float, np.number))
        if number and (not np.isfinite(said) or said < 0):
            return None
        if not number or said != int(said) or said >= len(self.places):
            raise DataError(
                "image is not among the templates",
                **where,
                found=repr(said)[:80],
                expected=f"one of {len(self.places)} images in stimulus/templates",
            )
        return int(said)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of an image, (height, width), 8 bits.

        Raises
        ------
        DataError
            If they are not whole gray levels from 0 to 255, or have colors.
        """
        if row not in self._done:
            image = self._upright(self._gray(row), self.names.get(row, ""))
            self._bytes += image.nbytes
            if self._bytes > MOST_IMAGE_BYTES:
                raise DataError(
                    "images are too large",
                    file=self.path,
                    field="stimulus/templates",
                    expected=f"at most {MOST_IMAGE_BYTES} bytes",
                )
            self._done[row] = image
        return self._done[row]

    def _where(self, row: int) -> dict[str, Any]:
        name = self.names.get(row, f"image {row}")
        return {"file": self.path, "field": f"stimulus/templates: {name[:100]}"}

    def _gray(self, row: int) -> NDArray[np.uint8]:
        pixels = np.asarray(self.places[row]())
        if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        if pixels.ndim != 2 or pixels.dtype.kind not in "uif" or not pixels.size:
            raise DataError(
                "is no gray image",
                **self._where(row),
                found=f"{pixels.shape} {pixels.dtype}",
                expected="gray levels, (x, y)",
            )
        known = np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255
        if not known or (pixels != np.round(pixels)).any():
            raise DataError(
                "gray levels are not those of a monitor",
                **self._where(row),
                found=f"{pixels.min():g} to {pixels.max():g}, {pixels.dtype}",
                expected="whole numbers from 0 to 255",
                remedy="write the 8-bit images that were shown",
            )
        return pixels.astype(np.uint8)

    def _upright(self, stored: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """Return an image with its rows first; a name that is its hash proves the way."""
        ways = {False: np.ascontiguousarray(stored.T), True: np.ascontiguousarray(stored)}
        if HASH.fullmatch(name):
            for image in ways.values():
                if image_hash(image) == name:
                    return image
            raise DataError(
                "image is not what its name says",
                file=self.path,
                field=f"stimulus/templates: {name}",
                found=image_hash(ways[False]),
            )
        if self.rows_first is None and self.monitor is not None:
            fits = [way for way, image in ways.items() if _fits(image.shape, self.monitor)]
            return ways[fits[0] if len(fits) == 1 else False]
        return ways[bool(self.rows_first)]


def _frame(data: h5py.Dataset, row: int) -> NDArray:
    return data[row]


def _fits(shape: tuple[int, int], monitor: tuple[int, int]) -> bool:
    try:
        check_aspect(shape, monitor)
    except DataError:
        return False
    return True


def read_stimuli(
    file: h5py.File, path: Path, choices: Mapping[str, Any], monitor: Shape
) -> tuple[dict[str, NDArray[np.uint8]], Table]:
    """Return the images that were shown, by content hash, and the trials.

    Parameters
    ----------
    choices : mapping
        `intervals`: name of the table of presentations, `images_rows_first`, `duration_s` of an
        image where the file has onsets alone.
    monitor : (int, int) or None
        Height and width of the monitor (px).

    Raises
    ------
    DataError
        If no presentations are found, several tables have some, or an image cannot be used.
    """
    templates = Templates(file, path, choices.get("images_rows_first"), monitor)
    if not templates.places:
        raise DataError(
            "holds no images",
            file=path,
            field="stimulus/templates",
            found=sorted(file.get("stimulus/templates", {})) or "nothing",
            expected="Images, or an ImageSeries (frame, x, y), of the images that were shown",
        )
    where, table = _presentations(file, path, choices)
    column = next(name for name in IMAGE_COLUMNS if name in table)
    place: dict[str, Any] = {"file": path, "field": f"{where}/{column}"}
    said = [templates.row(value, place) for value in table[column]]
    kept = [index for index, row in enumerate(said) if row is not None]
    rows = [row for row in said if row is not None]
    if not kept:
        raise DataError("no image was shown", **place, found=f"{len(said)} rows, all blank")
    hashes = {row: image_hash(templates.image(row)) for row in sorted(set(rows))}
    images = {name: templates.image(row) for row, name in hashes.items()}
    numbers = table.get("trial_idx", np.arange(len(said)))
    columns = {
        "trial_idx": Column("", np.asarray(numbers)[kept].astype(int)),
        "image": Column("", [hashes[row] for row in rows]),
        "start_time": Column("", np.asarray(table["start_time"], np.float64)[kept]),
        "stop_time": Column("", np.asarray(table["stop_time"], np.float64)[kept]),
    }
    if "blank_before_s" in table:
        blank = np.asarray(table["blank_before_s"], np.float64)
        columns["blank_before_s"] = Column("", blank[kept])
    return images, Table("trials", "", columns)


def _presentations(
    file: h5py.File, path: Path, choices: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return name and columns of the table that says which image was on when."""
    tables = {
        item.name: read_table(item, path)
        for item in of_type(file, "TimeIntervals")
        if {"start_time", "stop_time"} <= set(item)
    }
    fitting = {
        name: table for name, table in tables.items() if any(c in table for c in IMAGE_COLUMNS)
    }
    wanted = choices.get("intervals")
    if wanted is not None:
        fitting = {n: t for n, t in fitting.items() if wanted in (n, n.rsplit("/", 1)[-1])}
    if "/intervals/trials" in fitting:
        return "/intervals/trials", fitting["/intervals/trials"]
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    series = [item for item in of_type(file, "IndexSeries") if "data" in item]
    if not fitting and wanted is None and len(series) == 1:
        return series[0].name, _onsets(series[0], path, choices)
    raise DataError(
        "not exactly one table says which image was on when",
        file=path,
        field="nwb.intervals",
        found=sorted(fitting) or sorted(tables) or "none",
        expected=f"a TimeIntervals with one of the columns {IMAGE_COLUMNS}",
        remedy='name one: {"nwb": {"intervals": "..."}}' if fitting else None,
    )


def _onsets(series: h5py.Group, path: Path, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return presentations of an IndexSeries, which has no times at which images went off."""
    data = values(series["data"], path)
    where = {"file": path, "field": series.name}
    onset = series_times(series, len(data), path)
    duration = choices.get("duration_s")
    if not isinstance(duration, (int, float)) or not duration > 0:
        raise DataError(
            "onsets without offsets",
            **where,
            found=duration,
            expected="how long every image was on (s)",
            remedy='say it: {"nwb": {"duration_s": 0.5}}',
        )
    return {"image_index": data, "start_time": onset, "stop_time": onset + float(duration)}
