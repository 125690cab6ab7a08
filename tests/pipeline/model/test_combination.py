import numpy as np
import pytest
import torch

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.model.combination import fit_shares, mean_and_sd, peers, spread


@pytest.fixture(scope="module")
def noisy():
    """Responses of six units, and predictions of two members of one kind and one of another.

    The second kind knows the first three units as well as the first kind, each with errors of its
    own, and of the others half.
    """
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, size=(4000, 6))
    responses = rate + 0.5 * rng.normal(size=rate.shape)
    members = rate + 0.1 * rng.normal(size=(3, *rate.shape))
    members[2, :, 3:] = 0.5 * rate[:, 3:] + rng.gamma(2.0, size=(4000, 3))
    return responses, members


def test_a_kind_speaks_for_what_it_predicts_as_well_as_the_best(noisy):
    shares = peers(*noisy, kinds=[4, 4, 9])
    np.testing.assert_allclose(shares[:, :3], [[0.25] * 3, [0.25] * 3, [0.5] * 3])
    np.testing.assert_allclose(shares[:, 3:], [[0.5] * 3, [0.5] * 3, [0] * 3])
    np.testing.assert_allclose(peers(*noisy, kinds=[4, 4, 9], at_least=0.0).sum(0), 1)
    assert (peers(*noisy, kinds=[4, 4, 9], at_least=0.0)[2] == 0.5).all()


@pytest.mark.numerical
def test_members_may_come_in_any_order_and_one_kind_shares_equally(noisy):
    responses, members = noisy
    shares = peers(responses, members, [0, 0, 1])
    order = [2, 0, 1]
    np.testing.assert_array_equal(peers(responses, members[order], [7, 2, 2]), shares[order])
    np.testing.assert_allclose(peers(responses, members, [1, 1, 1]), 1 / 3)


def test_what_is_silent_lost_or_foretold_by_no_one_is_the_best_kinds(noisy):
    responses, members = noisy[0].copy(), noisy[1].copy()
    responses[:, 0] = 0.3  # never varies
    members[2, :, 1] = 1.0  # says nothing
    members[2, :, 2] *= -1  # the opposite
    responses[::7, 4] = np.nan
    shares = peers(responses, members, [0, 0, 1])
    np.testing.assert_allclose(shares[:2], 0.5)
    np.testing.assert_allclose(shares[2], 0)


def test_the_mean_of_two_that_know_the_same_is_better_than_either(noisy):
    responses, members = noisy
    shares = peers(responses, members, [0, 0, 1])
    combined = (members * shares[:, None]).sum(0)
    r = [np.corrcoef(responses[:, 0], p[:, 0])[0, 1] for p in (combined, *members)]
    assert r[0] > max(r[1:])


@pytest.fixture(scope="module")
def mixed(small):
    """Two untrained CNNs and an LN model whose places agree, in an order that mixes the kinds."""
    dataset = small[2]
    kinds = (None, model.ln_config(), None)
    members = [model.build_encoder(config, dataset, s) for s, config in enumerate(kinds)]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for member in members:
            member.readout.features.normal_(0, 0.3, generator=generator)
            member.readout.place.copy_(members[0].readout.place)
            member.shifter.load_state_dict(members[0].shifter.state_dict())
    return members


@pytest.fixture(scope="module")
def shares():
    values = np.random.default_rng(3).dirichlet(np.ones(3), 12).T
    values[:, 0] = 0, 1, 0  # one alone speaks
    return values


def test_prediction_and_frozen_model_are_the_weighted_sum(mixed, shares, small):
    images = small[2].images[:7]
    ensemble = model.Ensemble(mixed, shares)
    state = {"behavior": np.array([20.0, 1.0, 9.0]), "pupil_center": np.array([84.0, 57.0])}
    each = np.stack([member.predict(images, **state) for member in mixed])
    expected = np.einsum("mnu,mu->nu", each, shares)
    np.testing.assert_allclose(ensemble.predict(images, **state), expected, rtol=1e-5)
    np.testing.assert_allclose(ensemble.predict_members(images, **state), each)
    np.testing.assert_allclose(ensemble.combine(each), expected, rtol=1e-5)
    z = mixed[0].zscore_images(images)
    np.testing.assert_allclose(ensemble.frozen(**state)(z), expected, rtol=1e-4, atol=1e-5)
    few = ensemble.frozen(**state, units=[5, 0])
    np.testing.assert_allclose(few(z), expected[:, [5, 0]], rtol=1e-4, atol=1e-5)
    equal = model.Ensemble(mixed, np.full((3, 12), 1 / 3))
    plain = model.Ensemble(mixed)
    np.testing.assert_allclose(equal.predict(images), plain.predict(images), rtol=1e-5)


