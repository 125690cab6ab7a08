"""What is expected of targets: errors, shrinkage and the rule that uses them."""

import numpy as np
import pytest

from pipeline.mei.targets import Evidence, TargetData, gather, regression, target_rules
from pipeline.mei.targets.evidence import CNN, LN, ORACLE


def given(evidence, **changes):
    n = len(evidence.value)
    cnn, ln, oracle = evidence.value.T
    fields = {
        "oracle": oracle,
        "cnn_score": cnn,
        "ln_score": ln,
        "cnn_fraction": cnn / oracle,
        "ln_fraction": ln / oracle,
        "y_px": np.full(n, 50.0),
        "x_px": 20.0 + 30 * np.arange(n),
        "um_xyz": None,
        "field_size_px": (100, 30 * n + 40),
        "field": np.zeros(n, int),
        "um_per_px": 1.0,
        "evidence": evidence,
    }
    return TargetData(**{**fields, **changes})


def noisy_units(n, seed):
    """True correlations of units (n, 3), and evidence of very different errors."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=(n, 1))
    true = (
        np.array([0.4, 0.3, 0.45]) + quality * [0.12, 0.08, 0.15] + 0.03 * rng.normal(size=(n, 3))
    )
    error = rng.choice([0.02, 0.15], size=n)
    evidence = Evidence.assumed(*true.T, 1.0)
    covariance = evidence.covariance * (error**2)[:, None, None]
    noise = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), rng.normal(size=(n, 3)))
    return true, Evidence(true + noise, covariance)


def test_the_best_of_many_noisy_units_are_expected_to_be_what_they_are():
    true, measured = noisy_units(600, seed=0)
    found = regression(measured)
    for estimate, off in ((measured.value, 0.19), (found.value, 0.0)):
        best = np.argsort(-estimate[:, CNN])[:40]
        assert (estimate - true)[best, CNN].mean() == pytest.approx(off, abs=0.03)
    best = np.argsort(-found.value[:, CNN])[:40]
    lucky = np.argsort(-measured.value[:, CNN])[:40]
    assert true[best, CNN].mean() > true[lucky, CNN].mean() + 0.05
    z = (found.value - true)[:, CNN] / found.error(CNN)
    assert z.std() == pytest.approx(1, abs=0.1)


def test_well_known_units_are_left_alone_and_unknown_columns_follow_the_known_ones():
    true, _ = noisy_units(300, seed=1)
    sharp = Evidence.assumed(*true.T, 1e-3)
    np.testing.assert_allclose(regression(sharp).value, true, atol=0.01)
    partly = true.copy()
    partly[::2, ORACLE] = np.nan
    filled = regression(Evidence(partly, sharp.covariance)).value
    assert np.corrcoef(filled[::2, ORACLE], true[::2, ORACLE])[0, 1] > 0.9
    partly[:, ORACLE] = np.nan
    without = regression(Evidence(partly, sharp.covariance))
    assert np.isnan(without.value[:, ORACLE]).all()
    np.testing.assert_allclose(without.value[:, :2], true[:, :2], atol=0.01)


def recording(n_units, seed, spikes=0.0):
    """Validation trials, two predictions, repeated trials and their images; one unit a column."""
    rng = np.random.default_rng(seed)
    drive = rng.gamma(2.0, 0.5, size=(400, n_units))
    linear = drive + 0.6 * rng.normal(size=drive.shape)
    image = np.concatenate([rng.permutation(50) for _ in range(8)])
    still = rng.gamma(2.0, 0.5, size=(50, n_units))[image]
    trials = [rate * rng.exponential(size=rate.shape) for rate in (drive, still)]
    if spikes:
        trials[0][7] += spikes
    return trials[0], drive, linear, trials[1], image


def test_errors_are_what_scatters_between_recordings():
    evidence = gather(*recording(400, seed=0))
    for column in (CNN, LN, ORACLE):
        assert evidence.value[:, column].std() == pytest.approx(
            evidence.error(column).mean(), rel=0.2
        )
    assert evidence.contrast.std() == pytest.approx(evidence.contrast_error.mean(), rel=0.2)


def test_one_trial_does_not_decide_how_well_a_unit_is_predicted():
    plain, outlier = (gather(*recording(50, seed=2, spikes=s)) for s in (0.0, 100.0))
    assert np.abs(plain.value - outlier.value)[:, CNN].max() < 0.1


def test_without_repeats_there_is_no_oracle_and_a_silent_unit_has_no_score():
    y, cnn, ln, repeated, image = recording(5, seed=3)
    y[:, 0] = 0
    evidence = gather(y, cnn, ln, repeated[:0], image[:0])
    assert np.isnan(evidence.value[:, ORACLE]).all()
    assert np.isnan(evidence.value[0, CNN])
    result = target_rules["expected"](given(evidence))
    assert result.kept.tolist() == [False, True, True, True, True]
    assert result.reason[0] == "validation score of the CNN is not known"


def test_the_default_prefers_a_sure_unit_to_a_lucky_one():
    value = np.tile([0.4, 0.2, 0.4], (40, 1)) + 0.1 * np.linspace(-1, 1, 40)[:, None]
    value[0], value[1] = [0.62, 0.3, 0.3], [0.58, 0.3, 0.6]
    covariance = np.tile(0.02**2 * np.eye(3), (40, 1, 1))
    covariance[0] *= 100
    rank = target_rules[target_rules.default](given(Evidence(value, covariance))).rank
    assert rank[1] == 0
    assert rank[0] > 0


def test_units_known_to_be_linear_come_last_and_are_taken_when_there_are_no_others():
    n = 30
    value = np.column_stack([np.full(n, 0.6), np.full(n, 0.3), np.full(n, 0.6)])
    value += 0.05 * np.random.default_rng(0).normal(size=(n, 1))
    value[:10, LN] = value[:10, CNN]
    sharp = given(Evidence(value, np.tile(1e-6 * np.eye(3), (n, 1, 1))))
    result = target_rules["expected"](sharp)
    assert result.kept.all()
    assert result.rank[:10].min() == 20


def test_the_order_of_units_does_not_matter():
    _, measured = noisy_units(60, seed=4)
    order = np.random.default_rng(0).permutation(60)
    turned = Evidence(measured.value[order], measured.covariance[order])
    x = 20.0 + 30 * np.arange(60)
    first = target_rules["expected"](given(measured, x_px=x)).rank
    again = target_rules["expected"](given(turned, x_px=x[order])).rank
    np.testing.assert_array_equal(again, first[order])
