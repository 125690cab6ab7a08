import numpy as np
import pytest
from scipy import stats

from pipeline.closed_loop.checks.arousal import arousal_matched
from pipeline.closed_loop.checks.confirmation import confirm
from pipeline.closed_loop.verdict.confusion import pool_matrices
from pipeline.closed_loop.verdict.outcome import (
    analysis_plan,
    benjamini_hochberg,
    compare,
    confusion,
    normalized,
    outcome_methods,
    pool,
    response_moments,
    sensitivity,
)
from pipeline.closed_loop.verdict.statistics import wilson

score = outcome_methods[outcome_methods.default]


def day_2(n=40, repeats=15, gain=1.5, other=0.5, seed=0, names=("mei", "rf")):
    """Gamma responses: own MEI `gain` times the own control, other images `other`."""
    rng = np.random.default_rng(seed)
    by_kind = {kind: [f"{kind}{i}" for i in range(n)] for kind in names}
    image = np.repeat(np.concatenate(list(by_kind.values())), repeats)
    drive = np.full((len(names), n, n), other)
    for k, kind in enumerate(names):
        drive[k, np.arange(n), np.arange(n)] = gain if kind == "mei" else 1.0
    mean = np.repeat(drive.reshape(-1, n), repeats, axis=0)
    order = rng.permutation(len(image))
    return rng.gamma(2.0, mean / 2.0)[order], image[order], by_kind


def test_moments_are_those_of_numpy():
    responses, image, _ = day_2(5)
    moments = response_moments(responses, image)
    for row, name in enumerate(moments.image):
        mine = responses[image == name]
        np.testing.assert_allclose(moments.mean[row], mine.mean(0))
        np.testing.assert_allclose(moments.sem[row], mine.std(0, ddof=1) / np.sqrt(len(mine)))
        assert (moments.n[row] == len(mine)).all()


@pytest.mark.numerical
def test_days_pooled_by_sums_are_all_trials_together():
    responses, image, _ = day_2(6, seed=1)
    responses[3:9, 2] = np.nan
    together = response_moments(responses, image)
    cuts = np.split(np.arange(len(image)), [11, 70])
    pooled = pool([response_moments(responses[c], image[c]) for c in cuts])
    row = pooled.at(together.image)
    np.testing.assert_array_equal(pooled.n[row], together.n)
    np.testing.assert_allclose(pooled.mean[row], together.mean)
    np.testing.assert_allclose(pooled.variance[row], together.variance)


def test_normalizations():
    responses = np.random.default_rng(0).gamma(2, 3, (500, 3))
    responses[:, 1] = 4.0
    responses[5, 0] = np.nan
    sd, z = normalized(responses, "sd"), normalized(responses, "zscore")
    np.testing.assert_allclose(np.nanstd(sd[:, [0, 2]], axis=0), 1)
    np.testing.assert_allclose(np.nanmean(z[:, [0, 2]], axis=0), 0, atol=1e-12)
    assert np.isnan(sd[:, 1]).all()  # a constant has no scale
    np.testing.assert_array_equal(normalized(responses, "raw"), responses)
    with pytest.raises(ValueError, match="no normalization"):
        normalized(responses, "percent")


def test_welch_is_scipys():
    responses, image, by_kind = day_2(12)
    result = score(responses, image, by_kind, n_bootstrap=10)
    for row in result.comparisons.itertuples():
        a = responses[image == f"mei{row.neuron}", row.neuron]
        b = responses[image == f"rf{row.neuron}", row.neuron]
        expected = stats.ttest_ind(a, b, equal_var=False)
        np.testing.assert_allclose([row.t, row.p], expected)
        np.testing.assert_allclose(row.ratio, a.mean() / b.mean())
    adjusted = stats.false_discovery_control(result.comparisons.p)
    np.testing.assert_allclose(result.comparisons.p_adjusted, adjusted)
    population = result.populations.iloc[0]
    expected = stats.wilcoxon(result.comparisons.difference)
    np.testing.assert_allclose([population.wilcoxon_w, population.wilcoxon_p], expected)


def test_unrelated_responses_are_positive_at_no_more_than_the_nominal_rate():
    """Null control: 200 outcomes of an animal that does not see the images."""
    rng = np.random.default_rng(2)
    n, repeats, runs = 25, 10, 200
    by_kind = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "rf")}
    image = np.repeat(np.concatenate(list(by_kind.values())), repeats)
    raw = any_found = wilcoxon = bootstrap = first = 0
    for seed in range(runs):
        shape = rng.gamma(2, 0.5, n)  # neurons differ, images do not
        responses = rng.gamma(shape, 1.0, (len(image), n))
        result = score(responses, image, by_kind, n_bootstrap=100, seed=seed)
        raw += (result.comparisons.p < 0.05).sum()
        any_found += result.comparisons.significant.any()
        wilcoxon += result.populations.wilcoxon_p[0] < 0.05
        bootstrap += result.populations.bootstrap_p[0] < 0.05
        first += result.confusions["mei"].dominance
    tolerance = 3 * np.sqrt(0.05 * 0.95 / runs)
    assert raw / (runs * n) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / (runs * n))
    assert raw / (runs * n) >= 0.02  # a test that never rejects would pass the others
    for count in (any_found, wilcoxon, bootstrap):
        assert count / runs <= 0.05 + tolerance
    assert abs(first / runs - 1 / n) < 3 * np.sqrt(1 / n / runs)


