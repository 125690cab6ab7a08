import numpy as np
import pytest

from pipeline.closed_loop.planning.noise import fit_noise
from pipeline.closed_loop.planning.power import power_table, relative_effect, simulate_power
from pipeline.closed_loop.verdict.outcome import outcome_methods


def natural_day(n=60, images=40, repeats=10, fano=0.8, seed=0):
    rng = np.random.default_rng(seed)
    mean = rng.gamma(2, 0.5, (images, n)) + 0.05
    responses = rng.gamma(np.repeat(mean, repeats, axis=0) / fano, fano)
    return responses, np.repeat(np.arange(images), repeats), mean


def test_noise_model_recovers_the_fano_factor():
    responses, image, mean = natural_day(images=100, repeats=20)
    noise = fit_noise(responses, image)
    assert noise.exponent[0] == pytest.approx(1.0, abs=0.1)
    assert np.median(noise.variance(1.0)) == pytest.approx(0.8, rel=0.1)
    assert np.median(noise.variance(2.0)) == pytest.approx(1.6, rel=0.1)
    np.testing.assert_allclose(noise.control_mean, np.quantile(mean, 0.9, axis=0), rtol=0.3)
    assert np.median(noise.control_mean / np.quantile(mean, 0.9, axis=0)) == pytest.approx(
        1.0, abs=0.02
    )  # the sampled means scatter more and would be 4 % above
    with pytest.raises(ValueError, match="noise model needs"):
        fit_noise(responses[:20], image[:20])


def test_noise_model_tells_a_changing_gain_from_spikes():
    """A gain of variance 0.25 is common in state, and grows with the square of the response."""
    rng = np.random.default_rng(4)
    mean = rng.gamma(2, 0.5, (80, 40)) + 0.05
    trials = np.repeat(mean, 15, axis=0)
    trials = rng.gamma(trials * rng.gamma(4, 1 / 4, trials.shape) / 0.5, 0.5)
    noise = fit_noise(trials, np.repeat(np.arange(80), 15))
    assert 1.2 < noise.exponent[0] < 1.7
    for mean in (1.0, 10.0):  # natural images reach 3: MEIs are beyond
        true = 0.5 * mean + 0.25 * mean**2
        assert np.median(noise.variance(mean)) == pytest.approx(true, rel=0.15)


def test_a_noisier_neuron_is_known_as_such_and_an_average_one_is_not_made_up():
    responses, image, mean = natural_day(n=80, images=60)
    rng = np.random.default_rng(3)
    noisy = rng.gamma(np.repeat(mean, 10, axis=0) / 2.4, 2.4)
    mixed = np.where(np.arange(80) < 20, noisy, responses)  # three times the variance
    coefficient = fit_noise(mixed, image).variance(1.0)
    assert np.median(coefficient[:20]) / np.median(coefficient[20:]) == pytest.approx(3.0, rel=0.15)
    alike = fit_noise(responses, image)
    assert np.std(np.log(alike.variance(2.0))) < 0.15
    assert alike.log_sd.max() < 0.15


def test_missing_responses_and_silent_neurons_leave_the_rest_alone():
    responses, image, _ = natural_day()
    noise = fit_noise(responses, image)
    gaps = responses.copy()
    gaps[np.random.default_rng(1).random(gaps.shape) < 0.1] = np.nan
    gaps[:, 7] = 0.0
    found = fit_noise(gaps, image)
    rest = np.arange(60) != 7
    assert np.isfinite(found.variance(1.0)).all()
    assert found.exponent[0] == pytest.approx(noise.exponent[0], abs=0.1)
    np.testing.assert_allclose(found.variance(2.0)[rest], noise.variance(2.0)[rest], rtol=0.35)


def test_what_the_state_does_to_natural_images_is_exchanged_for_what_it_does_to_the_own():
    """Gain and gaze, by a model that knows them or half of their logarithm."""
    rng = np.random.default_rng(6)
    images, repeats, n = 80, 10, 40
    mean = rng.gamma(2, 0.5, (images, n)) + 0.2
    image = np.repeat(np.arange(images), repeats)
    state = rng.normal(0, 1, (len(image), 2))
    slope = rng.normal(0, 0.4, (images, n))  # of natural images over gaze; own images: none
    gain = 0.3 * state[:, :1]
    log_state = slope[image] * state[:, 1:] + gain
    responses = rng.gamma(mean[image] * np.exp(log_state) / 0.5, 0.5)
    true = 0.5 * 6 + (np.exp(0.3**2) - 1) * 6**2
    for share, most in ((1.0, 1.15), (0.5, 1.4)):  # that the model knows; half is no straight line
        known = mean[image] * np.exp(share * log_state)
        own = 7 * np.exp(share * gain) * np.ones(n)
        found = np.median(fit_noise(responses, image, known, own).variance(6.0))
        assert 0.85 * true < found < most * true
    assert np.median(fit_noise(responses, image).variance(6.0)) > 1.5 * true
    constant = fit_noise(responses, image, mean[image], np.ones((5, n)))  # knows of no state
    np.testing.assert_allclose(constant.variance(6.0), fit_noise(responses, image).variance(6.0))


def test_predicted_controls_replace_natural_images_where_they_are_known():
    noise = fit_noise(*natural_day()[:2])
    given = np.full(60, np.nan)
    given[:20], given[20:30] = 3.0, 0.0
    found = noise.with_controls(given)
    np.testing.assert_array_equal(found.control_mean[:20], 3.0)
    np.testing.assert_array_equal(found.control_mean[20:], noise.control_mean[20:])
    np.testing.assert_array_equal(found.variance(1.0), noise.variance(1.0))


