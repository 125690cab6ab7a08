import numpy as np
import pytest

from pipeline.mei.masks import mask_methods, mask_properties

MEAN = 110.0


@pytest.fixture(scope="module")
def patches(toys):
    """Four Gabors whose places are the peaks of their envelopes."""
    return MEAN + 200 * toys.gabor_filters(4, seed=9)


@pytest.mark.parametrize("method", list(mask_methods))
def test_mask_is_where_the_image_is(patches, method):
    masks = mask_methods[method](patches, MEAN)
    assert masks.shape == patches.shape
    assert masks.dtype == np.float32
    assert masks.min() >= 0
    assert masks.max() <= 1
    found = mask_properties(patches, masks, MEAN)
    energy = (patches - MEAN) ** 2
    y, x = np.mgrid[: patches.shape[1], : patches.shape[2]]
    total = energy.sum((1, 2))
    np.testing.assert_allclose(found.y_px, (energy * y).sum((1, 2)) / total, atol=1.0)
    np.testing.assert_allclose(found.x_px, (energy * x).sum((1, 2)) / total, atol=1.0)
    assert (found.energy_inside > 0.4).all()
    assert (found.area_px < 0.4 * patches[0].size).all()


def test_zscore_mask_leaves_a_bright_pixel_far_away_out(patches):
    image = patches[:1].copy()
    clean = mask_methods["zscore"](image, MEAN)
    corner = (0, 0) if clean[0, :4, :4].max() == 0 else (-1, -1)
    image[0][corner] += 60
    np.testing.assert_allclose(mask_methods["zscore"](image, MEAN), clean, atol=0.3)


def test_tight_mask_keeps_the_wanted_share_of_the_response(patches):
    filters = (patches - MEAN).reshape(4, -1)

    def rates(images):
        return ((images - MEAN).reshape(4, -1) * filters).sum(1)

    wide = mask_methods["tight_2019"](patches, MEAN, rates, max_erosions=0)
    tight = mask_methods["tight_2019"](patches, MEAN, rates, target=0.9)
    share = rates(MEAN + tight * (patches - MEAN)) / rates(MEAN + wide * (patches - MEAN))
    assert (share <= 0.9).all()
    assert (share > 0.5).all()
    assert (tight.sum((1, 2)) < wide.sum((1, 2))).all()


@pytest.mark.parametrize("method", list(mask_methods))
def test_an_image_without_contrast_has_an_empty_mask(method):
    masks = mask_methods[method](np.full((1, 12, 16), MEAN), MEAN)
    np.testing.assert_array_equal(masks, 0)
    assert np.isnan(mask_properties(np.full((1, 12, 16), MEAN), masks, MEAN).y_px).all()
