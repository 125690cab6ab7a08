"""What every motion method promises: shapes, sizes that are legal, and the same again."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.imaging.importers.extracted import ExtractedMovie
from pipeline.imaging.motion import motion_methods
from pipeline.imaging.motion.base import corrected_movie
from pipeline.imaging.movie import ArrayMovie

METHODS = sorted(motion_methods)
UM, FPS, SIDE = (2.0, 2.0), 20.0, 64


def moving(frames, *, seed=3):
    """Return frames (n, 64, 64) of a texture, and the pixels by which it is down and right."""
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.normal(size=(SIDE + 32, SIDE + 32)), 1.5)
    spectrum = np.fft.rfft2(60 + 25 * texture / texture.std())
    fy, fx = np.fft.fftfreq(SIDE + 32)[:, None], np.fft.rfftfreq(SIDE + 32)[None]
    way = 2.0 * np.sin(np.arange(frames)[:, None] / np.array([5.0, 8.0]))
    still = np.empty((frames, SIDE, SIDE))
    for t, (down, right) in enumerate(way):
        shifted = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * (fy * down + fx * right)))
        still[t] = shifted[16:-16, 16:-16]
    return rng.poisson(np.maximum(still, 1) * 4).astype(np.int16), way


def movie_of(method, frames):
    if method == "extracted":  # reads no pixels: what another program has corrected
        masks, traces = np.zeros((0, SIDE, SIDE), bool), np.zeros((0, len(frames)), np.float32)
        return ExtractedMovie(masks, frames.mean(0, dtype=np.float32), traces, FPS, UM)
    return ArrayMovie(frames, FPS, UM)


@pytest.mark.parametrize("method", METHODS)
def test_every_frame_has_a_finite_shift_in_pixels_of_the_field(method):
    frames, way = moving(80)
    found = motion_methods[method](movie_of(method, frames))
    for shifts in (found.y_shifts, found.x_shifts):
        assert (shifts.shape, shifts.dtype) == ((80,), np.float32)
        assert np.isfinite(shifts).all()
    assert (found.outliers.shape, found.outliers.dtype) == ((80,), bool)
    assert (found.template.shape, found.template.dtype) == ((SIDE, SIDE), np.float32)
    blocks = (found.block_y_shifts, found.block_x_shifts, found.block_centers)
    assert len({part is None for part in blocks}) == 1
    if found.block_centers is not None:
        down, across = map(len, found.block_centers)
        assert found.block_y_shifts.shape == found.block_x_shifts.shape == (80, down, across)
        assert np.isfinite(found.block_y_shifts).all()
        assert np.isfinite(found.block_x_shifts).all()
    assert corrected_movie(movie_of(method, frames), found)[10:12].shape == (2, SIDE, SIDE)
    if method == "extracted":
        assert not found.y_shifts.any()
        return
    assert found.accepted
    assert found.correlation_after > found.correlation_before
    for axis, shifts in enumerate((found.y_shifts, found.x_shifts)):
        block = (found.block_y_shifts, found.block_x_shifts)[axis]
        whole = shifts if block is None else shifts + block.mean((1, 2))
        true = way[:, axis] - np.median(way[:, axis])
        assert np.abs(whole - np.median(whole) - true).mean() < 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_few_frames_and_a_movie_without_any_structure_are_legal(method, frames):
    for content in (moving(frames)[0], np.full((frames, SIDE, SIDE), 100, np.int16)):
        found = motion_methods[method](movie_of(method, content))
        assert found.y_shifts.shape == found.x_shifts.shape == (frames,)
        assert np.isfinite(found.y_shifts).all()
        assert np.isfinite(found.x_shifts).all()
        assert np.isfinite(found.template).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.numerical
def test_the_same_movie_gives_the_same_numbers_in_every_type_of_pixel(method):
    frames, _ = moving(40)
    first, again, other = (
        motion_methods[method](movie_of(method, content))
        for content in (frames, frames.copy(), frames.astype(np.float32))
    )
    np.testing.assert_array_equal(first.y_shifts, again.y_shifts)
    np.testing.assert_array_equal(first.x_shifts, again.x_shifts)
    np.testing.assert_allclose(first.y_shifts, other.y_shifts, atol=1e-3)
    np.testing.assert_allclose(first.x_shifts, other.x_shifts, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_that_cannot_be_are_refused_in_one_line(method):
    bad = {"no_such_parameter": 1}, *({name: "text"} for name in motion_methods.defaults(method))
    for params in bad:
        with pytest.raises(ValueError, match=next(iter(params))) as caught:
            motion_methods.complete(method, params)
        assert "\n" not in str(caught.value)
