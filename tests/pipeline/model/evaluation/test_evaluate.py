import numpy as np
import pytest

import pipeline.model
from pipeline import model
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.model.evaluate import evaluate, mean_responses, metrics, slope_through_origin


def test_every_measure_of_two_images_and_two_repeats_by_hand():
    r = np.array([1.0, 3.0, 4.0, 8.0])
    p = np.array([1.0, 2.0, 5.0, 6.0])
    result = {k: v[0] for k, v in metrics(r[:, None], p[:, None], [7, 7, 9, 9]).items()}
    assert result["single_trial"] == pytest.approx(np.corrcoef(r, p)[0, 1])
    assert result["to_average"] == pytest.approx(1.0)  # two images, same order
    assert result["oracle"] == pytest.approx(np.corrcoef(r, [3, 1, 8, 4])[0, 1])
    assert result["fraction_oracle"] == pytest.approx(result["single_trial"] / result["oracle"])
    total = ((r - 4) ** 2).sum() / 3  # 26 / 3
    noise = (2 + 8) / 2
    mse = (0 + 1 + 1 + 4) / 4
    assert result["fev"] == pytest.approx((total - noise) / total)
    assert result["feve"] == pytest.approx(1 - (mse - noise) / (total - noise))
    # repeat 1: 1, 4 (variance 4.5); repeat 2: 3, 8 (12.5); sum: 4, 12 (32); SP = (32 - 17) / 2
    covariance = (6 - 2) * (5.5 - 1.5) / 2
    assert result["cc_norm"] == pytest.approx(covariance / np.sqrt(4.0**2 / 2 * 7.5))


def test_a_perfect_model_scores_one_and_a_noiseless_unit_too():
    rng = np.random.default_rng(0)
    rate = np.repeat(rng.gamma(2.0, size=(60, 3)), 10, axis=0)
    ids = np.repeat(np.arange(60), 10)
    exact = metrics(rate, rate, ids)
    for name, values in exact.items():
        np.testing.assert_allclose(values, 1.0, atol=1e-9, err_msg=name)
    noisy = metrics(rate + rng.normal(size=rate.shape), rate, ids)
    np.testing.assert_allclose(noisy["feve"], 1.0, atol=0.1)
    np.testing.assert_allclose(noisy["cc_norm"], 1.0, atol=0.05)
    assert (noisy["fraction_oracle"] > 1).all()  # the oracle's mean of 9 is noisier than the rate
    np.testing.assert_allclose(noisy["fev"], rate.var(0) / (rate.var(0) + 1), atol=0.1)


def test_unequal_repeats_order_and_affine_predictions():
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    signal = rng.normal(size=(40, 2))
    responses = signal[ids] + 0.5 * rng.normal(size=(len(ids), 2))
    result = metrics(responses, signal[ids], ids)
    shuffled = rng.permutation(len(ids))
    again = metrics(responses[shuffled], signal[ids][shuffled], ids[shuffled])
    affine = metrics(responses, 3 + 2 * signal[ids], ids)
    for name in result:
        np.testing.assert_allclose(again[name], result[name], err_msg=name)
        if name != "feve":
            np.testing.assert_allclose(affine[name], result[name], err_msg=name)
    np.testing.assert_allclose(result["cc_norm"], 1.0, atol=0.1)


def test_constant_units_are_nan_and_harm_no_other():
    rng = np.random.default_rng(2)
    ids = np.repeat(np.arange(10), 3)
    r, p = rng.gamma(1.0, size=(30, 3)), rng.gamma(1.0, size=(30, 3))
    alone = metrics(r[:, :1], p[:, :1], ids)
    r[:, 1] = 0.1  # a silent unit
    p[:, 2] = 0.3  # a model that says nothing
    both = metrics(r, p, ids)
    for name, values in both.items():
        assert values[0] == pytest.approx(alone[name][0])
        assert np.isnan(values[1]), name
    assert np.isnan(both["single_trial"][2])
    assert np.isfinite(both["oracle"][2])


