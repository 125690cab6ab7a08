"""What is fixed to the scanner is found, and motion does not lock to it."""

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.imaging.motion import motion_methods
from pipeline.imaging.motion.fixed import WithoutFixed, fixed_pattern
from pipeline.imaging.movie import ArrayMovie, RasterCorrected
from pipeline.imaging.quality import Evidence, quality_methods

SIZE = 96


@pytest.fixture(scope="module")
def moving(simulator):
    """A field of 96 x 96 px that moves by up to 3 px."""
    return simulator(seed=3, size=SIZE, frames=240, cells=25, motion_px=2.0, raster_px=0.0)


def bright_lines(movie):
    movie[:, :3] = movie.max()


def noisy_lines(movie):
    movie[:, :3] += np.random.default_rng(0).poisson(20, movie[:, :3].shape).astype(np.int16) * 200


def black_borders(movie):
    movie[:, :, :6] = movie[:, :, -6:] = 0


def dead_rows(movie):
    movie[:, 40:44] = 0


def stripes(movie):
    movie[:, ::16] += 2000


def blocked_square(movie):
    movie[:, 40:60, 30:50] = 0


def stuck_pixels(movie):
    movie[:, 30, 40] = movie[:, 60, 20] = 30000


PATTERNS = [
    bright_lines,
    noisy_lines,
    black_borders,
    dead_rows,
    stripes,
    blocked_square,
    stuck_pixels,
]


def error(result, truth):
    """Return the rms error of the shifts (px), less a constant."""
    off = np.stack([result.y_shifts - truth.y, result.x_shifts - truth.x])
    off -= np.median(off, axis=1, keepdims=True)
    return float(np.sqrt((off**2).sum(axis=0).mean()))


def with_pattern(moving, pattern):
    movie = moving.movie.astype(np.int16).copy()
    pattern(movie)
    return ArrayMovie(movie, moving.fps)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_rigid_shifts_are_those_of_the_tissue(moving, pattern):
    plain = motion_methods["rigid"](ArrayMovie(moving.movie, moving.fps))
    found = motion_methods["rigid"](with_pattern(moving, pattern))
    assert plain.fixed is None
    assert found.fixed.any()
    assert found.accepted
    assert error(found, moving) < max(0.1, 1.4 * error(plain, moving))


@pytest.mark.parametrize("pattern", [bright_lines, stuck_pixels])
def test_piecewise_shifts_are_those_of_the_tissue(moving, pattern):
    found = motion_methods["piecewise"](with_pattern(moving, pattern))
    assert found.accepted
    assert error(found, moving) < 0.15


def test_a_pixel_is_found_after_the_raster_phase_has_spread_it(moving):
    movie = moving.movie.astype(np.int16).copy()
    movie[:, 51, 50] = 30000
    fixed = fixed_pattern(RasterCorrected(ArrayMovie(movie, moving.fps), 1.5))
    assert fixed[51, 48:51].all()
    assert fixed.sum() < 40


@pytest.mark.parametrize("photons", [0.5, 25.0])
@pytest.mark.parametrize("motion_px", [0.0, 1.0])
def test_tissue_is_not_fixed(simulator, photons, motion_px):
    field = simulator(seed=5, size=SIZE, frames=120, photons=photons, motion_px=motion_px)
    assert not fixed_pattern(ArrayMovie(field.movie, field.fps)).any()
    assert not fixed_pattern(RasterCorrected(ArrayMovie(field.movie, field.fps), 1.7)).any()


def test_a_movie_that_is_mostly_fixed_is_refused_in_one_line(moving):
    movie = moving.movie.copy()
    movie[:, :60] = 0
    for method in ("rigid", "piecewise"):
        with pytest.raises(DataError, match=r"movement cannot be told.*crop the movie") as refused:
            motion_methods[method](ArrayMovie(movie, moving.fps))
        assert "\n" not in str(refused.value)


def test_a_field_without_structure_gives_a_result_and_no_numpy_error():
    flat = np.random.default_rng(0).poisson(5, (210, 64, 64)).astype(np.int16)
    flat[:, 30, 30] = 2000
    result = motion_methods["piecewise"](ArrayMovie(flat, 10.0))
    assert np.isfinite(result.y_shifts).all()


def test_fixed_pixels_show_their_neighbors_and_others_stay(moving):
    fixed = np.zeros((SIZE, SIZE), bool)
    fixed[:2] = True
    raw = moving.movie
    seen = WithoutFixed(ArrayMovie(raw, moving.fps), fixed)[3:5]
    np.testing.assert_array_equal(seen[:, 2:], raw[3:5, 2:])
    np.testing.assert_array_equal(seen[:, 0], raw[3:5, 2])


def test_quality_names_the_pattern(moving):
    movie = with_pattern(moving, bright_lines)
    bright = movie.array.mean((1, 2), dtype=float)
    found = quality_methods["limits"](Evidence(movie, bright, bright))
    assert "fixed_pattern" in {finding.name for finding in found.findings}
    plain = ArrayMovie(moving.movie, moving.fps)
    found = quality_methods["limits"](Evidence(plain, bright, bright))
    assert "fixed_pattern" not in {finding.name for finding in found.findings}