def test_a_strong_effect_is_found_everywhere():
    responses, image, by_kind = day_2(40, 20, gain=3.0)
    result = score(responses, image, by_kind)
    population = result.populations.iloc[0]
    assert population.n == 40
    assert population.fraction == 1.0
    assert population.fraction_significant > 0.9
    assert population.wilcoxon_p < 1e-6
    assert population.bootstrap_p < 0.01
    assert population.difference_low > 0
    assert 2.6 < population.median_ratio < 3.4
    assert result.confusions["mei"].dominance == 1.0


def test_days_may_be_given_apart_and_a_day_may_lack_a_neuron():
    responses, image, by_kind = day_2(10, 20)
    half = len(image) // 2
    days = [responses[:half].copy(), responses[half:].copy()]
    days[1][:, 3] = np.nan
    result = score(days, [image[:half], image[half:]], by_kind, normalization="raw", n_bootstrap=10)
    table = result.responses.set_index(["neuron", "kind"])
    whole = responses[image == "mei4", 4]
    np.testing.assert_allclose(table.loc[(4, "mei"), "mean"], whole.mean())
    first = responses[:half][image[:half] == "mei3", 3]
    np.testing.assert_allclose(table.loc[(3, "mei"), "mean"], first.mean())
    assert table.loc[(3, "mei"), "n"] == len(first)


def test_silent_missing_and_unshown_neurons_are_nan_not_errors():
    responses, image, by_kind = day_2(8, 10)
    responses[:, 0] = 0.0  # silent
    responses[:, 1] = np.nan  # not found again
    by_kind["rf"][2] = None  # has no such image
    by_kind["rf"][3] = "never shown"
    responses[image == "mei4", 4] = np.where(np.arange(10) < 8, np.nan, 1.0)  # two trials left
    result = score(responses, image, by_kind, n_bootstrap=10)
    table = result.comparisons.set_index("neuron")
    assert not table.scored[[0, 1, 2, 3, 4]].any()
    assert table.scored[[5, 6, 7]].all()
    assert not table.significant[[0, 1, 2, 3, 4]].any()
    assert result.populations.n[0] == 3
    raw = score(responses, image, by_kind, normalization="raw", n_bootstrap=10)
    assert raw.comparisons.set_index("neuron").p[0] == 1.0  # silent: equal, and known to be
    with pytest.raises(ValueError, match="no 'mei' image"):
        score(responses, image, {"rf": by_kind["rf"]})


def test_compare_without_variance():
    ones, n = np.ones(2), np.full(2, 5)
    result = compare([1.0, 2.0], 0 * ones, n, [1.0, 1.0], 0 * ones, n)
    assert result.p[0] == 1
    assert np.isnan(result.p[1])
    assert not result.significant.any()


def test_benjamini_hochberg_ignores_nan():
    p = np.array([0.01, np.nan, 0.02, 0.9])
    known = np.isfinite(p)
    np.testing.assert_allclose(
        benjamini_hochberg(p)[known], stats.false_discovery_control(p[known])
    )
    assert np.isnan(benjamini_hochberg(p)[1])
    assert len(benjamini_hochberg([])) == 0


def test_confusion_of_known_matrices():
    tuned = confusion(np.eye(4) * 2 + 1)
    assert (tuned.dominance, tuned.mean_row_rank, tuned.mean_column_rank) == (1, 1, 1)
    np.testing.assert_allclose(tuned.scaled.max(1), 1)
    flat = confusion(np.ones((4, 4)))
    assert (flat.dominance, flat.mean_row_rank) == (0, 0.5)
    # neuron 0 responds most to everything: own rows lose, own column is still the best
    loud = np.eye(3) + np.array([[5.0, 0, 0]] * 3)
    assert confusion(loud).dominance == pytest.approx(1 / 3)
    assert confusion(loud).mean_column_rank == 1
    gaps = np.full((3, 3), np.nan)
    gaps[0] = [2, 1, 1]
    assert confusion(gaps).dominance == 1
    with pytest.raises(ValueError, match="square"):
        confusion(np.ones((2, 3)))


