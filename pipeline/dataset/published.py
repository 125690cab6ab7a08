"""The published static data sets: a folder or its zip, or the older HDF5 file."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.npy import most_bytes, read_member, read_npy

from .data import TIERS

TIERS_FILE = "meta/trials/tiers.npy"
# tiers of competitions, whose responses are not public, and trials that belong to none
HIDDEN = ("live_test", "final_test", "none")
IDS = ("frame_image_id", "condition_hash", "image_id")
CLASS = "frame_image_class"


@dataclass
class Content:
    """What a file or folder holds, as `Dataset` takes it; `findings` say what was left out."""

    images: NDArray
    image_index: NDArray
    image_id: NDArray
    responses: NDArray
    tiers: NDArray
    optional: dict[str, NDArray | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Layout:
    """Arrays of a data set by their path within it, in a folder or a zip file."""

    def __init__(self, path: Path, names: set[str], read: Callable[[str], NDArray]) -> None:
        self.path, self.names, self._read = path, names, read

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def where(self, name: str) -> Path:
        """Return the place of an array, for messages."""
        return self.path / name

    def read(self, name: str) -> NDArray:
        """Return one array."""
        return self._read(name)


def open_folder(path: Path) -> Layout:
    """Return the arrays of a folder, which may be the one that holds it."""
    root = path
    if not (path / TIERS_FILE).exists():
        inner = sorted(path.glob(f"*/{TIERS_FILE}"))
        if len(inner) != 1:
            _check_one([str(one.parents[2].name) for one in inner], path)
        root = inner[0].parents[2]
    names = {f.relative_to(root).as_posix() for f in root.rglob("*.npy")}
    return Layout(root, names, lambda name: read_npy(root / name))


def open_zip(path: Path) -> Layout | None:
    """Return the arrays of a zip file of a published folder, None if it is something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except Exception:  # zipfile raises anything; the npz reader says it is no zip
        return None
    roots = [n[: -len(TIERS_FILE)] for n in members if f"/{n}".endswith(f"/{TIERS_FILE}")]
    if not roots:
        return None
    if len(roots) > 1:
        _check_one(sorted(PurePosixPath(root).name for root in roots), path)
    root = roots[0]
    own = {n[len(root) :] for n in members if n.startswith(root) and n.endswith(".npy")}
    size = sum(members[root + name].file_size for name in own)
    most = most_bytes(path.stat().st_size)
    if size > most:
        raise DataError(
            "holds far more than a data set", file=path, found=f"{size} bytes", expected=most
        )
    archive = zipfile.ZipFile(path)  # closed with the layout
    return Layout(path, own, lambda name: read_member(archive, root + name, path))


def _check_one(found: list[str], path: Path) -> None:
    if found:
        raise DataError(
            "holds several data sets",
            file=path,
            found=found[:6],
            expected="one",
            remedy="give the folder of one",
        )
    raise DataError("not a published static data set", file=path, expected=path / TIERS_FILE)


def read_layout(layout: Layout) -> Content:
    """Read a data set of one file a trial.

    Raises
    ------
    DataError
        If an array is missing, unreadable, or does not fit the others; if it holds videos.
    """
    tiers_file = layout.where(TIERS_FILE)
    tiers = plain_tiers(layout.read(TIERS_FILE), tiers_file)
    findings: list[Finding] = []
    if any(n.startswith("data/videos/") for n in layout.names):
        raise DataError(
            "holds videos",
            file=layout.where("data/videos"),
            expected="data/images: a static data set",
            remedy="give its images and the responses to each, without time",
        )
    trials = _trial_numbers(layout, "images")
    if not trials or max(trials) + 1 != len(tiers):
        raise DataError(
            "tiers do not fit the trials",
            file=tiers_file,
            found=f"{len(tiers)} tiers",
            expected=f"{max(trials, default=-1) + 1}, one for every file of data/images",
        )
    used = _used_trials(layout, tiers, findings)

    def each(name: str) -> NDArray:
        return _stacked(layout, name, used)

    seen: dict[bytes, int] = {}
    images: list[NDArray] = []
    index = np.empty(len(used), np.int64)
    for row, trial in enumerate(used):
        name = f"data/images/{trial}.npy"
        if name not in layout:
            raise DataError("trial files are missing", file=layout.where(name))
        image = layout.read(name)
        image = image[0] if image.ndim == 3 and image.shape[0] == 1 else image
        if image.ndim != 2 or image.dtype.kind not in "biuf":
            raise DataError(
                "only gray images are read", file=layout.where(name), found=f"shape {image.shape}"
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                "images differ in size",
                file=layout.where(name),
                found=image.shape,
                expected=images[0].shape,
            )
        index[row] = seen.setdefault(image.tobytes(), len(seen))
        if index[row] == len(images):
            images.append(image)
    optional: dict[str, NDArray | None] = {}
    for name in ("behavior", "pupil_center"):
        if _trial_numbers(layout, name):
            optional[name] = each(name).reshape(len(used), -1)
    for name, file in (("unit_ids", "unit_ids"), ("um_xyz", "cell_motor_coordinates")):
        if f"meta/neurons/{file}.npy" in layout:
            optional[name] = layout.read(f"meta/neurons/{file}.npy")
    ids = _ids(layout, len(tiers))
    return Content(
        whole_levels(np.stack(images)),
        index,
        index if ids is None else ids[used],
        each("responses").reshape(len(used), -1),
        tiers[used],
        optional,
        findings,
    )


