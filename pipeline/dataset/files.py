"""Read prepared data sets: one npz file, or the folder layout of the published static data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.npy import read_npy, read_npz

from .data import TIERS, Dataset
from .tiers import image_fraction

NPZ_FIELDS = ("images", "responses", "tiers", "image_id")
OPTIONAL_FIELDS = ("behavior", "pupil_center", "unit_ids", "um_xyz")
VALIDATION_FRACTION = 0.1  # of the training images, where a file labels none


def load(path: str | os.PathLike) -> Dataset:
    """Read a prepared data set.

    Parameters
    ----------
    path : path
        An npz file with `images` uint8 (trials, H, W), `responses` (trials, units), `tiers` and
        `image_id` (trials), and optionally `behavior` (trials, 3), `pupil_center` (trials, 2),
        `unit_ids`, `um_xyz` (units, 3); or one written by `Dataset.save`; or a folder with
        data/images/N.npy, data/responses/N.npy, meta/trials/tiers.npy and so on, as the
        published static data sets have it.

    Returns
    -------
    Dataset
        If no trial is labeled validation, a tenth of the training images is, by image.

    Raises
    ------
    DataError
        If a file or field is missing, unreadable, or does not fit the others.

    Examples
    --------
    >>> import tempfile
    >>> arrays = {
    ...     "images": np.arange(4 * 9 * 16, dtype=np.uint8).reshape(4, 9, 16),
    ...     "responses": np.ones((4, 2)),
    ...     "tiers": ["train", "train", "validation", "test"],
    ...     "image_id": ["a", "b", "c", "d"],
    ... }
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez(file.name, **arrays)
    ...     data = load(file.name)
    >>> data.n_trials, data.n_units, data.shape
    (4, 2, (9, 16))
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such file or folder", file=path)
    return _load_folder(path) if path.is_dir() else _load_npz(path)


def _load_npz(path: Path) -> Dataset:
    arrays = read_npz(path)
    missing = [name for name in NPZ_FIELDS if name not in arrays]
    if missing:
        raise DataError(
            "fields are missing", file=path, found=sorted(arrays), expected=list(NPZ_FIELDS)
        )
    images = arrays["images"]
    if "image_index" in arrays:
        index = arrays["image_index"]
    else:
        if images.ndim == 4 and images.shape[1] == 1:
            images = images[:, 0]
        if len(images) != len(arrays["responses"]):
            raise DataError(
                "one image a trial is needed",
                file=path,
                field="images",
                found=f"{len(images)} images, {len(arrays['responses'])} responses",
            )
        images, index = unique_images(images)
    optional = {name: arrays.get(name) for name in OPTIONAL_FIELDS}
    return _finish(
        path, images, index, arrays["image_id"], arrays["responses"], arrays["tiers"], optional
    )


def unique_images(images: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the distinct images in order of first appearance, and the index of each trial."""
    seen: dict[bytes, int] = {}
    index = np.array([seen.setdefault(image.tobytes(), len(seen)) for image in images], np.int64)
    first = np.unique(index, return_index=True)[1]
    return images[first], index


def _finish(
    path: Path,
    images: NDArray,
    index: NDArray,
    image_id: NDArray,
    responses: NDArray,
    tiers: NDArray,
    optional: dict[str, NDArray | None],
) -> Dataset:
    tiers = np.asarray(tiers)
    tiers = np.char.decode(tiers, "utf-8") if tiers.dtype.kind == "S" else tiers.astype(str)
    tiers = np.where(tiers == "val", "validation", tiers)
    if "train" in tiers and "validation" not in tiers:
        held = np.array([image_fraction(name, 0) < VALIDATION_FRACTION for name in image_id])
        tiers = np.where((tiers == "train") & held, "validation", tiers.astype("<U10"))
    try:
        return Dataset(images, index, image_id, responses, tiers, **optional)
    except DataError as error:
        raise DataError(str(error), file=path) from error


def _read_array(path: Path) -> NDArray:
    return read_npy(path)


def _trial_files(folder: Path, n_trials: int) -> list[Path]:
    files = [folder / f"{trial}.npy" for trial in range(n_trials)]
    absent = [file for file in files if not file.exists()]
    if absent:
        raise DataError("trial files are missing", file=absent[0], found=f"{len(absent)} missing")
    return files


def _load_folder(path: Path) -> Dataset:
    tiers_file = path / "meta" / "trials" / "tiers.npy"
    if not tiers_file.exists():
        raise DataError("not a published static data set", file=path, expected=tiers_file)
    tiers = _read_array(tiers_file).astype(str)
    used = np.flatnonzero(np.isin(tiers, TIERS))  # competition sets have tiers without responses
    if not len(used):
        raise DataError("unknown tiers", file=tiers_file, found=sorted(set(tiers)), expected=TIERS)

    def read(name: str, trials: NDArray) -> NDArray:
        files = _trial_files(path / "data" / name, len(tiers))
        arrays = [_read_array(files[trial]) for trial in trials]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise DataError("trials differ in shape", file=path / "data" / name, found=shapes)
        return np.stack(arrays)

    files = _trial_files(path / "data" / "images", len(tiers))
    seen: dict[bytes, int] = {}
    images: list[NDArray] = []
    index = np.empty(len(used), np.int64)
    for row, trial in enumerate(used):
        image = _read_array(files[trial])
        image = image[0] if image.ndim == 3 and image.shape[0] == 1 else image
        if image.ndim != 2:
            raise DataError(
                "only gray images are read", file=files[trial], found=f"shape {image.shape}"
            )
        index[row] = seen.setdefault(image.tobytes(), len(seen))
        if index[row] == len(images):
            images.append(image)
    stack = np.stack(images)
    if stack.dtype != np.uint8 and stack.min() >= 0 and stack.max() <= 255:
        whole = stack.astype(np.uint8)
        stack = whole if np.array_equal(whole, stack) else stack.astype(np.float32)
    optional: dict[str, NDArray | None] = dict.fromkeys(OPTIONAL_FIELDS)
    for name in ("behavior", "pupil_center"):
        if (path / "data" / name).is_dir():
            optional[name] = read(name, used).reshape(len(used), -1)
    neurons = path / "meta" / "neurons"
    for name, file in (("unit_ids", "unit_ids"), ("um_xyz", "cell_motor_coordinates")):
        if (neurons / f"{file}.npy").exists():
            optional[name] = _read_array(neurons / f"{file}.npy")
    ids_file = path / "meta" / "trials" / "frame_image_id.npy"
    ids = _read_array(ids_file)[used] if ids_file.exists() else index
    responses = read("responses", used).reshape(len(used), -1)
    return _finish(path, stack, index, ids, responses, tiers[used], optional)
