"""Where in the image an MEI is: windows in 0-1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_erosion, gaussian_filter
from skimage.measure import label
from skimage.morphology import convex_hull_image

from pipeline.registry import Registry

mask_methods = Registry("mask method")

Rates = Callable[[NDArray[np.float32]], NDArray]


@mask_methods.register("zscore", default=True)
def zscore(
    images: NDArray,
    mean: float,
    rates: Rates | None = None,
    *,
    threshold: float = 1.5,
    closing: int = 2,
    blur_px: float = 1.0,
) -> NDArray[np.float32]:
    """Take the largest object of pixels beyond `threshold` sd, its hull, softened.

    Parameters
    ----------
    images : array, shape (n, h, w)
        MEIs (gray levels).
    mean : float
        Mean gray of the training images.
    rates : function, optional
        Not used.
    threshold : float
        Least distance from the image's mean, in its standard deviations.
    closing : int
        Iterations of closing that join neighboring stripes.
    blur_px : float
        Softness of the edge.

    Returns
    -------
    array, shape (n, h, w)
        0-1; an image without contrast has no mask (0).
    """
    out = np.zeros(np.shape(images), np.float32)
    for i, image in enumerate(_deviation(images, mean)):
        sd = image.std()
        if sd < 1e-6:
            continue
        far = np.abs(image - image.mean()) > threshold * sd
        padded = np.pad(far, closing)  # closing must not erode at the frame
        joined = binary_closing(padded, iterations=closing) if closing else padded
        joined = joined[closing : len(joined) - closing, closing : joined.shape[1] - closing]
        objects = label(joined, connectivity=2)
        if not objects.any():
            continue
        # the object that holds most energy, so that one bright pixel never wins over a patch
        energy = np.bincount(objects.ravel(), (image**2).ravel())
        energy[0] = 0
        hull = _hull(objects == energy.argmax())
        out[i] = np.clip(gaussian_filter(hull.astype(np.float32), blur_px), 0, 1)
    return out


@mask_methods.register("tight_2019")
def tight_2019(
    images: NDArray,
    mean: float,
    rates: Rates | None = None,
    *,
    threshold_sd: float = 1.0,
    blur_px: float = 2.0,
    target: float = 0.9,
    max_erosions: int = 100,
) -> NDArray[np.float32]:
    """Erode the hull of the MEI until the masked MEI drives only `target` of what it did.

    Parameters
    ----------
    images : array, shape (n, h, w)
        MEIs (gray levels).
    mean : float
        Mean gray of the training images; the level outside of the mask.
    rates : function, optional
        ``rates(images (n, h, w) grey levels) -> (n,)``, each image's own unit. Default: the
        response of a linear unit whose filter the MEI is.
    threshold_sd, blur_px, target, max_erosions
        As published: 1.0, 2.0, 0.9, 100.

    References
    ----------
    Walker et al. (2019), Nature Neuroscience, doi:10.1038/s41593-019-0517-x
    """
    images = np.asarray(images, np.float32)
    delta = _deviation(images, mean)

    def respond(masks: NDArray) -> NDArray:
        if rates is None:
            return (masks * delta**2).sum((1, 2))
        return np.asarray(rates((mean + masks * delta).astype(np.float32)))

    def soften(solid: NDArray) -> NDArray[np.float32]:
        return np.stack([gaussian_filter(s.astype(np.float32), blur_px) for s in solid])

    if not len(images):
        return np.zeros_like(images)
    sd = delta.std((1, 2), keepdims=True)
    solid = np.stack([_hull(far) for far in np.abs(delta) > np.maximum(sd, 1e-6) * threshold_sd])
    masks = soften(solid)
    wanted = target * respond(masks)
    active = solid.any((1, 2))
    for _ in range(max_erosions):
        active &= respond(masks) > wanted
        smaller = np.stack([binary_erosion(s, np.ones((3, 3))) for s in solid])
        active &= smaller.any((1, 2))
        if not active.any():
            break
        solid[active] = smaller[active]
        masks[active] = soften(smaller[active])
    return np.clip(masks, 0, 1)


@dataclass(frozen=True)
class MaskProperties:
    """Where masks are and what they hold; arrays of shape (n,)."""

    y_px: NDArray[np.float64]  # center, NaN for an empty mask
    x_px: NDArray[np.float64]
    area_px: NDArray[np.float64]  # sum of the mask
    energy_inside: NDArray[np.float64]  # share of the squared deviation from the mean


def mask_properties(images: NDArray, masks: NDArray, mean: float) -> MaskProperties:
    """Return center, area and share of energy of masks (n, h, w) of images in gray levels."""
    masks = np.asarray(masks, np.float64)
    area = masks.sum((1, 2))
    y, x = np.mgrid[: masks.shape[1], : masks.shape[2]]
    square = _deviation(images, mean).astype(np.float64) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):  # an empty mask has no center: NaN
        return MaskProperties(
            y_px=(masks * y).sum((1, 2)) / area,
            x_px=(masks * x).sum((1, 2)) / area,
            area_px=area,
            energy_inside=(masks * square).sum((1, 2)) / square.sum((1, 2)),
        )


def _deviation(images: NDArray, mean: float) -> NDArray[np.float32]:
    images = np.asarray(images, np.float32)
    if images.ndim != 3:
        raise ValueError(f"images must be (n, h, w), got shape {images.shape}")
    return images - np.float32(mean)


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return convex_hull_image(mask) if mask.any() else mask
