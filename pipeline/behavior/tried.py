"""A picture of frames in which no pupil was seen, with what came nearest to one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .pupil import Tried
from .pupil_fit import CIRCLE

TILE_PX = 300
COLUMNS = 4
LINE = (60, 60, 255)  # blue, green, red
TEXT = (0, 220, 255)


def picture_of(tried: Sequence[Tried]) -> NDArray[np.uint8]:
    """Draw frames without a pupil side by side.

    Parameters
    ----------
    tried : sequence of Tried
        At least one.

    Returns
    -------
    array uint8, shape (H, W, 3)
        Blue, green, red, as `cv2.imwrite` takes it: every frame's number, what came nearest to a
        pupil, its confidence, and why it is none.
    """
    tiles = [_tile(one) for one in tried]
    while len(tiles) % COLUMNS and len(tiles) > COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    return np.vstack(rows)


def _tile(one: Tried) -> NDArray[np.uint8]:
    high, wide = one.image.shape
    scale = TILE_PX / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    image = cv2.resize(one.image, size, interpolation=cv2.INTER_LINEAR)
    tile = np.zeros((size[1] + 40, TILE_PX, 3), np.uint8)
    tile[40 : 40 + size[1], : size[0]] = image[..., None]
    text = f"frame {one.number}"
    if one.fit is not None:
        edge = (one.fit.shape @ CIRCLE).T + np.array([one.fit.x, one.fit.y])
        points = np.rint((edge + 0.5) * scale - 0.5 + [0, 40]).astype(np.int32)
        cv2.polylines(tile, [points], True, LINE, 1, cv2.LINE_AA)
        text += f": confidence {one.fit.confidence:.2f}"
    for line, words in enumerate((text, one.reason)):
        at = (4, 15 + 17 * line)
        cv2.putText(tile, words[:48], at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, TEXT, 1, cv2.LINE_AA)
    return tile
