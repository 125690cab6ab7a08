"""8-bit images: their name, their files, and their way to model pixels."""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.npy import MOST_RATIO, check_regular, npz_names, read_npz

MOST_PIXELS = 1 << 25  # of one PNG: four times a monitor of 3840 x 2160
MOST_BYTES = 1 << 28  # of its file
FREE_FOLDER = 1 << 30  # bytes of pixels that a folder may hold, however small its files are
CHUNK_PIXELS = 1 << 24  # bounds the float copy of large images to 64 MB


def image_hash(image: NDArray[np.uint8]) -> str:
    """Return the content hash that names an image everywhere.

    Parameters
    ----------
    image : array, shape (height, width), uint8

    Returns
    -------
    str
        64 hex digits: SHA-256 of ``b"{height}x{width}:"`` and the row-major pixels.

    Raises
    ------
    ValueError
        If the image is not a two-dimensional uint8 array.

    Examples
    --------
    >>> image_hash(np.zeros((36, 64), np.uint8))[:16]
    '784ba712e03efde0'
    """
    image = _gray8(image)
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def read_png(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an 8-bit gray image file, shape (height, width).

    Parameters
    ----------
    path : path
    size : (int, int), optional
        Height and width that it must have; compared before its pixels are unpacked.

    Raises
    ------
    DataError
        If the path is no regular file, or the file cannot be decoded, has more than `MOST_PIXELS`
        or 8 bits, is colored or transparent, or has another size.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     write_png(file.name, np.full((36, 64), 127, np.uint8))
    ...     image = read_png(file.name)
    >>> image.shape, int(image.max())
    ((36, 64), 127)
    """
    try:
        check_regular(path)
        length = Path(path).stat().st_size
        if length > MOST_BYTES:
            raise DataError("is too large", file=path, found=f"{length} bytes", expected=MOST_BYTES)
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError("cannot be read", file=path, found=error.strerror) from error
    _check_pixels(path, data, size)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:  # of sizes that it refuses itself
        image = None
    if image is None:
        raise DataError("not an image that can be decoded", file=path, expected="8-bit gray PNG")
    if image.dtype != np.uint8:
        raise DataError("wrong bit depth", file=path, found=image.dtype, expected="8-bit gray")
    if image.ndim == 3:
        opaque = image.shape[2] < 4 or (image[..., 3] == 255).all()
        if not opaque or (image[..., :3] != image[..., :1]).any():
            raise DataError(
                "colored or transparent image",
                file=path,
                found=f"{image.shape[2]} channels",
                expected="8-bit gray",
                remedy="convert it to gray first",
            )
        image = image[..., 0]
    return np.ascontiguousarray(image)


def _check_pixels(path: str | Path, data: bytes, size: tuple[int, int] | None) -> None:
    """Refuse a PNG that says it is very large, before its pixels are unpacked."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        raise DataError("not an image that can be decoded", file=path, expected="8-bit gray PNG")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(
            "is too large",
            file=path,
            found=f"{height} x {width} pixels",
            expected=f"at most {MOST_PIXELS} pixels",
        )
    if size is not None and (height, width) != tuple(size):
        found = sorted({(height, width), tuple(size)})
        raise DataError("images differ in size", file=path, found=found, expected="one size")


