import numpy as np

from pipeline.simulate.score import cell_score, match_score, motion_rms, trace_correlations


def test_motion_error_ignores_the_template_but_not_the_noise():
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 5000))
    assert motion_rms((y + 3, x - 1), (y, x)) < 1e-12
    noise = rng.normal(scale=0.1, size=(2, 5000))
    np.testing.assert_allclose(
        motion_rms((y + noise[0], x + noise[1]), (y, x)), 0.1 * 2**0.5, rtol=0.05
    )


def test_silent_cells_count_neither_way():
    true = np.array([[10, 10], [20, 20], [30, 30], [40, 40]])
    active = np.array([True, True, False, True])
    found = np.array([[10.5, 10], [20, 21], [30, 30], [90, 90]])
    score = cell_score(found, true, active, radius_px=3)
    assert score.precision == 2 / 3
    assert score.recall == 2 / 3
    assert score.true_index.tolist() == [0, 1, 2, -1]


def test_a_cell_is_found_once():
    score = cell_score(
        np.array([[0, 0], [0, 1.0]]), np.array([[0, 0]]), np.array([True]), radius_px=3
    )
    assert score.true_index.tolist() == [0, -1]
    assert score.precision == 0.5


def test_trace_correlation_is_of_the_right_cell():
    true = np.random.default_rng(0).normal(size=(2, 100))
    r = trace_correlations(
        np.stack([true[1] * 2 + 5, true[0], true[0]]), true, np.array([1, 1, -1])
    )
    np.testing.assert_allclose(r[0], 1)
    assert abs(r[1]) < 0.5
    assert np.isnan(r[2])


def test_matches_are_scored_against_what_was_possible():
    source, target = np.array([4, 5, 6, -1]), np.array([5, 4, 7])
    assert match_score(np.array([[0, 1], [1, 2]]), source, target) == (0.5, 0.5)
    assert match_score(np.empty((0, 2), int), source, target) == (0.0, 0.0)
