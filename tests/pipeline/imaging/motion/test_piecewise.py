"""Piecewise motion against the displacement fields that a movie was made with."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.signal import lfilter

from pipeline.imaging.motion import corrected_movie, motion_methods
from pipeline.imaging.motion.piecewise import FieldEstimator
from pipeline.imaging.motion.smooth_field import agreed_course, sudden_steps
from pipeline.imaging.motion.tiles import noise_image
from pipeline.imaging.movie import ArrayMovie, interpolation_matrix, shift_frame
from pipeline.imaging.warp import warp_frame

SIZE, FRAMES = 128, 400


def warped_movie(*, warp_px, photons=4.0, seed=0):
    """Photons of a textured field that shifts, stretches along y and bends along x."""
    rng = np.random.default_rng(seed)
    side = SIZE + 32
    image = gaussian_filter(rng.normal(size=(side, side)), 1.5)
    image = np.exp(0.5 * image / image.std()).astype(np.float32)
    slow = gaussian_filter1d(rng.normal(size=(4, FRAMES)), 6, axis=1)
    slow /= slow.std(axis=1, keepdims=True)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    stretch, bend = np.cos(np.pi * rows / SIZE), np.sin(np.pi * columns / SIZE) - 2 / np.pi
    y, x = slow[0], 0.7 * slow[1]
    fields = np.empty((2, FRAMES, SIZE, SIZE), np.float32)
    movie = np.empty((FRAMES, SIZE, SIZE), np.int16)
    for t in range(FRAMES):
        fields[0, t] = y[t] + warp_px * slow[2, t] * stretch
        fields[1, t] = x[t] + warp_px * slow[3, t] * bend
        place = [columns + 16 - fields[1, t], rows + 16 - fields[0, t]]
        light = cv2.remap(image, *place, cv2.INTER_LINEAR)
        movie[t] = rng.poisson(photons * light)
    return movie, fields


def field_error(result, fields):
    """Return the rms error (px) of the field over frames and pixels; its origin is free."""
    error = np.stack([result.y_shifts, result.x_shifts])[:, :, None, None] - fields
    if result.block_centers is not None:
        down, across = (interpolation_matrix(c, SIZE) for c in result.block_centers)
        blocks = np.stack([result.block_y_shifts, result.block_x_shifts])
        error = error + np.einsum("atij,ri,cj->atrc", blocks, down, across, optimize=True)
    error = error - np.median(error, axis=(1, 2, 3), keepdims=True)
    return np.sqrt((error**2).sum(axis=0).mean())


def test_a_field_that_bends_is_followed_three_times_better_than_by_rigid_shifts():
    movie, fields = warped_movie(warp_px=0.8)
    movie = ArrayMovie(movie, 10.0)
    rigid, piecewise = (motion_methods[name](movie) for name in ("rigid", "piecewise"))
    assert field_error(piecewise, fields) < 0.2
    assert field_error(piecewise, fields) < field_error(rigid, fields) / 3
    assert piecewise.correlation_after > rigid.correlation_after
    inner = np.s_[:, 12:-12, 12:-12]
    sharp, blurred = (corrected_movie(movie, r)[:][inner].mean(axis=0) for r in (piecewise, rigid))
    assert sharp.std() > 1.02 * blurred.std()


def test_a_field_that_only_shifts_is_not_bent():
    movie, fields = warped_movie(warp_px=0.0, photons=1.0, seed=1)
    rigid, piecewise = (
        motion_methods[name](ArrayMovie(movie, 10.0)) for name in ("rigid", "piecewise")
    )
    assert field_error(piecewise, fields) < field_error(rigid, fields) + 0.02


def test_cells_that_light_up_do_not_pull_the_field():
    rng = np.random.default_rng(2)
    texture = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 1.5)
    still = np.exp(0.3 * texture / texture.std())
    cells = np.zeros((12, SIZE, SIZE))
    for cell, place in zip(cells, rng.integers(16, SIZE - 16, (12, 2)), strict=True):
        cell[tuple(place)] = 1
        cell[:] = 3 * gaussian_filter(cell, 4.0) / gaussian_filter(cell, 4.0).max()
    spikes = rng.random((240, 12)) < 0.05
    activity = lfilter([1.0], [1.0, -0.9], spikes, axis=0)
    light = 30 * (still + np.einsum("tc,cyx->tyx", 0.1 + activity, cells))
    movie = ArrayMovie(rng.poisson(light).astype(np.int16), 10.0)
    rest = np.zeros(len(light))
    noise = noise_image(movie, rest, rest, frames=np.arange(len(light)))
    assert np.median(noise[cells[0] > 2]) > 1.5 * np.median(noise)
    errors = []
    for known in (np.ones_like(noise), noise):
        estimator = FieldEstimator(
            light.mean(axis=0),
            np.ones((SIZE, SIZE // 2 + 1)),
            known,
            tile_px=32.0,
            degree=2,
            expected_px=0.3,
        )
        one, other = estimator.all_frames(movie, rest, rest)
        errors.append(np.sqrt(((one + other) ** 2).mean() / 4))
    assert errors[1] < 0.5 * errors[0]


def test_few_frames_or_a_small_field_are_shifted_as_a_whole():
    movie, _ = warped_movie(warp_px=0.5)
    for part in (movie[:60], movie[:, :40, :40]):
        assert motion_methods["piecewise"](ArrayMovie(part, 10.0)).block_centers is None


def test_what_two_estimates_share_is_kept_and_their_noise_removed():
    rng = np.random.default_rng(0)
    truth = np.zeros((2000, 20))
    truth[:, 3] = gaussian_filter1d(rng.normal(size=2000), 10) * 5
    one, other = (truth + rng.normal(0, 0.5, truth.shape) for _ in range(2))
    found = agreed_course(one, other)
    before, after = (
        np.sqrt(((x - truth) ** 2).sum(axis=1).mean()) for x in ((one + other) / 2, found)
    )
    assert after < 0.15 * before
    assert np.corrcoef(found[:, 3], truth[:, 3])[0, 1] > 0.98


@pytest.mark.parametrize("level", [0, 700])
def test_a_movie_of_one_gray_level_does_not_move(level):
    movie = ArrayMovie(np.full((210, 80, 80), level, np.int16), 10.0)
    found = motion_methods["piecewise"](movie)
    assert not found.y_shifts.any()
    assert not found.x_shifts.any()


def courses(first):
    """Return 12 terms of which only the first moves, and two noisy estimates of them."""
    rng = np.random.default_rng(1)
    truth = np.zeros((len(first), 12))
    truth[:, 0] = first
    return truth, *(truth + rng.normal(0, 0.08, truth.shape) for _ in range(2))


@pytest.mark.parametrize("frames", [1, 3, 700], ids=["one frame", "jerk", "stage"])
def test_a_leap_is_not_smeared_over_the_frames_around_it(frames):
    first = np.zeros(1500)
    first[700 : 700 + frames] = 5.0
    truth, one, other = courses(first)
    error = np.abs(agreed_course(one, other, leaping=(0,)) - truth)[690:712, 0]
    assert error.max() < 0.1  # 0.4 without; the noise of one frame is 0.06
    unaware = np.abs(agreed_course(one, other) - truth)[690:712, 0]
    assert unaware.max() > 3 * error.max()


def test_motion_without_memory_is_not_damped():
    truth, one, other = courses(np.random.default_rng(5).normal(0, 0.5, 1500))
    found = agreed_course(one, other, leaping=(0,))
    assert abs(np.polyfit(truth[:, 0], found[:, 0], 1)[0] - 1) < 0.02
    raw = ((one + other) / 2 - truth)[:, 0]
    assert (found - truth)[:, 0].std() < 1.03 * raw.std()


def test_steps_of_noise_or_of_one_estimate_alone_are_no_leaps():
    rng = np.random.default_rng(3)
    one, other = rng.normal(0, 0.1, (2, 3000))
    one[1000:] += 2.0
    assert np.ptp(sudden_steps(one, other)) == 0
    assert np.ptp(sudden_steps(one, one[::-1])) == 0


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.25, -2.5), (-0.7, 0.3)])
def test_a_constant_field_is_a_shift(shift):
    frame = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    fields = [np.full(frame.shape, s, np.float32) for s in shift]
    expected = shift_frame(frame, -shift[0], -shift[1])
    np.testing.assert_allclose(
        warp_frame(frame, *fields)[6:-6, 6:-6], expected[6:-6, 6:-6], atol=1e-5
    )
