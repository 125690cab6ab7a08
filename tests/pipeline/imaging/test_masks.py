"""Masks as lists of pixels come back as they were."""

import numpy as np
import pytest

from pipeline.imaging.segmentation.masks import centroids, pack_masks, unpack_masks


@pytest.mark.parametrize("units", [0, 1, 5])
def test_packed_masks_come_back_however_few_there_are(units):
    rng = np.random.default_rng(units)
    masks = rng.random((units, 6, 9)) > 0.7
    weights = np.where(masks, rng.random(masks.shape), 0).astype(np.float32)
    packed = pack_masks(masks, weights)
    again, same = unpack_masks(*packed, (6, 9))
    np.testing.assert_array_equal(again, masks)
    np.testing.assert_array_equal(same, weights)
    assert centroids(*packed, 9).shape == (units, 2)
