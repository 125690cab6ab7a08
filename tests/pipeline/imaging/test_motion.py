"""Raster phase and motion against the displacements that a movie was made with."""

import numpy as np
import pytest

from pipeline.imaging.motion import corrected_movie, motion_methods
from pipeline.imaging.movie import ArrayMovie, MotionCorrected, RasterCorrected
from pipeline.imaging.raster import raster_methods


def error_rms(result, truth):
    error = np.stack([result.y_shifts - truth.y, result.x_shifts - truth.x])
    error -= np.median(error, axis=1, keepdims=True)  # the origin is free
    return np.sqrt((error**2).sum(axis=0).mean())


def test_raster_offset_is_found_within_a_twentieth_of_a_pixel_while_the_field_moves(recording):
    result = raster_methods["fourier"](ArrayMovie(recording.movie, recording.fps))
    assert result.raster_px == pytest.approx(recording.raster_px, abs=0.05)
    assert abs(result.drift_px) < 0.1


def test_raster_is_zero_for_a_scan_in_one_direction(recording):
    movie = ArrayMovie(recording.movie[:50], recording.fps)
    movie.bidirectional = False
    assert raster_methods["fourier"](movie).raster_px == 0


def test_rigid_motion_is_found_within_a_fifteenth_of_a_pixel(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie, recording.fps), recording.raster_px)
    result = motion_methods["rigid"](movie)
    assert result.accepted
    assert result.correlation_after > result.correlation_before
    assert error_rms(result, recording) < 0.07
    assert result.rms_px == pytest.approx(
        np.sqrt((recording.y**2 + recording.x**2).mean()), rel=0.1
    )


def test_correcting_brings_frames_together(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie[:300], recording.fps), recording.raster_px)
    steady = MotionCorrected(movie, recording.y[:300], recording.x[:300])
    inner = np.s_[:, 8:-8, 8:-8]
    before, after = (np.asarray(m[:])[inner].mean(axis=0) for m in (movie, steady))
    assert after.std() > 1.02 * before.std()  # a mean of moving frames is blurred


def test_noise_alone_is_not_corrected():
    noise = np.random.default_rng(0).normal(100, 10, (200, 48, 48)).astype(np.float32)
    result = motion_methods["rigid"](ArrayMovie(noise, 10.0))
    if result.accepted:
        assert result.correlation_after > result.correlation_before
    else:
        assert not result.y_shifts.any()
        assert not result.x_shifts.any()


def test_shifts_do_not_depend_on_how_the_movie_is_streamed(recording):
    part = ArrayMovie(recording.movie[:120], recording.fps)
    whole = motion_methods["rigid"](part)
    steady = corrected_movie(part, whole)
    pieces = np.concatenate([frames for _, frames in steady.batches(7)])
    np.testing.assert_array_equal(pieces, steady[:])
