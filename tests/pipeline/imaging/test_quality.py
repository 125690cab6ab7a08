"""Numbers of a scan against movies whose light, noise and events are known."""

import dataclasses

import numpy as np
import pytest

from pipeline.imaging.movie import ArrayMovie
from pipeline.imaging.quality import (
    Evidence,
    epileptiform_events,
    limits,
    not_measured,
    relative_drift,
    saturated_share,
)
from pipeline.imaging.summary import summarize

FPS = 10.0
GAIN, ZERO = 8.0, 100.0


def photons(level=2.0, frames=600, change=0.0, seed=0):
    """Return a movie of Poisson counts: a bright half and a dark half, brightness changing."""
    rng = np.random.default_rng(seed)
    place = np.full((24, 32), 0.5 * level)
    place[:, 16:] = 1.5 * level
    course = 1 + change * (np.linspace(0, 1, frames) - 0.5)
    counts = rng.poisson(place * course[:, None, None])
    return ArrayMovie((counts * GAIN + ZERO).astype(np.int16), FPS, (2.0, 2.0))


def evidence(movie, **changes):
    summary = summarize(movie)
    return dataclasses.replace(Evidence(movie, summary.intensity, summary.contrast), **changes)


def test_numbers_of_a_healthy_scan_are_those_it_was_made_with():
    found = limits(evidence(photons()))
    assert found.gain.gain == pytest.approx(GAIN, rel=0.05)
    assert found.photons == pytest.approx(2.0, rel=0.1)
    assert found.mean_intensity == pytest.approx(ZERO + 2 * GAIN, rel=0.01)
    assert abs(found.intensity_drift) < 0.02
    assert (found.saturated, found.epileptiform_per_min, found.findings) == (0.0, 0.0, [])


@pytest.mark.parametrize(
    ("name", "movie", "changes"),
    [
        ("photons", photons(level=0.02), {}),
        ("intensity_drift", photons(change=-0.8), {}),
        ("raster_drift", photons(), {"raster_drift_px": -1.5}),
        ("motion_rms", photons(), {"motion_rms_px": 6.0}),  # 12 um
        ("motion_outliers", photons(), {"motion_outliers": 0.2}),
        ("motion_refused", photons(), {"motion_accepted": False}),
    ],
)
def test_each_fault_is_found_and_no_other(name, movie, changes):
    found = limits(evidence(movie, **changes))
    assert [finding.name for finding in found.findings] == [name]
    assert found.findings[0].text


def test_limits_are_parameters():
    sample = evidence(photons(change=-0.8))
    assert limits(sample, max_intensity_drift=1.0).findings == []


def test_drift_is_the_change_over_the_mean():
    assert relative_drift(np.linspace(150, 50, 400), 0.0) == pytest.approx(-1.0, rel=0.03)
    assert relative_drift(np.linspace(150, 50, 400), -100.0) == pytest.approx(-0.5, rel=0.03)


def test_only_brief_events_of_the_whole_field_are_epileptiform():
    rng = np.random.default_rng(0)
    course = 100 + rng.normal(0, 1, 3000)
    brief, waves = [200, 900, 1500, 2500], [500, 1900]
    for at in brief:
        course[at : at + 2] += 60
    for at in waves:  # 2 s long: normal activity
        course[at : at + 20] += 60
    found = epileptiform_events(course, FPS)
    assert len(found) == len(brief)
    assert all(np.min(np.abs(found - at)) <= 1 for at in brief)


def test_pixels_cut_off_below_the_highest_value_of_the_type_count_as_saturated():
    movie = photons(level=40.0)
    ceiling = ZERO + 60 * GAIN
    cut = ArrayMovie(np.minimum(movie.array, int(ceiling)), FPS)
    expected = np.mean(movie.array >= ceiling)
    assert saturated_share(movie) == 0.0
    assert saturated_share(cut) == pytest.approx(expected, rel=0.1)


def test_l6_image_is_the_sixth_root_of_the_sixth_central_moment():
    rng = np.random.default_rng(0)
    frames = rng.normal(500, 3, (700, 5, 6)).astype(np.float32)
    frames[40, 2, 3] += 300  # one short event
    l6 = summarize(ArrayMovie(frames, FPS)).l6
    exact = np.mean((frames.astype(float) - frames.mean(0, dtype=float)) ** 6, axis=0) ** (1 / 6)
    np.testing.assert_allclose(l6, exact, rtol=1e-4)
    assert np.unravel_index(l6.argmax(), l6.shape) == (2, 3)


def test_what_was_not_measured_is_neither_fit_nor_unfit():
    nothing = not_measured()
    assert nothing.fit is None
    assert nothing.findings == []
    assert np.isnan(relative_drift(np.array([5.0])))
