from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.mei import ascent_methods, default_norm, synthesize
from pipeline.mei.parts.ties import first_best
from pipeline.registry import canonical_json
from pipeline.simulate import Population

SHAPE = (1, 24, 32)


def correlation(a, b):
    return np.array([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])


@pytest.fixture(scope="module")
def linear(toys):
    filters = toys.gabor_filters(12)
    return toys.Linear(filters), filters


def run(toys, model, units, **keywords):
    keywords = {"shape": SHAPE, "mean": toys.MEAN, "sd": toys.SD, "norm": 8.0, **keywords}
    return synthesize(model, units, **keywords)


def test_mei_of_a_linear_unit_is_its_filter_at_the_norm_asked_for(toys, linear):
    model, filters = linear
    made = run(toys, model, range(12))
    assert made.images.shape == (12, 1, 24, 32)
    assert (correlation(made.images[:, 0], filters) >= 0.99).all()
    z = toys.zscored(made.images)
    np.testing.assert_allclose(np.sqrt((z**2).sum((1, 2, 3))), 8.0, rtol=1e-4)
    np.testing.assert_allclose(z.mean((1, 2, 3)), 0, atol=1e-4)
    # the best possible drive is norm x |filter without its mean| = 8 to a few per mille
    assert (made.activations >= 0.99 * np.log1p(np.exp(8.0))).all()
    assert made.converged.all()
    assert not made.silent.any()


@pytest.fixture(scope="module")
def cells():
    """Simulated cells of every kind with their best images and drives at norm 12."""
    population = Population(5, 24)
    return population, *population.optimal_images(12.0)


def test_true_cells_are_driven_as_well_as_possible(cells):
    population, images, best = cells
    made = synthesize(population.torch_module(), range(24), mean=110.0, sd=55.0, norm=12.0, seed=1)
    share = made.activations / best
    kind = population.cells.kind
    assert (share[kind != "mixed"] >= 0.99).all(), (kind, share)
    assert (share[kind == "mixed"] >= 0.95).all(), (kind, share)
    simple = kind == "simple"  # the best image is the filter itself
    assert (correlation(made.images[simple, 0], images[simple]) >= 0.99).all()


def test_published_recipe_comes_near_the_best_pattern(toys, cells):
    population, _, best = cells
    units = np.flatnonzero(population.cells.kind != "mixed")[:8]
    made = synthesize(
        population.torch_module(), units, mean=110.0, sd=55.0, method="walker2019", seed=1
    )
    z = toys.zscored(made.images[:, 0])
    z -= z.mean((1, 2), keepdims=True)
    z *= 12.0 / np.sqrt((z**2).sum((1, 2), keepdims=True))
    with torch.no_grad():
        rates = population.torch_module()(torch.as_tensor(z, dtype=torch.float32)).numpy()
    share = rates[np.arange(8), units] / best[units]
    assert np.median(share) >= 0.97
    assert share.min() >= 0.9
    assert made.images.min() >= 0
    assert made.images.max() <= 255


def same_to_rounding(one, other):
    """Responses to 1e-4 of themselves, images to a hundredth of a gray level: 8 bits are equal."""
    np.testing.assert_allclose(one.activations, other.activations, rtol=1e-4)
    np.testing.assert_allclose(one.all_activations, other.all_activations, rtol=1e-4)
    np.testing.assert_allclose(one.images, other.images, atol=1e-2)
    np.testing.assert_allclose(one.all_images, other.all_images, atol=1e-2)


def rows(made, order):
    names = ("activations", "all_activations", "images", "all_images")
    return SimpleNamespace(**{name: getattr(made, name)[order] for name in names})


@pytest.mark.numerical
def test_neither_order_nor_batch_nor_company_changes_an_image(toys, linear):
    model, _ = linear
    params = {"steps": 40}
    together = run(toys, model, [3, 7, 1], starts=2, params=params)
    turned = run(toys, model, [1, 3, 7], starts=2, params=params, batch_size=2)
    same_to_rounding(together, rows(turned, [1, 2, 0]))
    alone = run(toys, model, [7], starts=2, params=params)
    same_to_rounding(rows(together, [1]), alone)


