"""Every measure against its definition, written once more as loops over trials of one unit."""

import math

import numpy as np
import pytest

from pipeline.dataset import reliability_methods
from pipeline.model.evaluate import metrics
from pipeline.model.evaluation.comparison import compare
from pipeline.model.evaluation.intervals import intervals, weighted_metrics


def mean(values):
    return math.fsum(values) / len(values)


def variance(values, ddof=1):
    centre = mean(values)
    return math.fsum((v - centre) ** 2 for v in values) / (len(values) - ddof)


def pearson(x, y):
    mx, my = mean(x), mean(y)
    top = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return top / math.sqrt(
        math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y)
    )


def grouped(values, ids):
    groups = {}
    for value, name in zip(values, ids, strict=True):
        groups.setdefault(name, []).append(value)
    return list(groups.values())


def leave_one_out(groups):
    pairs = []
    for group in groups:
        for i, value in enumerate(group):
            others = [v for j, v in enumerate(group) if j != i]
            if others:
                pairs.append((value, mean(others)))
    return pairs


def signal_power(groups):
    sizes = {len(group) for group in groups}
    if len(sizes) == 1:  # Schoppe's formula
        (n,) = sizes
        of_sum = variance([math.fsum(group) for group in groups])
        each = math.fsum(variance([group[j] for group in groups]) for j in range(n))
        return (of_sum - each) / (n * (n - 1))
    return variance([mean(g) for g in groups]) - mean([variance(g) / len(g) for g in groups])


def by_loops(r, p, ids):
    """Return all measures of one unit from lists, trials with NaN left out."""
    known = [k for k in range(len(r)) if not (math.isnan(r[k]) or math.isnan(p[k]))]
    r, p, ids = ([x[k] for k in known] for x in (r, p, ids))
    responses, predictions = grouped(r, ids), grouped(p, ids)
    repeated = [k for k, group in enumerate(responses) if len(group) > 1]
    again = [responses[k] for k in repeated]
    noise, total = mean([variance(group) for group in again]), variance(r)
    mse = mean([(a - b) ** 2 for a, b in zip(r, p, strict=True)])
    x = [mean(responses[k]) for k in repeated]
    y = [mean(predictions[k]) for k in repeated]
    n = len(x)
    covariance = math.fsum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y, strict=True))
    oracle = pearson(*zip(*leave_one_out(responses), strict=True))
    power = signal_power(again)
    return {
        "single_trial": pearson(r, p),
        "to_average": pearson([mean(g) for g in responses], [mean(g) for g in predictions]),
        "oracle": oracle,
        "fraction_oracle": pearson(r, p) / oracle,
        "fev": (total - noise) / total,
        "feve": 1 - (mse - noise) / (total - noise),
        "cc_norm": covariance / (n - 1) / math.sqrt(variance(y) * power),
    }


def recording(case, seed=0, units=5):
    """Responses and predictions of tuned units; the kind of repeats is the case's."""
    rng = np.random.default_rng(seed)
    repeats = np.full(30, 7) if case == "equal" else rng.integers(1, 9, 30)
    ids = rng.permutation(np.repeat(np.arange(30), repeats))
    signal = rng.gamma(2.0, size=(30, units))
    responses = signal[ids] * rng.gamma(3.0, 1 / 3, size=(len(ids), units))
    predictions = 0.7 * signal[ids] + 0.4 * rng.normal(size=(len(ids), units)) + 0.3
    if case == "lost trials":
        responses[rng.random(responses.shape) < 0.15] = np.nan
        predictions[rng.random(responses.shape) < 0.05] = np.nan
    return responses, predictions, ids


@pytest.mark.parametrize("case", ["equal", "unequal", "lost trials"])
@pytest.mark.numerical
def test_every_measure_is_its_definition_to_nine_decimals(case):
    responses, predictions, ids = recording(case)
    found = metrics(responses, predictions, ids)
    for unit in range(responses.shape[1]):
        expected = by_loops(
            responses[:, unit].tolist(), predictions[:, unit].tolist(), ids.tolist()
        )
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name][unit] == pytest.approx(value, abs=1e-9), name


@pytest.mark.numerical
def test_a_lost_trial_of_one_unit_changes_no_other():
    responses, predictions, ids = recording("equal")
    before = metrics(responses, predictions, ids)
    responses[3, 1] = np.nan
    after = metrics(responses, predictions, ids)
    others = [0, 2, 3, 4]
    for name in before:
        np.testing.assert_array_equal(after[name][others], before[name][others], err_msg=name)


def test_a_constant_unit_has_no_measure_and_no_interval():
    responses, predictions, ids = recording("unequal")
    responses[:, 2] = 0.1
    found, bounds = metrics(responses, predictions, ids), intervals(responses, predictions, ids)
    for name, values in found.items():
        assert np.isnan(values[2]), name
        assert np.isnan(bounds[name][0][2]), name
        assert np.isfinite(np.delete(bounds[name], 2, axis=1)).all(), name


