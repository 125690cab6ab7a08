import numpy as np
import pytest

from pipeline.dataset import reliability_methods
from pipeline.errors import DataError


def _measure(name, responses, ids, **params):
    return reliability_methods[name](responses, ids, **params)


@pytest.fixture(scope="module")
def gaussian():
    """200 images x 8 repeats; signal sd 1, noise sd 0, 1, 2 and no signal at all."""
    rng = np.random.default_rng(0)
    signal = np.repeat(rng.normal(size=(200, 1)), 8, axis=0)
    noise = rng.normal(size=(1600, 4))
    responses = signal * [1, 1, 1, 0] + noise * [0, 1, 2, 1]
    return responses, np.repeat(np.arange(200), 8)


def test_oracle_of_two_images_and_two_repeats_by_hand():
    # pairs (r, other): (1,2) (2,1) (4,6) (6,4); means 13/4 both
    responses, ids = np.array([[1.0], [4.0], [2.0], [6.0]]), [0, 1, 0, 1]
    d = np.array([1, 2, 4, 6]) - 13 / 4
    o = np.array([2, 1, 6, 4]) - 13 / 4
    assert _measure("oracle", responses, ids)[0] == pytest.approx((d @ o) / (d @ d))


def test_oracle_is_one_without_noise_near_zero_without_signal_and_as_the_theory_says(gaussian):
    oracle = _measure("oracle", *gaussian)
    assert oracle[0] == pytest.approx(1.0)
    # cov = V; var r = V + N; var of the mean of 7 others = V + N / 7
    theory = [1 / np.sqrt((1 + n) * (1 + n / 7)) for n in (1.0, 4.0)]
    np.testing.assert_allclose(oracle[1:3], theory, atol=0.05)
    assert abs(oracle[3]) < 4 / np.sqrt(1600)


@pytest.mark.numerical
def test_unequal_repeats_equal_the_definition_written_as_loops():
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    rng.shuffle(ids)
    responses = rng.gamma(1.0, size=(len(ids), 1)) + ids[:, None] * 0.1
    x, y = [], []
    for trial, name in enumerate(ids):
        others = [r for r in range(len(ids)) if ids[r] == name and r != trial]
        if others:
            x.append(responses[trial, 0])
            y.append(responses[others, 0].mean())
    assert _measure("oracle", responses, ids)[0] == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_powers_explainable_variance_and_ceilings_find_the_truth(gaussian):
    np.testing.assert_allclose(_measure("signal_power", *gaussian), [1, 1, 1, 0], atol=0.2)
    np.testing.assert_allclose(_measure("noise_power", *gaussian), [0, 1, 4, 1], atol=0.2)
    fev = _measure("explainable_variance", *gaussian)
    np.testing.assert_allclose(fev, [1, 0.5, 0.2, 0], atol=0.06)
    ceiling = _measure("cc_max", *gaussian)
    theory = [np.sqrt(1 / (1 + n / 8)) for n in (0.0, 1.0, 4.0)]
    np.testing.assert_allclose(ceiling[:3], theory, atol=0.02)
    half = _measure("split_half", *gaussian)
    theory = [1 / (1 + n / 8) for n in (0.0, 1.0, 4.0)]
    np.testing.assert_allclose(half[:3], theory, atol=0.04)


def test_signal_power_is_schoppes_formula_for_equal_repeats():
    block = np.random.default_rng(2).gamma(2.0, size=(7, 4)) + np.arange(7)[:, None]  # (images, j)
    expected = (block.sum(1).var(ddof=1) - block.var(0, ddof=1).sum()) / (4 * 3)
    power = _measure("signal_power", block.reshape(-1, 1), np.repeat(np.arange(7), 4))
    assert power[0] == pytest.approx(expected)


def test_the_conservative_oracle_never_flatters_a_model(gaussian):
    conservative = _measure("conservative_oracle", *gaussian)
    true = [1 / np.sqrt(1 + n) for n in (0.0, 1.0, 4.0)]  # correlation with the true mean
    assert (conservative[:3] >= np.array(true) - 0.01).all()
    assert (conservative >= _measure("oracle", *gaussian) - 1e-9).all()


def test_bootstrap_null_is_small_for_tuned_and_uniform_for_untuned_units():
    rng = np.random.default_rng(3)
    ids = np.repeat(np.arange(20), 5)
    tuned = np.repeat(rng.normal(size=(20, 10)), 5, axis=0) + rng.normal(size=(100, 10))
    p = _measure("bootstrap_null", np.hstack([tuned, rng.normal(size=(100, 200))]), ids)
    assert (p[:10] < 0.02).all()
    assert abs((p[10:] <= 0.1).mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize("name", list(reliability_methods))
def test_a_constant_unit_is_nan_and_others_are_not_touched(name, gaussian):
    responses, ids = gaussian[0][:160, 1:2], gaussian[1][:160]
    both = np.hstack([responses, np.full_like(responses, 0.1)])
    result = _measure(name, both, ids)
    assert np.isnan(result[1])
    assert result[0] == pytest.approx(_measure(name, responses, ids)[0])


def test_without_repeats_there_is_one_clear_error():
    with pytest.raises(DataError, match="repeated"):
        _measure("oracle", np.ones((5, 2)), np.arange(5))