@pytest.mark.numerical
def test_a_cut_of_the_batch_changes_no_image_of_simulated_cells(cells):
    population = cells[0]
    params = {"mean": 110.0, "sd": 55.0, "norm": 12.0, "params": {"steps": 60}}
    together = synthesize(population.torch_module(), range(12), starts=2, **params)
    cut = synthesize(population.torch_module(), range(12), starts=2, batch_size=6, **params)
    same_to_rounding(together, cut)


class OfAnotherProcessor(nn.Module):
    """A model whose responses differ in the seventh digit with the number of images at a time."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        n = len(images)
        digit = torch.rand((n, 1), generator=torch.Generator().manual_seed(n)) - 0.5
        return self.model(images) * (1 + 1e-6 * digit)


@pytest.mark.numerical
def test_the_last_bits_of_a_response_choose_no_image(toys, linear):
    """Each start of a phase-invariant cell ends as high: the first is the unit's image."""
    model = OfAnotherProcessor(linear[0])
    together = run(toys, model, range(6), starts=2)
    same_to_rounding(together, run(toys, model, range(6), starts=2, batch_size=2))
    same_to_rounding(together, run(toys, linear[0], range(6), starts=2))
    even, odd = toys.gabor_filters(2, seed=9)
    pair = toys.Energy(even[None], odd[None])
    rounded, exact = (run(toys, m, [0], starts=4) for m in (OfAnotherProcessor(pair), pair))
    same_to_rounding(rounded, exact)