@pytest.mark.parametrize("case", ["equal", "unequal", "lost trials"])
@pytest.mark.numerical
def test_every_reliability_is_its_definition(case):
    responses, _, ids = recording(case)
    measured = {
        name: reliability_methods[name](responses, ids)
        for name in reliability_methods
        if name not in ("split_half", "bootstrap_null")  # random: tested by themselves
    }
    for unit in range(responses.shape[1]):
        pairs = zip(responses[:, unit].tolist(), ids.tolist(), strict=True)
        shown_twice = [(v, i) for v, i in pairs if np.sum(ids == i) > 1]
        r, names = zip(*[(v, i) for v, i in shown_twice if not math.isnan(v)], strict=True)
        groups = grouped(r, names)
        again = [group for group in groups if len(group) > 1]
        spread = variance([mean(g) for g in groups], ddof=0)
        within = mean([variance(g, ddof=0) for g in again])
        noise, total = mean([variance(g) for g in again]), variance(r)
        power = signal_power(again)
        expected = {
            "oracle": pearson(*zip(*leave_one_out(groups), strict=True)),
            "conservative_oracle": math.sqrt(spread / (spread + within)),
            "signal_power": power,
            "noise_power": noise,
            "explainable_variance": (total - noise) / total,
            "cc_max": min(1, math.sqrt(max(power, 0) / variance([mean(g) for g in groups]))),
        }
        assert set(expected) == set(measured)
        for name, value in expected.items():
            assert measured[name][unit] == pytest.approx(value, abs=1e-9), name


def test_split_half_of_two_repeats_is_the_correlation_of_the_halves():
    # with two repeats a split chooses, per image, which one is in which half: by hand for 3 images
    responses = np.array([1.0, 2.0, 4.0, 3.0, 7.0, 9.0])[:, None]
    ids = [0, 0, 1, 1, 2, 2]
    splits = []
    for bits in range(8):
        first = [responses[2 * k + (bits >> k & 1), 0] for k in range(3)]
        second = [responses[2 * k + 1 - (bits >> k & 1), 0] for k in range(3)]
        splits.append(pearson(first, second))
    found = reliability_methods["split_half"](responses, ids, n_splits=300, corrected=False)
    error = math.sqrt(variance(splits) / 300)
    assert found[0] == pytest.approx(mean(splits), abs=4 * error)
    corrected = reliability_methods["split_half"](responses, ids, n_splits=300)
    assert corrected[0] == pytest.approx(2 * found[0] / (1 + found[0]))


def test_bootstrap_null_counts_the_shuffles_that_reach_the_oracle():
    # 2 images x 2 repeats, (0, 0) and (1, 1): the oracle is 1 for 1/3 of the assignments, else < 0
    p = reliability_methods["bootstrap_null"](
        np.array([[0.0], [0.0], [1.0], [1.0]]), [0, 0, 1, 1], n_shuffles=500
    )
    assert p[0] == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 500))


@pytest.mark.parametrize("case", ["unequal", "lost trials"])
def test_with_every_image_once_the_bootstrap_gives_the_measures_themselves(case):
    responses, predictions, ids = recording(case)
    number = np.unique(ids, return_inverse=True)[1]
    ones = weighted_metrics(responses, predictions, number, np.ones((1, number.max() + 1)))
    for name, values in metrics(responses, predictions, ids).items():
        np.testing.assert_allclose(ones[name][0], values, atol=1e-9, err_msg=name)


def test_an_image_that_weighs_two_counts_as_two_images():
    responses, predictions, ids = recording("unequal")
    number = np.unique(ids, return_inverse=True)[1]
    weights = np.ones((1, 30))
    weights[0, 4], weights[0, 9] = 2, 0
    kept, twice = number != 9, number == 4
    doubled = [np.concatenate([a[kept], a[twice]]) for a in (responses, predictions)]
    names = np.concatenate([number[kept], np.full(twice.sum(), 99)])
    expected = metrics(*doubled, names)
    for name, values in weighted_metrics(responses, predictions, number, weights).items():
        np.testing.assert_allclose(values[0], expected[name], atol=1e-9, err_msg=name)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(100, 400))  # 400 units that are draws of one experiment
    ids = np.repeat(np.arange(100), 4)
    responses = signal[ids] + rng.normal(size=(400, 400))
    low, high = intervals(responses, signal[ids], ids, n_samples=300)["single_trial"]
    true = 1 / np.sqrt(2)
    held = ((low <= true) & (true <= high)).mean()
    assert 0.90 < held < 0.985


def test_a_comparison_is_paired_and_leaves_unknown_units_out():
    rng = np.random.default_rng(2)
    ln = rng.uniform(0, 1, 200)
    found = compare(np.append(ln + 0.05 + 0.01 * rng.normal(size=200), np.nan), np.append(ln, 0.5))
    assert found.n_units == 200
    assert found.low < 0.05 < found.high
    assert found.high - found.low < 0.005  # units differ by far more than models do
    assert found.share_better > 0.99
    assert found.p < 1e-20
    assert compare(ln, ln).p == 1.0
    with pytest.raises(ValueError, match="one length"):
        compare(ln, ln[1:])
