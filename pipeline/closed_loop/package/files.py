"""The package for the rig: what is shown on day 2, in files that other programs read.

::

    manifest.json   what, for whom, and the SHA-256 of every file
    trials.csv      trial_idx,image,duration_s,blank_before_s
    images/         <image>.png, 8-bit gray; the name is the hash of the pixels
    images.csv      image,kind,variant,session,scan_idx,field,unit_id,mean_cd_m2,sd_cd_m2,...
    units.csv       session,scan_idx,field,unit_id,y_px,x_px
    photodiode.csv  trial_idx,pixel_value of the square in the corner during every image
    monitor.csv     the calibration that the images were made for
    player.py       shows the package; needs nothing of this project
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.closed_loop.package.contents import (
    IMAGE_COLUMNS,
    TRIAL_COLUMNS,
    UNIT_COLUMNS,
    as_table,
    blank_pixel,
    check_images,
    check_tables,
    luminance_of,
    variants,
)
from pipeline.closed_loop.package.manifest import (
    FORMAT,
    IGNORED,
    REMEDY,
    manifest_digest,
    opened,
    read_manifest,
    verify_files,
)
from pipeline.closed_loop.package.photodiode import LEVELS, expected_pattern
from pipeline.errors import DataError
from pipeline.files import sha256_of
from pipeline.stimulus.images import read_png, write_png
from pipeline.stimulus.monitor import MonitorCurve


@dataclass(frozen=True)
class Package:
    """A package in memory.

    Attributes
    ----------
    plan_id, animal_id, source, monitor, seed : as written, see `write_package`
    trials, images_table, units_table : DataFrame
    images : dict of content hash to array of uint8, shape (H, W)
    curve : MonitorCurve or None
    manifest : dict
        Everything in manifest.json.
    """

    plan_id: str
    animal_id: int
    source: list[dict]
    monitor: dict
    seed: int
    trials: pd.DataFrame
    images: dict[str, NDArray[np.uint8]]
    images_table: pd.DataFrame
    units_table: pd.DataFrame
    curve: MonitorCurve | None
    manifest: dict


def write_package(
    folder: str | os.PathLike,
    *,
    plan_id: str,
    animal_id: int,
    source: Sequence[Mapping[str, Any]],
    monitor: Mapping[str, Any],
    curve: MonitorCurve | None,
    seed: int,
    trials: pd.DataFrame,
    images: Mapping[str, NDArray[np.uint8]],
    images_table: pd.DataFrame,
    units_table: pd.DataFrame,
    extra: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Path:
    """Write a package: a folder, or one zip file if the name ends in ``.zip``.

    Everything is written beside the goal and moved there at the end: a package is whole or not
    there at all. One that is there already and unchanged stays, with what the rig put beside it.

    Parameters
    ----------
    folder : path
        Must not exist, or be an earlier package of the same plan.
    plan_id : str
        Name of the plan, which the rig repeats in its recording.json.
    source : list of dict
        `{"session": ..., "scan_idx": ...}` of the scans that the units come from.
    monitor : dict
        `width_px, height_px` and what else describes it.
    curve : MonitorCurve, optional
        Calibration that the images were made for; written to monitor.csv, digest in the manifest.
    trials : DataFrame
        `trial_idx, image, duration_s, blank_before_s`, in order of presentation.
    images : mapping of content hash to array of uint8, shape (H, W)
    images_table : DataFrame
        `image, kind` and, where known, the other columns of `IMAGE_COLUMNS`. An image that serves
        several units has several rows. `variant` (default 0) numbers a unit's images of one kind.
    units_table : DataFrame
        `UNIT_COLUMNS`: centroid in the motion-corrected mean image.
    extra : dict, optional
        More entries of the manifest (what was left out, analysis plan, versions).
    replace : bool
        Take the place of another plan's package, too.

    Raises
    ------
    DataError
        If the tables contradict each other, an image is not what its name says, or `folder` holds
        something else: no package, that of another plan, or a rig's log that would be lost.
    """
    goal = Path(folder)
    trials = as_table(trials, TRIAL_COLUMNS, "trials.csv")
    images_table = as_table(images_table, IMAGE_COLUMNS, "images.csv", optional=IMAGE_COLUMNS[2:])
    units_table = as_table(units_table, UNIT_COLUMNS, "units.csv")
    check_images(images, monitor)
    check_tables(trials, images_table, units_table, set(images))
    _check_goal(goal, str(plan_id), replace)
    goal.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{goal.name}-", dir=goal.parent) as temporary:
        work = Path(temporary) / "package"
        (work / "images").mkdir(parents=True)
        for name in sorted(images):
            write_png(work / "images" / f"{name}.png", np.ascontiguousarray(images[name]))
        for table, name in (
            (trials[TRIAL_COLUMNS], "trials.csv"),
            (images_table, "images.csv"),
            (units_table, "units.csv"),
            (expected_pattern(trials), "photodiode.csv"),
        ):
            table.to_csv(work / name, index=False, lineterminator="\n", encoding="utf-8")
        if curve is not None:
            curve.write_csv(work / "monitor.csv")
        shutil.copyfile(Path(__file__).with_name("player.py"), work / "player.py")
        height, width = next(iter(images.values())).shape
        manifest = {
            **(extra or {}),
            "format": FORMAT,
            "plan": str(plan_id),
            "animal_id": int(animal_id),
            "source": [{key: _plain(value) for key, value in row.items()} for row in source],
            "monitor": {
                "blank_pixel": blank_pixel(trials, images, curve),
                **{key: _plain(value) for key, value in monitor.items()},
                "calibration": None if curve is None else "monitor.csv",
                "calibration_digest": None if curve is None else curve.digest(),
            },
            "seed": int(seed),
            "image_size": {"height_px": height, "width_px": width},
            "n_trials": len(trials),
            "n_images": len(images),
            "n_units": len(units_table),
            "total_s": round(float((trials.duration_s + trials.blank_before_s).sum()), 3),
            "luminance": luminance_of(images_table),
            "photodiode": LEVELS,
            "files": {name: sha256_of(work / name) for name in _files(work)},
        }
        manifest["digest"] = manifest_digest(manifest)
        text = json.dumps(manifest, indent=1, allow_nan=False)
        (work / "manifest.json").write_text(text + "\n", encoding="utf-8")
        _sync(work)
        if _is_there(goal, manifest):
            return goal
        if goal.suffix == ".zip":
            packed = Path(temporary) / "package.zip"
            _zip(work, packed)
            os.replace(packed, goal)
        else:
            if goal.exists():  # an earlier package of this plan, as _check_goal saw
                os.replace(goal, Path(temporary) / "old")
            os.replace(work, goal)
    return goal


def read_package(folder: str | os.PathLike, *, verify: bool = True) -> Package:
    """Read a package, folder or zip; refuse one that is not what was written.

    Raises
    ------
    DataError
        As `verify_package`.
    """
    with opened(folder) as root:
        manifest = read_manifest(root, name=str(folder))
        if verify:
            verify_files(root, manifest, name=str(folder))
        tables = [
            _read_table(root / name, column, name=str(folder))
            for name, column in (
                ("trials.csv", "image"),
                ("images.csv", "image"),
                ("units.csv", None),
            )
        ]
        if "variant" not in tables[1]:  # written when a unit had one image of a kind
            tables[1].insert(2, "variant", 0)
        tables[1]["variant"] = variants(tables[1]["variant"], "images.csv")
        images = {
            name: read_png(root / "images" / f"{name}.png")
            for name in dict.fromkeys(tables[0]["image"])
        }
        for path in sorted((root / "images").glob("*.png")):
            if path.stem not in images:
                images[path.stem] = read_png(path)
        calibration = root / "monitor.csv"
        curve = MonitorCurve.read_csv(calibration) if calibration.is_file() else None
    return Package(
        plan_id=manifest["plan"],
        animal_id=manifest["animal_id"],
        source=manifest["source"],
        monitor=manifest["monitor"],
        seed=manifest["seed"],
        trials=tables[0],
        images=images,
        images_table=tables[1],
        units_table=tables[2],
        curve=curve,
        manifest=manifest,
    )


def _read_table(path: Path, column: str | None, *, name: str) -> pd.DataFrame:
    """Read a table of a package; names of images in it stay in their folder."""
    try:
        table = pd.read_csv(path, dtype={"image": str, "kind": str})
    except (OSError, ValueError) as error:  # no UTF-8, ragged or empty, too
        raise DataError(
            "is no table", file=name, field=path.name, found=str(error)[:200], remedy=REMEDY
        ) from error
    if column is not None and column not in table:
        raise DataError(
            "lacks a column", file=name, field=path.name, found=list(table)[:20], expected=column
        )
    for image in table[column].unique() if column is not None else ():
        if not isinstance(image, str) or Path(image).name != image:
            raise DataError(
                "is no name of an image", file=name, field=path.name, found=ascii(image)[:100]
            )
    return table


def verify_package(
    folder: str | os.PathLike,
    *,
    plan_id: str | None = None,
    animal_id: int | None = None,
    calibration_digest: str | None = None,
) -> dict:
    """Check that a package is whole, unchanged and, if asked, the expected one.

    Parameters
    ----------
    folder : path
        Folder or zip file.
    plan_id, animal_id, calibration_digest : optional
        What the package must be for.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    DataError
        One line: what was edited, is missing, was added, or is of another plan, animal or monitor.
    """
    with opened(folder) as root:
        manifest = read_manifest(root, name=str(folder))
        verify_files(root, manifest, name=str(folder))
    expected = {"plan": plan_id, "animal_id": animal_id}
    for key, value in expected.items():
        if value is not None and manifest[key] != value:
            raise DataError(
                f"package of another {key.removesuffix('_id')}",
                file=folder,
                found=manifest[key],
                expected=value,
            )
    digest = manifest["monitor"].get("calibration_digest")
    if calibration_digest is not None and digest != calibration_digest:
        raise DataError(
            "package was made for another monitor calibration",
            file=folder,
            found=digest,
            expected=calibration_digest,
            remedy="write the package again with this calibration",
        )
    return manifest


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_goal(goal: Path, plan_id: str, replace: bool) -> None:
    if not goal.exists() or (goal.is_dir() and not any(goal.iterdir())):
        return
    try:
        with opened(goal) as root:
            earlier = read_manifest(root, name=str(goal))["plan"]
    except DataError as error:
        raise DataError(
            "exists and is no package", file=goal, remedy="give a new folder"
        ) from error
    if earlier != plan_id and not replace:
        raise DataError(
            "holds the package of another plan",
            file=goal,
            found=earlier,
            expected=plan_id,
            remedy="give a new folder, or --replace (in Python replace=True)",
        )


def _is_there(goal: Path, manifest: Mapping[str, Any]) -> bool:
    """Tell whether a goal is this package already; refuse to lose what lies beside another."""
    if not goal.exists() or (goal.is_dir() and not any(goal.iterdir())):
        return False
    with opened(goal) as root:
        earlier = read_manifest(root, name=str(goal))
        try:
            verify_files(root, earlier, name=str(goal))
        except DataError:  # damaged: it is written again
            whole = False
        else:
            whole = earlier["digest"] == manifest["digest"]
        beside = set(_files(root)) - {"manifest.json", *earlier["files"]} if not whole else ()
        lost = sorted(f for f in beside if not _left_by_programs(f) and not f.startswith("images/"))
    if lost:
        raise DataError(
            f"{len(lost)} files beside the package would be lost",
            file=goal,
            found=lost[0],
            remedy="move them elsewhere, or give a new folder",
        )
    return whole


def _left_by_programs(file: str) -> bool:
    return "__pycache__" in file or file.rpartition("/")[2] in IGNORED


def _files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def _sync(root: Path) -> None:
    """Put the files on the disk before the folder gets its name."""
    for name in _files(root):
        with (root / name).open("rb") as file:
            os.fsync(file.fileno())


def _zip(root: Path, goal: Path) -> None:
    with zipfile.ZipFile(goal, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _files(root):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # same bytes each time
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (root / name).read_bytes())
