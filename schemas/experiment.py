"""Animals, sessions and scans, and the files that a rig handed over."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datajoint as dj
import numpy as np

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.stimulus.monitor import MonitorCurve

schema = dj.Schema()


@schema
class Mouse(dj.Manual):
    definition = """
    # Animal
    animal_id       : int32          # number of the animal
    ---
    genotype=''     : varchar(128)   # strain or cross
    date_of_birth=null : date        # day of birth
    mouse_notes=''  : varchar(2048)  # free text
    """


@schema
class Rig(dj.Lookup):
    definition = """
    # Microscope with its screen
    rig             : varchar(64)    # name of the rig
    ---
    rig_notes=''    : varchar(2048)  # free text
    """


@schema
class Session(dj.Manual):
    definition = """
    # One time in the rig
    -> Mouse
    session         : int16          # number of the session of this animal
    ---
    -> Rig
    session_date    : date           # day of the session
    """


@schema
class Scan(dj.Manual):
    definition = """
    # One two-photon recording, with the folder that the rig handed over
    -> Session
    scan_idx        : int16          # number of the scan within the session
    ---
    scan_ts         : datetime       # start of the scan (local time of the rig)
    brain_area      : varchar(32)    # area recorded from
    depth_um=null   : float64        # depth of the first field below the surface (um)
    indicator       : varchar(64)    # calcium indicator
    channel         : int16          # imaging channel with the indicator, counted from 1
    um_per_px_y=null : float64       # height of a pixel (um), overrides the TIFF header
    um_per_px_x=null : float64       # width of a pixel (um), overrides the TIFF header
    treadmill_diameter_cm=null : float64  # diameter of the treadmill (cm)
    treadmill_counts_per_rev=null : float64  # counts of the encoder per revolution (1)
    folder          : varchar(1024)  # folder of the recording
    bundle_hash     : char(64)       # SHA-256 over recording.json and the fingerprints of all files
    """

    class File(dj.Part):
        definition = """
        # Raw file, left where it is
        -> master
        file_kind   : varchar(32)    # tiff, traces, masks, frame_times, eye_video, pupil, ...
        file_idx    : int16          # order among files of this kind, from 0
        ---
        path        : varchar(1024)  # absolute path
        size_bytes  : int64          # size when ingested (bytes)
        fingerprint : char(64)       # SHA-256 of the content; of size, head and tail above 64 MiB
        """

    @classmethod
    def files(cls, key: dict[str, Any], kind: str) -> list[tuple[str, int]]:
        """Return (path, size) of the files of one kind, in order; empty if there is none."""
        rows = cls.File & {name: key[name] for name in cls.primary_key} & {"file_kind": kind}
        return [(r["path"], r["size_bytes"]) for r in rows.to_dicts(order_by="file_idx")]


def existing(files: list[tuple[str, int]]) -> list[str]:
    """Return the paths, after a check that every file is still what was ingested.

    Raises
    ------
    DataError
        If a file is gone, or its size has changed.
    """
    for path, size in files:
        if not Path(path).is_file():
            raise DataError(
                "raw file is gone", file=path, remedy="mount or restore the folder of the recording"
            )
        found = Path(path).stat().st_size
        if found != size:
            raise DataError(
                "raw file changed after ingest",
                file=path,
                found=f"{found} bytes",
                expected=f"{size} bytes",
            )
    return [path for path, _ in files]


HASHED_WHOLE_BYTES = 1 << 26
_PIECE_BYTES = 1 << 22


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and fingerprints.

    Of a file above 64 MiB only size, first and last 4 MiB count: movies take hours to read.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for item in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{item.relative_to(path).as_posix()}:{fingerprint(item)};".encode())
        return digest.hexdigest()
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= HASHED_WHOLE_BYTES:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
        else:
            digest.update(f"{size}:".encode())
            digest.update(stream.read(_PIECE_BYTES))
            stream.seek(-_PIECE_BYTES, 2)
            digest.update(stream.read(_PIECE_BYTES))
    return digest.hexdigest()


@schema
class MonitorCalibration(dj.Manual):
    definition = """
    # Measured luminance of the rig's monitor at the time of a scan
    -> Scan
    ---
    width_px        : int32          # width of the monitor (px)
    height_px       : int32          # height of the monitor (px)
    pixel_value     : json           # list of measured gray levels (0-255)
    luminance_cd_m2 : json           # list of their luminances (cd/m2)
    amplitude=null  : float64        # fit of amplitude * (px / 255)^gamma + offset (cd/m2)
    gamma=null      : float64        # (1) exponent of the fit
    offset=null     : float64        # (cd/m2) luminance at gray level 0 in the fit
    rmse=null       : float64        # (cd/m2) error of the fit; the curve used is the measured one
    """

    @classmethod
    def curve(cls, key: dict[str, Any]) -> MonitorCurve:
        """Return the measured curve of one scan."""
        return monitor_curve(*(cls & key).fetch1("pixel_value", "luminance_cd_m2"))


def monitor_curve(pixel_value: list[float], luminance_cd_m2: list[float]) -> MonitorCurve:
    """Return the curve of a calibration's columns."""
    from pipeline.stimulus.monitor import MonitorCurve

    return MonitorCurve(np.asarray(pixel_value, float), np.asarray(luminance_cd_m2, float))