def test_of_values_equal_up_to_rounding_the_first_is_chosen():
    values = np.array([[1.0, 2.0, 2.0 + 1e-6, 0], [-1, -3, -4, -1 + 1e-7], [3, np.nan, 4, 0]])
    values = np.vstack([values, np.full(4, -np.inf), [0, np.inf, 1, np.inf]])
    np.testing.assert_array_equal(first_best(values), [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(first_best(torch.as_tensor(values)), [1, 0, 1, 0, 1])


def test_another_seed_finds_another_phase_of_a_complex_cell(toys):
    yy, xx = np.mgrid[:24, :32]
    envelope = np.exp(-((yy - 12) ** 2 + (xx - 16) ** 2) / (2 * 2.5**2))
    pair = [envelope * f(2 * np.pi * (xx - 16) / 7) for f in (np.cos, np.sin)]
    even, odd = ((p - envelope * p.sum() / envelope.sum())[None].astype(np.float32) for p in pair)
    even, odd = even / np.linalg.norm(even), odd / np.linalg.norm(odd)
    made = run(toys, toys.Energy(even, odd), [0], starts=6)
    assert (made.all_activations >= 0.99 * 8.0).all()
    images = toys.zscored(made.all_images[0, :, 0]).reshape(6, -1)
    assert np.corrcoef(images).min() < 0.5
    assert made.activations[0] == pytest.approx(made.all_activations[0].max(), rel=1e-5)
    assert made.trace.shape[1:] == (1, 6)


def test_a_silent_unit_is_reported_and_never_noise(toys):
    filters = toys.gabor_filters(3, seed=1)
    made = run(toys, toys.Linear(filters, threshold=100.0, rectified=True), [0, 2])
    assert made.silent.all()
    assert not made.converged.any()
    np.testing.assert_array_equal(made.images, np.float32(toys.MEAN))
    assert (made.restarted == ascent_methods.complete("constrained")["restarts"]).all()


def test_a_unit_silent_at_first_is_started_again(toys):
    filters = toys.gabor_filters(6, seed=2)
    model = toys.Linear(filters, threshold=2.0, rectified=True)
    made = run(toys, model, range(6), params={"candidates": 1, "scouts": 1, "restarts": 500})
    assert made.restarted.max() > 0
    assert not made.silent.any()
    assert (correlation(made.images[:, 0], filters) >= 0.99).all()


def test_a_loud_neighbor_does_not_drown_a_quiet_unit(toys):
    filters = toys.gabor_filters(2, seed=3) * np.array([1e4, 1e-4], np.float32)[:, None, None]
    made = run(toys, toys.Linear(filters, rectified=True), [0, 1])
    assert (correlation(made.images[:, 0], filters) >= 0.99).all()


@pytest.mark.parametrize("channels", [2, 3])
def test_images_may_have_channels(toys, channels):
    filters = np.stack([toys.gabor_filters(4, seed=4 + c) for c in range(channels)], 1)
    made = run(toys, toys.Linear(filters), range(4), shape=(channels, 24, 32))
    assert made.images.shape == (4, channels, 24, 32)
    assert (correlation(made.images, filters) >= 0.99).all()


def test_clipped_ascent_stays_in_range(toys, linear):
    made = run(toys, linear[0], [0], norm=14.0, params={"constraint": {"clip": True}})
    assert made.images.min() >= -1e-3
    assert made.images.max() <= 255.001


def test_inhibition_finds_the_negative_filter(toys, linear):
    model, filters = linear
    made = run(toys, model, [2], params={"objective": "inhibition"})
    assert correlation(made.images[:, 0], filters[2:3])[0] < -0.99


def test_cautious_objective_avoids_what_members_disagree_on(toys):
    a, b = toys.gabor_filters(2, seed=6)
    unsure = toys.Ensemble(
        *(toys.Linear((a + sign * b)[None], threshold=-30.0) for sign in (1, -1))
    )
    params = {"priors": "none", "objective": {"name": "cautious", "weight": 1.0}}
    made = run(toys, unsure, [0], params=params)
    assert correlation(made.images[:, 0], a[None])[0] > 0.95
    assert abs(correlation(made.images[:, 0], b[None])[0]) < 0.1


def test_priors_touch_ensembles_only_and_keep_the_norm(toys):
    clean = toys.gabor_filters(12, seed=7)
    noise = np.random.default_rng(0).normal(0, 0.015, clean.shape).astype(np.float32)
    filters = clean + noise  # a trained network's: the noise of its training all over
    plain = run(toys, toys.Linear(filters), range(12))
    compact = {"finish": "compact"}
    made = run(toys, toys.Ensemble(toys.Linear(filters)), range(12), params=compact)
    assert (correlation(plain.images[:, 0], filters) >= 0.99).all()
    before, after = (correlation(m.images[:, 0], clean) for m in (plain, made))
    assert np.median(after) > np.median(before) + 0.01
    assert after.min() > 0.93
    z = toys.zscored(made.images)
    np.testing.assert_allclose(np.sqrt((z**2).sum((1, 2, 3))), 8.0, rtol=1e-4)


def test_methods_are_complete_json_with_their_parts():
    full = ascent_methods.complete("constrained", {"initial": {"sigma_px": [1, 2]}})
    assert full["initial"]["name"] == "smooth_noise"
    assert full["initial"]["sigma_px"] == [1, 2]
    assert full["finish"] == {"name": "none"}
    assert ascent_methods.complete("constrained", {"finish": "compact"})["finish"]["window"] > 0
    assert ascent_methods.complete("constrained", full) == full
    assert canonical_json(full)
    assert ascent_methods.hash("constrained") == ascent_methods.hash("constrained", {"finish": {}})
    with pytest.raises(ValueError, match="no parameter"):
        ascent_methods.complete("constrained", {"initial": {"nonsense": 1}})


def test_unknown_units_are_refused(toys, linear):
    with pytest.raises(ValueError, match="units must be whole numbers in"):
        run(toys, linear[0], [12])


def test_model_keeps_its_mode(toys, linear):
    linear[0].train()
    run(toys, linear[0], [0], params={"steps": 2})
    assert linear[0].training


def test_default_norm_is_a_quarter_of_the_training_contrast():
    assert default_norm((1, 36, 64)) == pytest.approx(12.0)