def test_neurons_that_differ_flatten_the_power_curve():
    noise = fit_noise(*natural_day()[:2])
    design = {"n_neurons": 60, "repeats": 15, "ratios": [1.0, 1.4, 2.5], "n_simulations": 60}
    alike = simulate_power(noise, **design).per_neuron
    effect = 1 + 0.6 * np.random.default_rng(5).normal(size=60)
    differing = simulate_power(noise, effect=effect, **design).per_neuron
    assert differing[0] < 0.01  # no effect, no spread
    assert differing[1] > alike[1] + 0.02
    assert differing[2] < alike[2] - 0.02


def test_effect_of_every_neuron_comes_from_predictions():
    rng = np.random.default_rng(2)
    control = rng.gamma(4, 1, 400)
    effect = 1 + 0.4 * rng.normal(size=400)
    effect /= np.median(effect)
    reference = control * 2**effect
    np.testing.assert_allclose(relative_effect(reference, control), effect)
    np.testing.assert_array_equal(relative_effect(reference[:4], control[:4]), 1.0)  # too few
    np.testing.assert_array_equal(relative_effect(2 * control, control).round(9), 1.0)
    unknown = np.where(np.arange(400) < 100, np.nan, reference)
    found = relative_effect(unknown, control)
    assert np.median(found) == pytest.approx(1.0, abs=0.01)
    assert np.std(found[:100]) == pytest.approx(np.std(found[100:]), rel=0.05)
    hardly = relative_effect(control, reference)  # predictions do not favor the reference
    assert np.median(hardly) == pytest.approx(1.0)
    assert np.diff(np.quantile(hardly, [0.16, 0.84])) / 2 == pytest.approx(1.5)


def test_no_effect_is_found_at_no_more_than_the_nominal_rate():
    noise = fit_noise(*natural_day()[:2])
    power = simulate_power(noise, n_neurons=40, repeats=10, ratios=[1.0], n_simulations=400)
    assert power.population[0] <= 0.025 + 3 * np.sqrt(0.025 / 400)
    assert power.per_neuron[0] < 0.01


def test_more_neurons_repeats_and_right_matches_detect_smaller_effects():
    noise = fit_noise(*natural_day()[:2])
    table = power_table(noise, [(40, 5), (40, 10), (40, 20)], n_simulations=40)
    detectable = [row["detectable_per_neuron"] for row in table]
    assert detectable[0] > detectable[1] > detectable[2] > 1
    half = simulate_power(noise, n_neurons=40, repeats=20, match_precision=0.5, n_simulations=40)
    assert np.isnan(half.detectable_per_neuron)  # half of the cells can never show it


def test_a_known_effect_is_detected_at_the_predicted_power():
    """An animal of another program: trials drawn one by one, scored by the outcome itself."""
    responses, image, mean = natural_day(n=80)
    noise = fit_noise(responses, image)
    repeats, ratio, n = 15, 1.9, 80
    predicted = simulate_power(
        noise, n_neurons=n, repeats=repeats, ratios=[ratio], n_simulations=50
    ).per_neuron[0]
    assert 0.3 < predicted < 0.98
    rng = np.random.default_rng(9)
    by_kind = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "rf")}
    shown = np.repeat(np.concatenate(list(by_kind.values())), repeats)
    control = np.quantile(mean, 0.9, axis=0)
    found = []
    for _ in range(10):
        drive = np.vstack([np.full((n, n), 0.5), np.full((n, n), 0.5)])
        drive[np.arange(n), np.arange(n)] = ratio * control
        drive[n + np.arange(n), np.arange(n)] = control
        trials = rng.gamma(np.repeat(drive, repeats, axis=0) / 0.8, 0.8)
        result = outcome_methods["welch_bh"](trials, shown, by_kind, n_bootstrap=1)
        found.append(result.populations.fraction_significant[0])
    assert np.mean(found) == pytest.approx(predicted, abs=0.1)


def test_a_small_effect_on_loud_and_quiet_neurons_is_detected_at_the_predicted_power():
    """All neurons gain, some much more; a few are ten times as active as the others."""
    rng = np.random.default_rng(13)
    n, repeats, days = 40, 12, 150
    loud = np.exp(1.2 * rng.normal(size=n))
    fano = 0.8
    mean = loud * (rng.gamma(2, 0.5, (100, n)) + 0.05)
    image = np.repeat(np.arange(100), 10)
    noise = fit_noise(rng.gamma(mean[image] / (fano * loud), fano * loud), image)
    control = 3 * loud
    reference = control * np.exp(rng.gamma(0.7, 0.08, n) + 0.03)
    median = float(np.median(reference / control))
    predicted = simulate_power(
        noise.with_controls(control),
        n_neurons=n,
        repeats=repeats,
        ratios=[median],
        effect=relative_effect(reference, control),
        n_simulations=200,
    ).population[0]
    by_kind = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "rf")}
    names = np.concatenate(list(by_kind.values()))
    shown = np.repeat(np.arange(2 * n), repeats)
    drive = np.concatenate([np.diag(reference), np.diag(control)])[shown]
    found = []
    for _ in range(days):
        trials = rng.gamma(np.maximum(drive, 0.3 * loud) / (fano * loud), fano * loud)
        row = outcome_methods["welch_bh"](trials, names[shown], by_kind, n_bootstrap=1)
        row = row.populations.iloc[0]
        found.append(row.wilcoxon_p <= 0.05 and row.median_difference > 0)
    assert 0.3 < np.mean(found) < 0.9  # neither all nor nothing
    assert predicted == pytest.approx(np.mean(found), abs=0.1)
