"""The file recording.json: what a bundle says of itself."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import DataError
from pipeline.jsonfile import read_object

FORMAT = "inception-recording/1"
EARLIEST = datetime.datetime(1990, 1, 1)
INT32 = 2**31 - 1
INT16 = 2**15 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Imaging(_Strict):
    """Entry `imaging` of recording.json."""

    files: list[str] = Field(default_factory=list)
    traces: str | None = None
    masks: str | None = None
    channel: int = Field(default=1, ge=1, le=16)
    um_per_px: tuple[float, float] | None = None

    @field_validator("um_per_px")
    @classmethod
    def _positive(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not all(0.01 <= size <= 100 for size in value):
            raise ValueError("two sizes of a pixel, 0.01 to 100 um")
        return value


class Monitor(_Strict):
    """Entry `monitor` of recording.json."""

    width_px: int = Field(ge=8, le=20000)
    height_px: int = Field(ge=8, le=20000)
    calibration: str = "monitor.csv"


class TreadmillWheel(_Strict):
    """Entry `treadmill` of recording.json."""

    diameter_cm: float = Field(gt=0, le=200)
    counts_per_rev: float = Field(gt=0)


class Recording(_Strict):
    """The file recording.json."""

    format: Literal["inception-recording/1"]
    animal_id: int = Field(ge=0, le=INT32)
    session: int = Field(ge=0, le=INT16)
    scan_idx: int = Field(ge=0, le=INT16)
    scan_ts: datetime.datetime
    rig: str = Field(min_length=1, max_length=64, pattern=r"^\w[\w .:/+()-]*$")
    brain_area: str = Field(default="unknown", max_length=32)
    depth_um: float | None = Field(default=None, ge=-2000, le=5000)
    imaging: Imaging
    indicator: str = Field(default="unknown", max_length=64)
    monitor: Monitor
    treadmill: TreadmillWheel | None = None
    plan: str | None = Field(default=None, max_length=64)

    @field_validator("scan_ts")
    @classmethod
    def _plausible(cls, value: datetime.datetime) -> datetime.datetime:
        value = value.replace(tzinfo=None, microsecond=0)
        if not EARLIEST < value < datetime.datetime.now() + datetime.timedelta(days=366):
            raise ValueError("a time of recording, after 1990 and not in the future")
        return value


def read_recording(path: Path) -> Recording:
    """Read and check recording.json.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    if not path.is_file():
        raise DataError("file is missing", file=path, expected="recording.json of a bundle")
    if path.stat().st_size > 1 << 20:
        raise DataError(
            "file is too large",
            file=path,
            found=f"{path.stat().st_size} bytes",
            expected="a short JSON document",
        )
    content = read_object(path)
    try:
        return Recording.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = first.get("input")
        found = None if first["type"] == "missing" else repr(given)[:80]
        raise DataError(
            "entry is not valid",
            file=path,
            field=place,
            found=found,
            expected=first["msg"].removeprefix("Value error, "),
        ) from None
