"""What every segmenter promises: shapes, weights, order, legal sizes, and the same again."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pipeline.imaging.importers.extracted import ExtractedMovie
from pipeline.imaging.movie import ArrayMovie
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.masks import PixelStack

METHODS = sorted(segmenters)
FPS, UM, SIDE, FRAMES = 10.0, (1.5, 1.5), 64, 300
PLACES = np.array([[16, 16], [16, 46], [44, 20], [46, 48]])


def cells():
    """Return frames (n, 64, 64) of four cells that blink, and their masks."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(y - PLACES[:, 0, None, None], x - PLACES[:, 1, None, None])
    events = (rng.random((len(PLACES), FRAMES)) < 0.04).astype(float)
    light = 0.5 + 12 * gaussian_filter1d(events, 1.5, axis=1)
    frames = 60 + 60 * np.tensordot(light.T, np.exp(-((away / 4.5) ** 4)), 1)
    return (rng.poisson(frames * 4) * 5).astype(np.int16), away < 5


def run(method, frames, masks, **params):
    if method == "extracted":
        traces = np.ones((len(masks), len(frames)), np.float32)
        unit, y, x = np.nonzero(masks)
        share = 1 / masks.sum((1, 2))[unit]
        given = PixelStack.from_points(unit, y, x, share, masks.shape)
        movie = ExtractedMovie(given, frames.mean(0, dtype=np.float32), traces, FPS, UM)
    else:
        movie = ArrayMovie(frames, FPS, UM)
    if method == "given":
        params["pixels"] = [np.flatnonzero(mask).tolist() for mask in masks]
    found = segmenters[method](movie, **params)  # masks of other programs are lists of pixels
    return replace(found, masks=np.asarray(found.masks), weights=np.asarray(found.weights))


@pytest.mark.parametrize("method", METHODS)
def test_units_have_a_mask_and_weights_within_it_that_add_up_to_one(method):
    frames, masks = cells()
    found = run(method, frames, masks)
    n = len(found.masks)
    assert n == len(PLACES)
    assert (found.masks.shape, found.masks.dtype) == ((n, SIDE, SIDE), bool)
    assert (found.weights.shape, found.weights.dtype) == ((n, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(found.weights.sum((1, 2)), 1, rtol=1e-4)
    assert not found.weights[~found.masks].any()
    assert (found.weights >= 0).all()
    for values in (found.score, found.soma_probability):
        assert (values.shape, values.dtype) == ((n,), np.float32)
    if method != "extracted":  # NaN is what another program does not say
        assert np.isfinite(found.score).all()
        assert ((found.soma_probability >= 0) & (found.soma_probability <= 1)).all()
        assert (np.diff(found.score) <= 0).all()
    for image in (found.mean_image, found.correlation_image):
        assert (image.shape, image.dtype) == ((SIDE, SIDE), np.float32)
        assert np.isfinite(image).all()
    for mask in masks:  # every cell is one unit
        shared = (found.masks & mask).sum((1, 2)) / (found.masks | mask).sum((1, 2))
        assert (shared > 0.5).sum() == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_field_without_cells_has_no_units(method):
    rng = np.random.default_rng(0)
    noise = (rng.poisson(240, (FRAMES, SIDE, SIDE)) * 5).astype(np.int16)
    found = run(method, noise, np.zeros((0, SIDE, SIDE), bool))
    assert found.masks.shape == found.weights.shape == (0, SIDE, SIDE)
    assert found.score.shape == found.soma_probability.shape == (0,)
    assert np.isfinite(found.mean_image).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.numerical
def test_the_same_movie_gives_the_same_units_whatever_fits_into_memory(method):
    frames, masks = cells()
    first = run(method, frames, masks)
    less = {"memory_mb": 3.0} if "memory_mb" in segmenters.defaults(method) else {}
    again, other = run(method, frames.copy(), masks), run(method, frames, masks, **less)
    np.testing.assert_array_equal(first.masks, again.masks)
    np.testing.assert_array_equal(first.weights, again.weights)
    np.testing.assert_array_equal(first.masks.any(0), other.masks.any(0))


@pytest.mark.parametrize("method", METHODS)
def test_parameters_that_cannot_be_are_refused_in_one_line(method):
    bad = {"no_such_parameter": 1}, *({name: {}} for name in segmenters.defaults(method))
    for params in bad:
        with pytest.raises(ValueError, match=next(iter(params))) as caught:
            segmenters.complete(method, params)
        assert "\n" not in str(caught.value)
