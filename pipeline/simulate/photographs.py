"""Natural images: crops of the photographs that come with scikit-image and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.rng import generator

PACKAGED = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "brick.png"),
    ("skimage.data", "camera.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "coins.png"),
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
SMALLEST_CROP_PX = 72  # (rows) smaller crops of a photograph are blur
MAX_TRIES = 200


def _read_gray(path: Path) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError("not an image that OpenCV reads", file=path)
    return np.asarray(image, np.uint8)


@lru_cache(maxsize=1)
def packaged_photographs() -> tuple[NDArray[np.uint8], ...]:
    """Return the installed photographs, uint8 gray, in a fixed order.

    Raises
    ------
    DataError
        If none of them is installed.
    """
    found = []
    for package, name in PACKAGED:
        try:
            path = Path(str(files(package).joinpath(name)))
        except ModuleNotFoundError:
            continue
        if path.is_file():
            found.append(_read_gray(path))
    if not found:
        raise DataError(
            "no packaged photographs", remedy="install scikit-image or give a folder of images"
        )
    return tuple(found)


def folder_photographs(folder: str | Path) -> tuple[NDArray[np.uint8], ...]:
    """Return every image of a folder, uint8 gray, in the order of the names."""
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError("no images", file=folder, expected=f"files ending in {sorted(SUFFIXES)}")
    return tuple(_read_gray(path) for path in paths)


def _crops(
    photographs: tuple[NDArray[np.uint8], ...],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Iterator[NDArray[np.uint8]]:
    """Yield distinct crops for ever: photograph, size, place and mirror drawn at random."""
    height, width = shape
    seen: set[tuple[int, ...]] = set()
    weights = np.sqrt([p.size for p in photographs])
    weights /= weights.sum()
    while True:
        which = int(rng.choice(len(photographs), p=weights))
        photo = photographs[which]
        largest = min(photo.shape[0], photo.shape[1] * height / width)
        smallest = min(SMALLEST_CROP_PX, largest)
        rows = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
        crop_h = int(rows)
        crop_w = min(round(rows * width / height), photo.shape[1])
        top = int(rng.integers(photo.shape[0] - crop_h + 1))
        left = int(rng.integers(photo.shape[1] - crop_w + 1))
        mirrored = bool(rng.integers(2))
        # crops of nearly the same place and size count as the same picture
        cell = max(2, crop_h // 12)
        key = (which, crop_h // cell, top // cell, left // cell, mirrored)
        if key in seen:
            yield np.empty((0, 0), np.uint8)
            continue
        seen.add(key)
        crop = photo[top : top + crop_h, left : left + crop_w]
        shrinks = crop_h >= height
        resized = cv2.resize(
            crop, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        out = np.asarray(resized, np.uint8)
        yield np.ascontiguousarray(out[:, ::-1]) if mirrored else out


def natural_images(
    n: int,
    shape: tuple[int, int] = (144, 256),
    seed: int = 0,
    *,
    folder: str | Path | None = None,
    min_sd: float = 12.0,
) -> NDArray[np.uint8]:
    """Cut distinct natural images out of photographs, at many scales.

    The first images of a longer request with the same seed are those of a shorter one.

    Parameters
    ----------
    n : int
        How many images.
    shape : (int, int)
        Height and width in pixels.
    seed : int
        Names the sequence.
    folder : path, optional
        Photographs to use; default the ones packaged with scikit-image and scikit-learn.
    min_sd : float
        Least standard deviation of an image (gray levels).

    Returns
    -------
    array, shape (n, height, width), uint8

    Raises
    ------
    DataError
        If the photographs do not hold that many different images of that contrast.

    Examples
    --------
    >>> natural_images(2, (36, 64)).shape
    (2, 36, 64)
    """
    photographs = packaged_photographs() if folder is None else folder_photographs(folder)
    images = np.empty((n, *shape), np.uint8)
    hashes: set[bytes] = set()
    count = 0
    misses = 0
    for crop in _crops(photographs, shape, generator(seed, "photographs")):
        if count == n:
            break
        if crop.size == 0 or crop.std() < min_sd or crop.tobytes() in hashes:
            misses += 1
            if misses > MAX_TRIES * (n + 10):
                raise DataError(
                    "photographs exhausted",
                    file=folder,
                    found=f"{count} different images with sd >= {min_sd}",
                    expected=n,
                    remedy="give more photographs or ask for fewer images",
                )
            continue
        hashes.add(crop.tobytes())
        images[count] = crop
        count += 1
    return images