def write_png(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write an 8-bit gray PNG without loss.

    Raises
    ------
    ValueError
        If the image is not a two-dimensional uint8 array.

    Examples
    --------
    >>> write_png("never.png", np.zeros((36, 64)))
    Traceback (most recent call last):
    ValueError: ...
    """
    Path(path).write_bytes(png_bytes(image))


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit gray image as PNG, without loss.

    Raises
    ------
    ValueError
        If the image is not a two-dimensional uint8 array.

    Examples
    --------
    >>> png_bytes(np.zeros((36, 64), np.uint8))[1:4]
    b'PNG'
    """
    done, data = cv2.imencode(".png", np.ascontiguousarray(_gray8(image)))
    if not done:
        raise ValueError(f"PNG encoder refused an image of shape {image.shape}")
    return data.tobytes()


def load_images(path: str | Path) -> tuple[list[str], NDArray[np.uint8]]:
    """Load a set of equally large images.

    Parameters
    ----------
    path : path
        A folder of PNG files, or an npz file with arrays `names` (n,) and `images` (n, H, W), or
        a folder that holds such a file as images.npz.

    Returns
    -------
    names : list of str
        File names, sorted (folder), or `names` in their order (npz).
    images : array, shape (n, height, width), uint8

    Raises
    ------
    DataError
        If there is no image, sizes differ, or a name comes twice.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "gray.png", np.full((36, 64), 127, np.uint8))
    ...     names, images = load_images(folder)
    >>> names, images.shape
    (['gray.png'], (1, 36, 64))
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.png"))
        if files:
            images: list[NDArray[np.uint8]] = []
            packed = unpacked = 0
            for file in files:
                images.append(read_png(file, images[0].shape if images else None))
                packed += file.stat().st_size
                unpacked += images[-1].nbytes
                if unpacked > max(FREE_FOLDER, MOST_RATIO * packed):
                    raise DataError(
                        "images are far larger than their files",
                        file=path,
                        found=f"{unpacked} bytes of {packed}, up to {file.name[:100]}",
                        expected=f"at most {FREE_FOLDER}, or {MOST_RATIO} times the files",
                    )
            return [file.name for file in files], np.stack(images)
        path = path / "images.npz"
    if not path.is_file():
        raise DataError("no images", file=path, expected="a folder of PNG files, or an npz file")
    stored = read_npz(path, ("names", "images"))
    missing = sorted({"names", "images"} - set(stored))
    if missing:
        raise DataError("arrays missing", file=path, found=npz_names(path), expected=missing)
    names, pixels = [str(name) for name in stored["names"].reshape(-1)], stored["images"]
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or len(pixels) != len(names):
        raise DataError(
            "wrong array",
            file=path,
            field="images",
            found=f"{pixels.dtype} {pixels.shape}",
            expected=f"uint8 ({len(names)}, height, width)",
        )
    if len(set(names)) != len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise DataError(
            "a name comes twice",
            file=path,
            field="names",
            found=again,
            expected="one image for every name",
        )
    return names, pixels


@lru_cache(maxsize=64)
def area_matrix(n_out: int, n_in: int) -> NDArray[np.float64]:
    """Return the matrix (n_out, n_in) that averages a line of pixels by overlap.

    Examples
    --------
    >>> area_matrix(2, 3).round(3).tolist()
    [[0.667, 0.333, 0.0], [0.0, 0.333, 0.667]]
    """
    edges = np.arange(n_out + 1) * (n_in / n_out)
    pixels = np.arange(n_in)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    matrix = np.clip(high - low, 0, None)
    return matrix / matrix.sum(1, keepdims=True)


def to_model(images: NDArray, shape: tuple[int, int] = (36, 64)) -> NDArray[np.float32]:
    """Bring images to model pixels by area averaging.

    Parameters
    ----------
    images : array, shape (n, height, width)
        Gray levels, any size of the right aspect ratio.
    shape : (int, int)
        Height and width of the model's input.

    Returns
    -------
    array, shape (n, h, w), float32
        Unchanged values if the shape is right already; block means if it divides the size.

    Raises
    ------
    DataError
        If the aspect ratios differ by more than 1 %.

    Examples
    --------
    >>> to_model(np.arange(16.0).reshape(1, 4, 4), (2, 2)).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images must be (n, height, width), got shape {images.shape}")
    check_aspect(images.shape[1:], shape)
    n, height, width = images.shape
    if (height, width) == tuple(shape):
        return images.astype(np.float32)
    out = np.empty((n, *shape), np.float32)
    exact = height % shape[0] == 0 and width % shape[1] == 0
    step = max(1, CHUNK_PIXELS // (height * width))
    for start in range(0, n, step):
        part = images[start : start + step].astype(np.float32)
        if exact:
            blocks = part.reshape(len(part), shape[0], height // shape[0], shape[1], -1)
            out[start : start + step] = blocks.mean((2, 4))
        else:
            rows, columns = area_matrix(shape[0], height), area_matrix(shape[1], width)
            out[start : start + step] = rows @ (part @ columns.T)
    return out


def check_aspect(size: tuple[int, ...], shape: tuple[int, int]) -> None:
    """Raise DataError if the aspect of `size` (H, W) differs from `shape`'s by more than 1 %."""
    ratio = size[1] / size[0] * shape[0] / shape[1]
    if abs(ratio - 1) > 0.01:
        raise DataError(
            "wrong aspect ratio of images",
            found=f"{size[0]} x {size[1]}",
            expected=f"that of {shape[0]} x {shape[1]} (height x width)",
            remedy="crop or pad the images to the monitor's aspect",
        )


def _gray8(image: NDArray) -> NDArray[np.uint8]:
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"an image is uint8 (height, width), got {image.dtype} {image.shape}")
    return image