def plain_tiers(tiers: NDArray, file: Path) -> NDArray[np.str_]:
    """Return tiers as text; DataError if they are none."""
    if tiers.ndim != 1 or tiers.dtype.kind not in "SU":
        raise DataError(
            "are no names of tiers", file=file, found=f"{tiers.shape} {tiers.dtype}", expected=TIERS
        )
    try:
        return np.char.decode(tiers, "utf-8") if tiers.dtype.kind == "S" else tiers
    except UnicodeDecodeError as error:
        raise DataError("are no names of tiers", file=file, found=error, expected=TIERS) from error


def known_tiers(tiers: NDArray[np.str_], file: Path, findings: list[Finding]) -> NDArray[np.bool_]:
    """Return which trials are of a tier that is used; DataError for tiers that nobody knows."""
    known = np.isin(tiers, (*TIERS, "val"))
    hidden = np.array([str(tier).startswith(HIDDEN) or not tier for tier in tiers], bool)
    unknown = sorted(set(tiers[~known & ~hidden]))
    if unknown or not known.any():
        raise DataError(
            "unknown tiers",
            file=file,
            found=unknown[:6] or sorted(set(tiers))[:6],
            expected=list(TIERS),
        )
    for tier, count in sorted(Counter(tiers[~known].tolist()).items()):
        text = f"{count} trials of tier {tier or 'none'!r} are left out"
        findings.append(Finding("trials-left-out", text))
    return known


def _trial_numbers(layout: Layout, name: str) -> set[int]:
    stems = (PurePosixPath(n) for n in layout.names if n.startswith(f"data/{name}/"))
    return {int(one.stem) for one in stems if one.stem.isdecimal() and len(one.parts) == 3}


def _used_trials(layout: Layout, tiers: NDArray, findings: list[Finding]) -> NDArray[np.intp]:
    """Return the trials of known tiers; a test tier without any response is hidden, too."""
    known = known_tiers(tiers, layout.where(TIERS_FILE), findings)
    there = _trial_numbers(layout, "responses")
    has = np.array([trial in there for trial in range(len(tiers))])
    test = known & (tiers == "test")
    if test.any() and not has[test].any() and has[known].any():
        text = f"{test.sum()} trials of tier 'test' have no responses and are left out"
        findings.append(Finding("trials-left-out", text))
        known &= ~test
    return np.flatnonzero(known)


def _stacked(layout: Layout, name: str, trials: NDArray) -> NDArray:
    """Return one array a trial as one; all must have one shape."""
    arrays = []
    for trial in trials:
        file = f"data/{name}/{trial}.npy"
        if file not in layout:
            raise DataError("trial files are missing", file=layout.where(file))
        arrays.append(layout.read(file))
        if arrays[-1].shape != arrays[0].shape or arrays[-1].dtype.kind not in "biuf":
            raise DataError(
                "trials differ in shape" if arrays[-1].dtype.kind in "biuf" else "no numbers",
                file=layout.where(file),
                found=f"{arrays[-1].shape} {arrays[-1].dtype}",
                expected=arrays[0].shape,
            )
    return np.stack(arrays)


def _ids(layout: Layout, trials: int) -> NDArray | None:
    """Return the name of the image on every trial, with its class; None if there is none."""
    for name in IDS:
        file = f"meta/trials/{name}.npy"
        if file in layout:
            return named(layout.read(file), _class(layout), trials, layout.where(file))
    return None


