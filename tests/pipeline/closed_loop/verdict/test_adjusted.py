import numpy as np
import pytest
from scipy import stats

from pipeline.closed_loop.verdict.outcome import analysis_plan, outcome_methods

permuted = outcome_methods["gain_permutation"]
FEW = {"n_permutations": 499, "n_bootstrap": 1}


def day_2(seed, *, n=40, repeats=15, ratio=1.0, gain_sd=0.0, active=0.5):
    """Return responses, images, own images and gains of trials that are zero or exponential."""
    rng = np.random.default_rng(seed)
    own = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "rf")}
    index = rng.permutation(np.repeat(np.arange(2 * n), repeats))
    gain = np.exp(gain_sd * rng.normal(size=(len(index), 1)) * np.ones(n))
    rate = np.full((len(index), n), 0.3)
    rate[np.arange(len(index)), index % n] = np.where(index < n, ratio, 1.0)
    size = rng.exponential(rate * gain / active)
    responses = np.where(rng.random(rate.shape) < active, size, 0.0)
    return responses, np.concatenate(list(own.values()))[index], own, gain


def test_without_an_effect_a_twentieth_of_the_neurons_is_below_five_percent():
    p, whole = [], []
    for seed in range(20):
        responses, image, own, gain = day_2(seed, gain_sd=0.5, active=0.3)
        result = permuted(responses, image, own, gain=gain, seed=seed, **FEW)
        p.extend(result.comparisons.p)
        whole.append(result.populations.wilcoxon_p[0])
    # 800 neurons: two standard errors are 1.5 points
    assert 0.03 < np.mean(np.array(p) <= 0.05) < 0.07
    assert np.mean(np.array(whole) <= 0.05) <= 0.2


def test_a_known_gain_finds_more_than_welch_and_than_an_unknown_one():
    found = np.zeros(3)
    for seed in range(4):
        responses, image, own, gain = day_2(seed, ratio=1.4, gain_sd=0.6, active=1.0)
        for k, (method, given) in enumerate(
            [("welch_bh", {}), ("gain_permutation", {}), ("gain_permutation", {"gain": gain})]
        ):
            more = FEW if method == "gain_permutation" else {"n_bootstrap": 1}
            table = outcome_methods[method](responses, image, own, **given, **more).comparisons
            found[k] += ((table.p <= 0.05) & (table.difference > 0)).mean() / 4
    assert found[2] > 1.1 * max(found[0], found[1])


def test_one_trial_far_out_does_not_decide():
    responses, image, own, _ = day_2(0, n=2, ratio=3.0, active=1.0, repeats=20)
    far = responses.copy()
    far[np.flatnonzero(image == "rf0")[0], 0] = 60 * responses.max()
    welch = outcome_methods["welch_bh"](far, image, own, n_bootstrap=1).comparisons
    mine = permuted(far, image, own, **FEW).comparisons
    assert welch.difference[0] < 0  # the mean of the control is that one trial
    assert mine.p[0] < welch.p[0]


def test_p_is_that_of_all_permutations():
    """Six trials: 20 ways to choose three, and the largest difference is 2 of 20 two-sided."""
    responses = np.array([[5.0, 6.0, 7.0, 1.0, 2.0, 3.0]]).T
    image = np.array(["a"] * 3 + ["b"] * 3)
    result = permuted(responses, image, {"mei": ["a"], "rf": ["b"]}, n_permutations=20_000)
    np.testing.assert_allclose(result.comparisons.p[0], 0.1, atol=0.01)
    whole = stats.wilcoxon(result.comparisons.difference).pvalue
    assert result.populations.wilcoxon_p[0] == whole


def test_days_are_permuted_each_for_itself():
    """A day that responds ten times as strongly is no effect, however the images are spread."""
    rng = np.random.default_rng(1)
    days, names = [], []
    for level, own, other in ((1.0, 12, 4), (10.0, 4, 12)):
        days.append(level * rng.gamma(3.0, size=(own + other, 30)))
        names.append(np.array(["a"] * own + ["b"] * other))
    images = {"mei": ["a"] * 30, "rf": ["b"] * 30}
    result = permuted(days, names, images, normalization="raw", **FEW)
    assert (result.comparisons.p <= 0.05).mean() < 0.2
    assert (outcome_methods["welch_bh"](days, names, images, normalization="raw", n_bootstrap=1)
            .comparisons.p <= 0.05).mean() > 0.5  # fmt: skip


def test_silent_and_missing_neurons_are_no_error():
    responses, image, own, gain = day_2(3, n=4)
    responses[np.isin(image, ["mei0", "rf0"]), 0] = 0.0
    responses[:, 1] = np.nan
    own["rf"][2] = None
    gain[::3] = np.nan
    table = permuted(responses, image, own, gain=gain, **FEW).comparisons
    assert (table.p[0], table.difference[0]) == (1.0, 0.0)
    np.testing.assert_array_equal(table.scored, [True, False, False, True])
    with pytest.raises(ValueError, match="do not fit"):
        permuted(responses, image, own, gain=gain[:-1], **FEW)


def test_is_frozen_in_the_analysis_plan_like_the_others():
    plan = analysis_plan(["mei", "rf"], method="gain_permutation", params={"seed": 3})
    assert plan["params"]["n_permutations"] == 4999
    assert plan["hash"] != analysis_plan(["mei", "rf"])["hash"]
