"""Animals, sessions and scans, and the files that a rig handed over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.errors import DataError, MachineError
from schemas.stored.digests import digest_of, digest_unless_known

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
        digest=null : varchar(64)    # blake2b of all content, checked when it is read
        modified_ns=null : int64     # when the file was written (ns since 1970), when ingested
        """

    @classmethod
    def files(cls, key: dict[str, Any], kind: str) -> list[RawFile]:
        """Return the files of one kind, in order; empty if there is none."""
        rows = cls.File & {name: key[name] for name in cls.primary_key} & {"file_kind": kind}
        return [
            RawFile(r["path"], r["size_bytes"], r["digest"], r["modified_ns"])
            for r in rows.to_dicts(order_by="file_idx")
        ]

    @classmethod
    def ingested_again(cls, key: dict[str, Any], folder: str, files: list[dict[str, Any]]) -> None:
        """Compare a recording with what was ingested of it, and note where it lies now.

        Parameters
        ----------
        key : dict
            The scan.
        folder : str
            Of the recording.
        files : list of dict
            Rows of `File` as of now.

        Raises
        ------
        DataError
            If a file has other content, though its fingerprint is the same.
        """
        names = cls.File.primary_key
        known = {tuple(row[n] for n in names): row for row in (cls.File & key).to_dicts()}
        moved = []
        for row in files:
            before = known[tuple(row[name] for name in names)]
            if before["digest"] not in (None, row["digest"]):
                raise changed(row["path"], row["digest"], before["digest"])
            if before["path"] == row["path"] or not Path(before["path"]).exists():
                moved += [row] if row != before else []
        with cls.connection.transaction:
            for row in moved:
                cls.File.update1(row)
            if any(known[tuple(r[n] for n in names)]["path"] != r["path"] for r in moved):
                cls.update1({**key, "folder": folder})


class RawFile(NamedTuple):
    """A raw file as it was when ingested; digest and time are None in rows of before they were."""

    path: str
    size_bytes: int
    digest: str | None = None
    modified_ns: int | None = None


def scan_name(key: Mapping[str, Any]) -> str:
    """Return what a person calls a scan: animal, session and number, such as `1/1/1`."""
    return "/".join(str(key[name]) for name in Scan.primary_key)


def raw_digest(path: Path) -> str:
    """Return the digest of all content of a file, or of a folder's names and files."""
    if not path.is_dir():
        return digest_unless_known(path)
    items = sorted(item for item in path.rglob("*") if item.is_file())
    named = [f"{i.relative_to(path).as_posix()}:{digest_unless_known(i)};" for i in items]
    return digest_of("".join(named).encode())


def changed(path: str, found: str, expected: str) -> DataError:
    """Return the error for a raw file that is not what was ingested."""
    return DataError(
        "raw file changed after ingest",
        file=path,
        found=found,
        expected=expected,
        remedy="put back the file that was ingested, or ingest this one as another scan",
    )


def existing(files: list[RawFile]) -> list[str]:
    """Return the paths, after a check that every file is still what was ingested.

    Content counts. Of a file above 64 MiB it is read again only where the time of writing is
    another than when it was ingested, once in a process.

    Raises
    ------
    DataError
        If a file is gone or changed; a `MachineError` if its folder is not there.
    """
    for path, size, digest, modified in files:
        if not Path(path).is_file():
            raise gone(Path(path))
        found = Path(path).stat().st_size
        if found != size:
            raise changed(path, f"{found} bytes", f"{size} bytes")
        untouched = found > HASHED_WHOLE_BYTES and Path(path).stat().st_mtime_ns == modified
        if digest is not None and not untouched and (now := raw_digest(Path(path))) != digest:
            raise changed(path, now, digest)
    return [file[0] for file in files]


def gone(path: Path) -> DataError:
    """Return the error for a raw file that is not there: of this machine if its folder is not."""
    folder = path.parent
    try:
        mounted = any(folder.iterdir())
    except OSError:
        mounted = False
    if mounted:
        return DataError(
            "raw file is gone", file=path, remedy="restore it from where the recording is kept"
        )
    return MachineError(
        "the folder of the recording is not there, or empty",
        file=path,
        remedy="mount it on this machine; if it was moved: inception relocate OLD NEW",
    )


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
