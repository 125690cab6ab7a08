"""Columns of a package's tables, and whether tables and images agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.stimulus.images import image_hash
from pipeline.stimulus.kinds import stimulus_name
from pipeline.stimulus.monitor import MonitorCurve

TRIAL_COLUMNS = ["trial_idx", "image", "duration_s", "blank_before_s"]
IMAGE_COLUMNS = [
    "image",
    "kind",
    "variant",
    "session",
    "scan_idx",
    "field",
    "unit_id",
    "mean_cd_m2",
    "sd_cd_m2",
    "clipped_fraction",
    "predicted",
]
UNIT_COLUMNS = ["session", "scan_idx", "field", "unit_id", "y_px", "x_px"]
KEY_COLUMNS = ("session", "scan_idx", "field", "unit_id")


def as_table(
    frame: pd.DataFrame, columns: list[str], name: str, optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a table in the order of the format, with whole-number keys; more columns follow.

    Raises
    ------
    DataError
        If a column is missing that is not optional (those are left empty).
    """
    missing = [c for c in columns if c not in frame and c not in optional]
    if missing:
        raise DataError(f"columns {missing} are missing", file=name, found=list(frame.columns))
    frame = frame.assign(**{column: None for column in optional if column not in frame})
    if "variant" in columns:
        frame["variant"] = variants(frame["variant"], name)
    for key in (c for c in KEY_COLUMNS if c in columns):  # 3, not 3.0, beside empty cells
        frame[key] = pd.to_numeric(frame[key]).astype("Int64")
    return frame[[*columns, *(c for c in frame.columns if c not in columns)]]


def variants(column: pd.Series, name: str) -> pd.Series:
    """Return the column `variant` as whole numbers; an empty cell is the first image of its kind.

    Raises
    ------
    DataError
        If a cell is no whole number from 0 on.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    given = column.notna()
    wrong = given & ~((numbers >= 0) & (numbers % 1 == 0))
    if wrong.any():
        raise DataError(
            "variant is no number of an image",
            file=name,
            field="variant",
            found=column[wrong].iloc[0],
            expected="0, 1, ...",
        )
    return numbers.where(given, 0).astype(np.int64)


def check_images(images: Mapping[str, NDArray], monitor: Mapping[str, Any]) -> None:
    """Refuse images that are not uint8, of one size, of the monitor's shape and rightly named."""
    if not images:
        raise DataError("a package needs at least one image")
    shapes = {np.shape(image) for image in images.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise DataError("images must be one size, (H, W)", found=sorted(shapes))
    missing = [key for key in ("width_px", "height_px") if key not in monitor]
    if missing:
        raise DataError("monitor without its size", field="monitor", expected=missing)
    height, width = next(iter(shapes))
    if abs(width / height / (monitor["width_px"] / monitor["height_px"]) - 1) > 0.01:
        raise DataError(
            "images have not the monitor's aspect ratio",
            found=f"{width} x {height}",
            expected=f"{monitor['width_px']} x {monitor['height_px']} or a fraction of it",
        )
    for name, image in images.items():
        if np.asarray(image).dtype != np.uint8:
            raise DataError("images must be uint8", field=name, found=np.asarray(image).dtype)
        if (pixels := image_hash(image)) != name:
            raise DataError("an image is not what its name says", field=name, found=pixels)


def check_tables(
    trials: pd.DataFrame, images_table: pd.DataFrame, units_table: pd.DataFrame, images: set[str]
) -> None:
    """Refuse tables that name images or units which the others do not have."""
    if not len(trials):
        raise DataError("a package needs at least one trial")
    if unknown := sorted(set(trials["image"]) - images):
        raise DataError(f"{len(unknown)} images of trials are missing", found=unknown[0])
    if trials["trial_idx"].duplicated().any():
        raise DataError("trial_idx is not unique", file="trials.csv")
    if unlisted := sorted(set(trials["image"]) - set(images_table["image"])):
        raise DataError(f"{len(unlisted)} images have no row in images.csv", found=unlisted[0])
    keys = units_table[list(KEY_COLUMNS)]
    if keys.duplicated().any():
        raise DataError(
            "a unit has two rows", file="units.csv", found=dict(keys[keys.duplicated()].iloc[0])
        )
    of_units = images_table.dropna(subset=["unit_id"])
    uses = of_units[["kind", "variant", *KEY_COLUMNS]]
    if uses.duplicated().any():
        raise DataError(
            "a unit has two images of one kind and variant",
            file="images.csv",
            found=dict(uses[uses.duplicated()].iloc[0]),
            remedy="number them by variant: 0, 1, ...",
        )
    named = of_units[list(KEY_COLUMNS)].drop_duplicates()
    known = set(map(tuple, keys.itertuples(index=False)))
    if foreign := [key for key in map(tuple, named.itertuples(index=False)) if key not in known]:
        raise DataError(
            "an image belongs to a unit that units.csv does not list",
            file="images.csv",
            found=dict(zip(KEY_COLUMNS, foreign[0], strict=True)),
        )


def blank_pixel(
    trials: pd.DataFrame, images: Mapping[str, NDArray[np.uint8]], curve: MonitorCurve | None
) -> int:
    """Return the gray of the blanks: the mean luminance of the images, as often as they are shown.

    Without a calibration it is their mean gray level.
    """
    names, counts = np.unique(trials["image"].to_numpy(str), return_counts=True)
    table = np.arange(256.0) if curve is None else curve.table
    light = np.average([table[images[name]].mean() for name in names], weights=counts)
    return int(np.rint(light if curve is None else curve.to_pixel(light)))


def luminance_of(images_table: pd.DataFrame) -> dict[str, dict]:
    """Mean and spread of what each kind and variant puts on the monitor, by name of stimulus."""
    result = {}
    for (kind, variant), rows in images_table.groupby(["kind", "variant"], sort=True):
        mean, sd, clipped = (
            pd.to_numeric(rows[c]).dropna().to_numpy(float)
            for c in ("mean_cd_m2", "sd_cd_m2", "clipped_fraction")
        )
        result[stimulus_name(str(kind), int(variant))] = {
            "n": len(rows),
            "mean_cd_m2": _range(mean),
            "sd_cd_m2": _range(sd),
            "clipped_fraction_max": None if not len(clipped) else round(float(clipped.max()), 6),
        }
    return result


def _range(values: NDArray) -> list[float] | None:
    return None if not len(values) else [round(float(v), 4) for v in (values.min(), values.max())]
