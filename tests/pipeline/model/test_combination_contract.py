"""What every combination promises: shares of members that add up to 1 for every unit."""

import numpy as np
import pytest

from pipeline.model.combination import combinations

METHODS = sorted(combinations)
KINDS = np.array([4, 4, 9])


def trials(seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2.0, size=(300, 6))
    responses = rate + 0.5 * rng.normal(size=rate.shape)
    predictions = (
        rate + rng.normal(size=(3, *rate.shape)) * np.array([0.1, 0.1, 1.0])[:, None, None]
    )
    return responses, predictions


@pytest.mark.parametrize("method", METHODS)
def test_shares_of_every_unit_are_not_negative_and_add_up_to_one(method):
    responses, predictions = trials()
    responses[::7, 2] = np.nan  # not measured
    predictions[:, :, 3] = 1.0  # nothing to tell members by
    responses[:, 4] = 0.0  # a silent unit
    shares = combinations[method](responses, predictions, KINDS)
    assert shares.shape == (3, 6)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(0), 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.numerical
def test_order_of_members_and_trials_and_names_of_kinds_do_not_matter(method):
    responses, predictions = trials()
    shares = combinations[method](responses, predictions, KINDS)
    turn, mixed = [2, 0, 1], np.random.default_rng(1).permutation(len(responses))
    turned = combinations[method](responses[mixed], predictions[turn][:, mixed], KINDS[turn])
    np.testing.assert_allclose(turned, shares[turn], atol=1e-12)
    np.testing.assert_array_equal(combinations[method](responses, predictions, [7, 7, 1]), shares)


@pytest.mark.parametrize("method", METHODS)
def test_one_member_speaks_alone(method):
    responses, predictions = trials()
    alone = combinations[method](responses, predictions[:1], KINDS[:1])
    np.testing.assert_array_equal(alone, np.ones((1, 6)))


@pytest.mark.parametrize("method", METHODS)
def test_parameters_that_cannot_be_are_refused_in_one_line(method):
    bad = {"no_such_parameter": 1}, *({name: "text"} for name in combinations.defaults(method))
    for params in bad:
        with pytest.raises(ValueError, match=next(iter(params))) as caught:
            combinations.complete(method, params)
        assert "\n" not in str(caught.value)
