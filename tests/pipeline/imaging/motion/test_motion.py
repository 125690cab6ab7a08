"""Raster phase and motion against the displacements that a movie was made with."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pipeline.imaging.motion import corrected_movie, motion_methods
from pipeline.imaging.motion.base import likeness
from pipeline.imaging.motion.depth import depth_in_stack, plane_similarity, stretches
from pipeline.imaging.motion.on_device import DeviceSurface
from pipeline.imaging.motion.rigid import Correlator, first_template
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


def test_quality_of_a_correction_is_reported(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie[:400], recording.fps), recording.raster_px)
    result = motion_methods["rigid"](movie)
    assert result.crispness_after > 1.05 * result.crispness_before
    assert result.worse_fraction < 0.3
    assert result.z_drift < 0.15  # the simulated field stays in its plane


def test_crispness_is_that_of_the_noiseless_image():
    rng = np.random.default_rng(0)
    image = 20 + 10 * gaussian_filter(rng.normal(size=(80, 90)), 2) * 8
    frames = rng.poisson(np.maximum(image, 0), (200, 80, 90)).astype(np.float32)
    still = likeness(ArrayMovie(frames, 10.0), np.arange(200), margin=4)
    slope = np.sqrt(sum(np.mean(g[4:-4, 4:-4] ** 2) for g in np.gradient(image)))
    assert still.crispness == pytest.approx(slope, rel=0.05)


def test_leaving_the_plane_is_seen_and_placed_in_a_stack():
    rng = np.random.default_rng(0)
    planes = gaussian_filter(rng.normal(size=(9, 96, 96)), (1.0, 2, 2))
    planes = 30 * np.exp(2 * planes / planes.std() / 3).astype(np.float32)
    depth = np.linspace(2, 5, 600)  # slices
    low = depth.astype(int)
    share = (depth - low)[:, None, None]
    still = ArrayMovie(rng.poisson(planes[[2] * 600]).astype(np.int16), 10.0)
    moving = (1 - share) * planes[low] + share * planes[low + 1]
    drifting = ArrayMovie(rng.poisson(moving).astype(np.int16), 10.0)
    assert plane_similarity(stretches(still)).min() > 0.95
    course = plane_similarity(stretches(drifting))
    assert np.all(np.diff(course) < 0.05)
    assert course[-1] < 0.5
    means = np.array([drifting[a : a + 60].mean(axis=0) for a in range(0, 600, 60)])
    found = depth_in_stack(means, planes, 5.0)
    np.testing.assert_allclose(found, 5.0 * depth.reshape(10, 60).mean(axis=1), atol=1.0)
    with pytest.raises(ValueError, match="three slices"):
        depth_in_stack(means, planes[:2], 5.0)


def test_noise_alone_is_not_corrected():
    noise = np.random.default_rng(0).normal(100, 10, (200, 48, 48)).astype(np.float32)
    result = motion_methods["rigid"](ArrayMovie(noise, 10.0))
    if result.accepted:
        assert result.correlation_after > result.correlation_before
    else:
        assert not result.y_shifts.any()
        assert not result.x_shifts.any()


@pytest.mark.numerical
def test_shifts_do_not_depend_on_how_the_movie_is_streamed(recording):
    part = ArrayMovie(recording.movie[:120], recording.fps)
    whole = motion_methods["rigid"](part)
    steady = corrected_movie(part, whole)
    pieces = np.concatenate([frames for _, frames in steady.batches(7)])
    np.testing.assert_array_equal(pieces, steady[:])


@pytest.mark.numerical
def test_torch_gives_the_same_correlations(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie[:60], recording.fps), recording.raster_px)
    template, power = first_template(movie, max_shift=20, smooth_px=0.5)
    correlator = Correlator(template, power, max_shift=20, smooth_px=0.5)
    on_cpu = DeviceSurface(correlator, torch.device("cpu"))  # stands for CUDA
    expected = correlator.surface(movie[:])
    np.testing.assert_allclose(on_cpu(movie[:]), expected, atol=1e-4 * expected.max())
    found = [axis.copy() for axis in correlator.shifts(movie[:])[:2]]
    correlator.on_device = on_cpu
    np.testing.assert_allclose(correlator.shifts(movie[:])[:2], found, atol=1e-3)