def test_predictions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="predictions"):
        metrics(np.ones((4, 2)), np.ones((4, 3)), np.arange(4))


def test_slope_through_the_origin():
    assert slope_through_origin([1, 2, np.nan], [0.5, 1.0, 7]) == pytest.approx(0.5)


def test_evaluation_of_an_untrained_ensemble_has_every_figure(small):
    _, _, dataset = small
    members = [model.build_encoder(None, dataset, seed) for seed in (0, 1)]
    evaluation = model.evaluate(model.Ensemble(members), dataset)
    names = ["single_trial", "to_average", "oracle", "fev", "feve", "cc_norm"]
    for name in [*names, "fraction_oracle", "fraction_oracle_frozen"]:
        assert evaluation.per_unit[name].shape == (12,)
        assert evaluation.per_scan[f"{name}_low"] <= evaluation.per_scan[name]
        assert evaluation.per_scan[name] <= evaluation.per_scan[f"{name}_high"]
    assert evaluation.per_unit["member_single_trial"].shape == (2, 12)
    expected = slope_through_origin(
        evaluation.per_unit["oracle"], evaluation.per_unit["single_trial_frozen"]
    )
    assert evaluation.per_scan["fraction_oracle_frozen_slope"] == pytest.approx(expected)


def test_the_module_is_called_as_its_function_and_keeps_its_names():
    assert pipeline.model.evaluate.metrics is metrics
    assert pipeline.model.metrics is metrics
    assert pipeline.model.evaluate.evaluate is evaluate
    assert callable(pipeline.model.evaluate)
    assert pipeline.model.evaluate.slope_through_origin is slope_through_origin


def test_one_repeated_image_has_no_oracle():
    rng = np.random.default_rng(3)
    responses = rng.normal(size=(6, 2)) + np.array([5.0, -1.0])
    found = metrics(responses, responses.copy(), np.zeros(6, int))
    assert np.isnan(found["oracle"]).all()
    two = metrics(responses, responses.copy(), np.repeat([0, 1], 3))
    assert np.isfinite(two["oracle"]).all()
    # a unit that one image alone repeats, for want of the other's trials
    responses[3:, 0] = np.nan
    missing = metrics(responses, np.ones_like(responses), np.repeat([0, 1], 3))
    assert np.isnan(missing["oracle"][0])
    assert np.isfinite(missing["oracle"][1])


def test_mean_responses_are_of_the_images_of_one_tier_alone():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 4, 6)).astype(np.uint8)
    index = np.array([*range(8), *np.repeat([8, 9, 10, 11], 3)])
    order = rng.permutation(len(index))
    index = index[order]
    tiers = np.where(index < 6, "train", np.where(index < 8, "validation", "test"))
    responses = rng.gamma(2, 1, (len(index), 5)).astype(np.float32)
    responses[tiers != "test"] = 1e6  # nothing of them may be seen
    data = Dataset(images, index, [f"i{k}" for k in index], responses, tiers)

    class Model:
        def predict(self, shown, units):
            self.shown = shown
            return shown.reshape(len(shown), -1)[:, units].astype(np.float32)

    ensemble = Model()
    found = mean_responses(ensemble, data, [4, 1])
    assert sorted(found.image_index) == [8, 9, 10, 11]
    np.testing.assert_array_equal(ensemble.shown, images[found.image_index])
    for row, image in enumerate(found.image_index):
        own = responses[index == image][:, [4, 1]].astype(float)
        np.testing.assert_allclose(found.measured[row], own.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.sem[row], own.std(0, ddof=1) / np.sqrt(3), rtol=1e-6)
        np.testing.assert_array_equal(found.predicted[row], images[image].ravel()[[4, 1]])
    once = mean_responses(ensemble, data, [0], tier="validation")
    assert np.isnan(once.sem).all()
    with pytest.raises(DataError, match="no trials"):
        mean_responses(ensemble, data.select(trials=data.trials("train")), [0])
