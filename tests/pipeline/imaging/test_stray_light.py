"""Flashes of light are taken out, and nothing else is."""

import numpy as np
import pytest

from pipeline.imaging.extraction import demixed
from pipeline.imaging.movie import ArrayMovie
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.stray_light import bridged, flash_frames, without_flashes


def with_bands(movie, light, every=37):
    """Return a movie in which a band of 20 rows is bright in two frames of `every`."""
    movie = movie.astype(np.float32)
    for frame in range(5, len(movie) - 1, every):
        top = (11 * frame) % (movie.shape[1] - 20)
        movie[frame : frame + 2, top : top + 20] += light
    return movie


def test_a_band_of_light_leaves_and_the_rest_stays():
    rng = np.random.default_rng(0)
    clean = rng.poisson(4.0, (60, 48, 64)).astype(np.float32)
    lit = with_bands(clean, 25.0)
    np.testing.assert_allclose(without_flashes(lit), clean, atol=2.0)  # noise of a row's mean
    assert (lit != clean).any()  # the movie itself is not changed
    np.testing.assert_array_equal(without_flashes(clean), clean)


def test_cells_are_found_under_flashes_as_without(recording):
    part = recording.movie[:600]
    light = 5 * float(np.mean(part))
    found = [
        segmenters["peaks"](ArrayMovie(movie, recording.fps, (1.0, 1.0)))
        for movie in (part, with_bands(part, light))
    ]
    plain, lit = (result.masks.any(axis=0) for result in found)
    assert (plain & lit).sum() > 0.8 * (plain | lit).sum()


def test_a_leap_is_found_and_a_transient_is_not():
    rng = np.random.default_rng(1)
    time = np.arange(900) / 30
    transient = 20 * np.exp(-np.maximum(time - 10, 0) / 0.2) * (time >= 10)
    trace = np.stack([rng.normal(0, 1, 900), rng.normal(0, 1, 900) + transient])
    trace[:, 600:602] += 30
    found = flash_frames(trace, 30.0)
    np.testing.assert_array_equal(np.flatnonzero(found[0]), [600, 601])
    np.testing.assert_array_equal(np.flatnonzero(found[1]), [600, 601])
    assert not flash_frames(trace, 5.0).any()  # there a transient can be as brief


def test_bridges_are_straight_and_a_unit_without_any_frame_stays():
    trace = np.array([[0.0, 9.0, 9.0, 3.0], [5.0, 5.0, 5.0, 5.0]], np.float32)
    gone = np.array([[False, True, True, False], [True, True, True, True]])
    np.testing.assert_allclose(bridged(trace, gone), [[0, 1, 2, 3], [5, 5, 5, 5]])


def test_traces_do_not_see_the_flash():
    rng = np.random.default_rng(2)
    movie = rng.poisson(20.0, (600, 40, 40)).astype(np.float32)
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 15:25, 15:25] = True
    clean = demixed(ArrayMovie(movie, 30.0), mask, mask.astype(np.float32))
    movie[100:102] += 200
    lit = demixed(ArrayMovie(movie, 30.0), mask, mask.astype(np.float32))
    assert np.ptp(lit.corrected) == pytest.approx(np.ptp(clean.corrected), rel=0.2)
