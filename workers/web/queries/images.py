"""Single 8-bit images: of the recording, or made for a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from schemas import mei, stimulus

NOWHERE = Path("/nonexistent")  # where reports would write: the page draws, and writes nothing


def presented(image_hash: str) -> NDArray[np.uint8]:
    """Return the pixels of an image of some recording or plan, uint8 (height, width)."""
    found = stimulus.load_images(stimulus.ImageSet.locate([image_hash]))
    if image_hash not in found:
        raise DataError("no such image", field="image", found=image_hash)
    return np.asarray(found[image_hash])


def displayed(dataset_hash: str, unit_index: int, image_hash: str) -> NDArray[np.uint8]:
    """Return the pixels of an image that was made for a unit, planned or not."""
    own = {"dataset_hash": dataset_hash, "unit_index": unit_index, "image_hash": image_hash}
    rows = (mei.Display.Image & own).to_dicts(limit=1)
    if not rows:
        raise DataError("no such image", field="image", found=image_hash)
    key = {name: rows[0][name] for name in mei.Display.primary_key}
    images = (mei.Display & key).fetch1("images").load(mmap_mode="r")
    return np.asarray(images[rows[0]["image_row"]])
