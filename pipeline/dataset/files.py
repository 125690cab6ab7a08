"""Read prepared data sets: one npz file, or the published static data as they are downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Finding
from pipeline.npy import check_regular, read_npz

from .checks import check_gray_levels
from .data import Dataset
from .published import (
    Content,
    known_tiers,
    open_folder,
    open_zip,
    plain_tiers,
    read_hdf5,
    read_layout,
    unique_images,
)
from .tiers import image_fraction

NPZ_FIELDS = ("images", "responses", "tiers", "image_id")
OPTIONAL_FIELDS = ("behavior", "pupil_center", "unit_ids", "um_xyz")
VALIDATION_FRACTION = 0.1  # of the training images, where a file labels none
_HDF5 = b"\x89HDF\r\n\x1a\n"


def load(path: str | os.PathLike) -> Dataset:
    """Read a prepared data set.

    Parameters
    ----------
    path : path
        An npz file with `images` uint8 (trials, H, W), `responses` (trials, units), `tiers` and
        `image_id` (trials), and optionally `behavior` (trials, 3), `pupil_center` (trials, 2),
        `unit_ids`, `um_xyz` (units, 3); or one written by `Dataset.save`; or a folder, or its zip
        file, with data/images/N.npy, data/responses/N.npy, meta/trials/tiers.npy and so on, as
        the published static data sets have it; or their older HDF5 file.

    Returns
    -------
    Dataset
        If no trial is labeled validation, a tenth of the training images is, by image. `findings`
        say what of the file was left out.

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
    if path.is_dir():
        return _finish(path, read_layout(open_folder(path)), shown=True)
    check_regular(path)
    with path.open("rb") as stream:
        begin = stream.read(8)
    if begin == _HDF5:
        return _finish(path, read_hdf5(path), shown=True)
    if (layout := open_zip(path)) is not None:
        return _finish(path, read_layout(layout), shown=True)
    found, saved = _read_npz(path)
    return _finish(path, found, shown=not saved)


def _read_npz(path: Path) -> tuple[Content, bool]:
    """Return the arrays of an npz file, and whether `Dataset.save` wrote it."""
    arrays = read_npz(path)
    missing = [name for name in NPZ_FIELDS if name not in arrays]
    if missing:
        raise DataError(
            "fields are missing",
            file=path,
            field=", ".join(missing),
            found=sorted(arrays)[:12],
            expected=list(NPZ_FIELDS),
        )
    images, responses = arrays["images"], arrays["responses"]
    if "image_index" in arrays:
        index = arrays["image_index"]
    else:
        if images.ndim == 4 and images.shape[1] == 1:
            images = images[:, 0]
        if images.ndim != 3 or responses.ndim != 2 or len(images) != len(responses):
            raise DataError(
                "one image a trial is needed",
                file=path,
                field="images",
                found=f"images {images.shape}, responses {responses.shape}",
                expected="(trials, H, W) and (trials, units)",
            )
        images, index = unique_images(images)
    tiers = plain_tiers(arrays["tiers"], path)
    findings: list[Finding] = []
    known_tiers(tiers, path, findings)
    optional = {name: arrays.get(name) for name in OPTIONAL_FIELDS}
    found = Content(images, index, arrays["image_id"], responses, tiers, optional, findings)
    return found, "image_index" in arrays


def _finish(path: Path, found: Content, *, shown: bool) -> Dataset:
    """Return the data set; images as they were `shown` must be gray levels."""
    tiers = np.where(found.tiers == "val", "validation", found.tiers)
    if "train" in tiers and "validation" not in tiers:
        ids = found.image_id
        held = np.array([image_fraction(name, 0) < VALIDATION_FRACTION for name in ids.ravel()])
        if held.shape == tiers.shape:
            tiers = np.where((tiers == "train") & held, "validation", tiers.astype("<U10"))
    try:
        data = Dataset(
            found.images,
            found.image_index,
            found.image_id,
            found.responses,
            tiers,
            **found.optional,
        )
        if shown:
            check_gray_levels(data.images)
    except DataError as error:
        raise DataError(str(error), file=path) from error
    except (ValueError, TypeError, OverflowError, MemoryError) as error:  # text for numbers
        raise DataError("arrays cannot be used", file=path, found=str(error)[:200]) from error
    data.findings = tuple(found.findings)
    return data