def _class(layout: Layout) -> NDArray | None:
    file = f"meta/trials/{CLASS}.npy"
    return layout.read(file) if file in layout else None


def named(ids: NDArray, kinds: NDArray | None, trials: int, file: Path) -> NDArray:
    """Return ids; with the class before them where there are several classes of images."""
    if ids.shape != (trials,):
        raise DataError("ids do not fit the trials", file=file, found=ids.shape, expected=(trials,))
    if kinds is None or kinds.shape != (trials,) or len(np.unique(kinds)) < 2:
        return ids
    return np.array([f"{kind}/{one}" for kind, one in zip(as_text(kinds), as_text(ids))])  # noqa: B905


def as_text(values: NDArray) -> list[str]:
    """Return bytes or other values as text."""
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def whole_levels(images: NDArray) -> NDArray:
    """Return images as uint8 if they are whole gray levels 0-255, else as they are."""
    if images.dtype != np.uint8 and images.dtype.kind in "iuf" and images.size:
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            return images
        if images.min() >= 0 and images.max() <= 255:
            whole = images.astype(np.uint8)
            return whole if np.array_equal(whole, images) else images.astype(np.float32)
    return images


def read_hdf5(path: Path) -> Content:
    """Read the older format: all trials in arrays of one HDF5 file (extra `nwb`, for h5py).

    Raises
    ------
    DataError
        If it is none, or an array does not fit the others.
    """
    from pipeline.imaging.adapters.hdf5 import open_hdf5, whole  # costs half a second

    with open_hdf5(path) as file:

        def get(*names: str) -> Any:
            found = [file[n] for n in names if n in file and hasattr(file[n], "dtype")]
            return whole(found[0]) if found else None

        try:
            arrays = {n: get(n) for n in ("images", "responses", "tiers")}
            missing = [name for name, array in arrays.items() if array is None]
            if missing:
                raise DataError(
                    "is an HDF5 file without a static data set",
                    file=path,
                    found=sorted(file)[:12],
                    expected="images, responses and tiers",
                    remedy="see docs/formats.md for the arrays that an npz file needs",
                )
            ids = get(*IDS, *(f"item_info/{name}" for name in IDS), "condition_hashes")
            kinds = get(CLASS, "image_class", f"item_info/{CLASS}")
            optional = {
                "behavior": get("behavior"),
                "pupil_center": get("pupil_center"),
                "unit_ids": get("neurons/unit_ids", "unit_ids"),
                "um_xyz": get("neurons/cell_motor_coordinates", "cell_motor_coordinates"),
            }
        except DataError:
            raise
        except Exception as error:  # of damaged files h5py raises anything
            raise DataError("cannot be read", file=path, found=str(error)[:200]) from error
    tiers = arrays["tiers"]
    if tiers.dtype.kind == "O":
        tiers = np.array(as_text(np.ravel(tiers)))
    tiers, findings = plain_tiers(tiers, path), list[Finding]()
    used = np.flatnonzero(known_tiers(tiers, path, findings))
    for name in ("images", "responses", "behavior", "pupil_center"):
        array = arrays.get(name) if name in arrays else optional[name]
        if array is not None and (array.ndim < 2 or len(array) != len(tiers)):
            raise DataError(
                "does not fit the tiers",
                file=path,
                field=name,
                found=array.shape,
                expected=f"({len(tiers)} trials, ...)",
            )
        if array is not None and name not in arrays:
            optional[name] = array[used]
    images = arrays["images"]
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if images.ndim != 3:
        raise DataError("only gray images are read", file=path, found=f"shape {images.shape}")
    if ids is not None:
        ids = np.array(as_text(ids)) if ids.dtype.kind in "SO" else ids
        ids = named(ids, kinds, len(tiers), path)[used]
    unique, index = unique_images(images[used])
    ids = index if ids is None else ids
    responses = arrays["responses"][used]
    return Content(whole_levels(unique), index, ids, responses, tiers[used], optional, findings)


def unique_images(images: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the distinct images in order of first appearance, and the index of each trial."""
    seen: dict[bytes, int] = {}
    index = np.array([seen.setdefault(image.tobytes(), len(seen)) for image in images], np.int64)
    first = np.unique(index, return_index=True)[1]
    return images[first], index