@pytest.mark.numerical
def test_crops_of_several_kinds_are_as_exact_as_of_one(mixed, shares):
    frozen = model.Ensemble(mixed, shares).frozen()
    assert [group.index for group in frozen.alike] == [[0, 2], [1]]
    assert all(group.chain is not None for group in frozen.alike)
    units = torch.arange(12).repeat(2)
    images = torch.randn(24, 1, *frozen.input_shape, generator=torch.Generator().manual_seed(1))
    members = frozen.members(images, units)
    whole = (members * torch.as_tensor(shares, dtype=torch.float32)[:, units]).sum(0)
    torch.testing.assert_close(frozen(images)[torch.arange(24), units], whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(frozen.forward_units(images, units), whole)
    places = frozen.crops(units.numpy())
    assert places.exact.all()
    crops = torch.stack(
        [
            image[:, top : top + places.height, left : left + places.width]
            for image, top, left in zip(images, places.top, places.left, strict=True)
        ]
    ).requires_grad_(True)
    torch.testing.assert_close(frozen.member_crops(crops, units), members, rtol=1e-4, atol=1e-4)
    rates = frozen.forward_crops(crops, units)
    torch.testing.assert_close(rates, whole, rtol=1e-4, atol=1e-4)
    (of_crops,) = torch.autograd.grad(rates.sum(), crops)
    images.requires_grad_(True)
    (gradient,) = torch.autograd.grad(frozen.forward_units(images, units).sum(), images)
    for i, (top, left) in enumerate(zip(places.top, places.left, strict=True)):
        window = gradient[i, :, top : top + places.height, left : left + places.width]
        torch.testing.assert_close(of_crops[i], window, rtol=1e-3, atol=1e-5)


def test_shares_are_fitted_on_the_validation_tier_alone(mixed, small):
    dataset = small[2]
    responses = dataset.responses.copy()
    hidden = dataset.tiers != "validation"
    predicted = model.Ensemble(mixed).predict_members(dataset.images[dataset.image_index])
    responses[:] = predicted[1] + 1  # the LN model knows all of it
    ensemble = model.Ensemble(mixed)
    data = {name: getattr(dataset, name) for name in ("images", "image_index", "image_id", "tiers")}
    shares = fit_shares(ensemble, Dataset(**data, responses=responses))
    np.testing.assert_allclose(shares, [[0] * 12, [1] * 12, [0] * 12])
    responses[hidden] = np.random.default_rng(0).gamma(1.0, size=responses[hidden].shape)
    np.testing.assert_array_equal(
        fit_shares(ensemble, Dataset(**data, responses=responses)), shares
    )
    train = Dataset(**{**data, "tiers": np.full(dataset.n_trials, "train")}, responses=responses)
    with pytest.raises(DataError, match="no trials to fit shares on"):
        fit_shares(ensemble, train)
    with pytest.raises(ValueError, match="no combination of members 'peer'; there are"):
        fit_shares(ensemble, Dataset(**data, responses=responses), "peer")


def test_evaluation_is_of_the_weighted_sum(mixed, small):
    dataset = small[2]
    one = np.zeros((3, 12))
    one[1] = 1
    weighted = model.evaluate(model.Ensemble(mixed, one), dataset)
    alone = model.evaluate(model.Ensemble([mixed[1]]), dataset)
    for name, values in alone.per_unit.items():
        if name != "member_single_trial":
            np.testing.assert_allclose(weighted.per_unit[name], values, rtol=1e-4, atol=1e-6)
    assert weighted.per_unit["member_single_trial"].shape == (3, 12)


def test_the_member_left_out_is_one_that_knows_every_unit(mixed):
    others, out = model.Ensemble(mixed).leave_out()
    assert (others.encoders, out.encoders) == (mixed[:2], mixed[2:])
    shares = np.tile([[0.5], [0.0], [0.5]], 12)
    shares[:, 7:] = [[0.25], [0.5], [0.25]]
    order = [0, 2, 1]
    others, out = model.Ensemble([mixed[i] for i in order], shares[order]).leave_out()
    assert out.encoders == [mixed[2]]  # not the last, which is silent about most units
    np.testing.assert_allclose(others.shares[:, 0], [1, 0])
    np.testing.assert_allclose(others.shares[:, 7], [1 / 3, 2 / 3])
    alone = np.array([[1.0], [0.0], [0.0]]).repeat(12, axis=1)
    with pytest.raises(ValueError, match="no other speaks for some units"):
        model.Ensemble(mixed, alone).leave_out()


def test_shares_of_another_shape_negative_or_of_another_sum_are_refused(mixed):
    with pytest.raises(ValueError, match=r"shares must be \(members, units\) \(3, 12\), got"):
        model.Ensemble(mixed, np.ones((12, 3)) / 3)
    for wrong in (np.ones((3, 12)), np.array([[2.0], [-0.5], [-0.5]]).repeat(12, axis=1)):
        with pytest.raises(ValueError, match="add up to 1 for every unit"):
            model.Ensemble(mixed, wrong)


def test_spread_over_members_is_the_usual_one_for_equal_shares():
    values = np.random.default_rng(0).normal(size=(4, 9))
    mean, sd = mean_and_sd(values, np.full((4, 9), 0.25))
    np.testing.assert_allclose([mean, sd], [values.mean(0), values.std(0, ddof=1)])
    np.testing.assert_array_equal(
        mean_and_sd(values, None), [values.mean(0), values.std(0, ddof=1)]
    )
    only = np.zeros((4, 9))
    only[2] = 1
    mean, sd = mean_and_sd(values, only)
    np.testing.assert_allclose([mean, sd], [values[2], np.zeros(9)])
    assert np.isnan(mean_and_sd(values[:1], None)[1]).all()
    uneven = np.array([0.5, 0.25, 0.25, 0.0])[:, None].repeat(9, 1)  # as of values[0] twice
    twice = values[[0, 0, 1, 2]]
    mean = mean_and_sd(values, uneven)[0]
    np.testing.assert_allclose(mean, twice.mean(0))
    biased = ((twice - twice.mean(0)) ** 2).mean(0)
    np.testing.assert_allclose(spread(values, mean, uneven), biased / (1 - 0.375))