def test_sensitivity_drops_the_wrong_cells():
    responses, image, by_kind = day_2(40, 20, gain=3.0)
    wrong = np.arange(20)
    responses[:, wrong] = np.random.default_rng(0).gamma(2, 0.5, (len(image), 20))
    probability = np.where(np.arange(40) < 20, 0.6, 0.95)
    table = sensitivity(score(responses, image, by_kind), probability, [0.5, 0.9, 1.0])
    assert table.n.tolist() == [40, 20, 0]
    assert table.fraction[1] == 1.0
    assert table.fraction[0] < 0.9


def test_animals_widen_the_interval():
    responses, image, by_kind = day_2(40, 20, gain=1.3)
    result = [
        score(responses, image, by_kind, animal=animal).populations.iloc[0]
        for animal in (None, np.repeat([1, 2], 20))
    ]
    assert result[0].median_difference == result[1].median_difference
    widths = [r.difference_high - r.difference_low for r in result]
    assert widths[1] > 0.8 * widths[0]


def test_wilson_interval_is_scipys():
    expected = stats.binomtest(13, 17).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(13, 17), expected)


def test_the_analysis_plan_is_frozen_by_its_hash():
    plan = analysis_plan(["mei", "rf", "gabor"])
    assert plan["comparisons"] == [["mei", "rf"], ["mei", "gabor"]]
    assert analysis_plan(["mei", "rf", "gabor"])["hash"] == plan["hash"]
    assert analysis_plan(["mei", "rf", "gabor"], params={"alpha": 0.01})["hash"] != plan["hash"]


def test_function_confirms_right_matches_and_not_shuffled_ones():
    rng = np.random.default_rng(0)
    tuning = rng.normal(size=(30, 12))
    image = np.repeat([f"n{i}" for i in range(30)], 8)
    one, two = (np.repeat(tuning, 8, axis=0) + rng.normal(size=(240, 12)) for _ in range(2))
    right = confirm(one, image, two, image)
    assert right.median_correlation > 0.8
    assert right.fraction_first == 1
    assert right.n_images == 30
    wrong = confirm(one, image, np.roll(two, 1, axis=1), image)
    assert abs(wrong.median_correlation) < 0.3
    assert wrong.fraction_first < 0.3
    with pytest.raises(ValueError, match="images are shown"):
        confirm(one, image, two, np.char.add(image, "other"))


def test_arousal_matching_removes_an_effect_of_arousal_alone():
    """A pupil that is wider in MEI trials drives all neurons; the images do nothing."""
    rng = np.random.default_rng(0)
    n, repeats = 30, 60
    by_kind = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "rf")}
    image = np.repeat(np.concatenate(list(by_kind.values())), repeats)
    kind = np.where(np.char.startswith(image, "mei"), "mei", "rf")
    pupil = rng.normal(np.where(kind == "mei", 0.8, 0.0), 1.0)
    pupil[::50] = np.nan
    responses = np.exp(0.5 * np.nan_to_num(pupil))[:, None] * rng.gamma(2, 0.5, (len(image), n))
    keep = arousal_matched(kind, pupil, n_bins=10)
    assert not keep[::50].any()
    assert (kind[keep] == "mei").sum() == (kind[keep] == "rf").sum()
    assert keep.mean() > 0.4
    naive = score(responses, image, by_kind, n_bootstrap=10).populations.iloc[0]
    fair = score(responses[keep], image[keep], by_kind, n_bootstrap=10).populations.iloc[0]
    assert naive.wilcoxon_p < 1e-4
    assert fair.wilcoxon_p > 0.01
    assert abs(fair.median_difference) < 0.4 * naive.median_difference


def test_pooled_matrices_are_the_means_over_the_trials_of_all_days():
    rng = np.random.default_rng(5)
    days = {"one": (["a", "b", "c"], [4, 2, 3]), "two": (["c", "d", "a"], [5, 1, 2])}
    trials = {}  # (image of, response of) -> values
    matrices, neurons, repeats = [], [], []
    for names, shown in days.values():
        matrix = np.zeros((3, 3))
        for row, image in enumerate(names):
            for column, neuron in enumerate(names):
                values = rng.gamma(2, 1, shown[row])
                trials.setdefault((image, neuron), []).extend(values)
                matrix[row, column] = values.mean()
        matrices.append(matrix)
        neurons.append(names)
        repeats.append(shown)
    every, pooled = pool_matrices(matrices, neurons, repeats)
    assert every == ["a", "b", "c", "d"]
    for row, image in enumerate(every):
        for column, neuron in enumerate(every):
            expected = np.mean(trials.get((image, neuron), [np.nan]))
            np.testing.assert_allclose(pooled[row, column], expected)
    assert np.isnan(pooled[1, 3])  # never in one recording
    lost = matrices[1].copy()
    lost[0] = np.nan  # of a day that did not show the image, the other day's stays
    again = pool_matrices([matrices[0], lost], neurons, repeats)[1]
    np.testing.assert_allclose(again[2, 2], matrices[0][2, 2])
    with pytest.raises(ValueError, match="2 neurons"):
        pool_matrices([np.zeros((3, 3))], [["a", "b"]], [[1, 1]])
