"""Cells as in mouse V1: what they look for, how sparse and how noisy they are."""

from itertools import product

import numpy as np
import pytest
import torch

from pipeline.mei.gabor import draw
from pipeline.simulate import Mouse, Population, natural_images, simulate_dataset
from pipeline.simulate.brain.behavior import slow_gain
from pipeline.simulate.brain.forms import FORMS

NORM = 12.0


@pytest.fixture(scope="module")
def population():
    return Population(3, 30, like="v1")


def _correlation(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def _oracle(data, images, repeats):
    test = np.flatnonzero(data.tiers == "test")
    order = test[np.argsort(data.image_index[test], kind="stable")]
    responses = data.responses[order].reshape(images, repeats, -1)
    others = (responses.sum(1, keepdims=True) - responses) / (repeats - 1)
    flat = responses.reshape(images * repeats, -1)
    return _correlation(flat, others.reshape(images * repeats, -1))


def _best_gabor(population, steps=30):
    """Return the true rate of the best Gabor of every cell, ascended from 8 at its center."""
    cells = population.cells
    starts = []
    for angle, phase in product(np.arange(4) * np.pi / 4, (0, 1.5)):
        sigma = cells.field_px / 4
        same = np.ones_like(sigma)
        columns = (cells.y_px, cells.x_px, sigma, 2.6 * sigma, angle * same, phase * same)
        starts.append(np.stack(columns, 1))
    units = torch.arange(population.n_cells).repeat(len(starts))
    start = torch.as_tensor(np.concatenate(starts), dtype=torch.float32)
    fair = torch.tensor([1.0, 1.0, 0.15, 0.15, 0.15, 0.4])  # a step of each; sizes by their log
    move = torch.zeros_like(start, requires_grad=True)
    ascent = torch.optim.Adam([move], lr=0.4)
    best = torch.zeros(len(start))
    for _ in range(steps):
        sizes = start[:, 2:4] * torch.exp(move[:, 2:4] * fair[2:4])
        place, angles = start[:, :2] + move[:, :2], start[:, 4:] + move[:, 4:] * fair[4:]
        images = draw(torch.cat([place, sizes, angles], 1), population.shape, NORM)
        rates = population.module.forward_units(images, units)
        best = torch.maximum(best, rates.detach())
        ascent.zero_grad()
        (-rates.sum()).backward()
        ascent.step()
    return best.reshape(len(starts), -1).max(0).values.numpy()


def test_every_form_and_kind_is_there_and_fields_are_up_to_35_px(population):
    cells = population.cells
    assert set(cells.form) == set(FORMS)
    assert set(cells.kind) == {"simple", "complex", "mixed", "normalised"}
    assert cells.field_px.min() >= 9
    assert 25 < cells.field_px.max() <= 35
    assert 14 < np.median(cells.field_px) < 24


def test_the_best_image_beats_the_best_gabor_unless_the_cell_looks_for_one(population):
    ratio = _best_gabor(population) / population.best_drive(NORM)
    gabors = population.cells.form == "gabor"
    assert np.median(ratio[gabors]) > 0.9
    assert ratio.max() < 1.02
    assert 0.55 < np.median(ratio[~gabors]) < 0.8
    assert (ratio[~gabors] < 0.92).mean() > 0.95


def test_responses_are_as_sparse_and_meis_as_strong_as_in_networks_of_mice(population):
    rates = population.drive(natural_images(500, population.shape, seed=9))
    sparseness = 1 - rates.mean(0) ** 2 / (rates**2).mean(0)
    assert 0.4 < np.median(sparseness) < 0.65
    assert 1.6 < np.median(population.best_drive(NORM) / rates.max(0)) < 3.8


@pytest.mark.parametrize("asked", [0.2, 0.35, 0.5])
def test_oracle_of_ten_repeats_is_what_was_asked_for(asked):
    population = Population(4, 80, like="v1", oracle=asked)
    data = simulate_dataset(population, 10, test_images=100, repeats=10, seed=1)
    oracle = _oracle(data, 100, 10)
    assert np.median(oracle) == pytest.approx(asked, abs=0.07)
    assert _correlation(oracle[:, None], population.cells.oracle[:, None])[0] > 0.5


def test_single_trials_are_heavy_tailed(population):
    data = simulate_dataset(population, 400, test_images=4, repeats=2, seed=2)
    old = simulate_dataset(Population(3, 30), 400, test_images=4, repeats=2, seed=2)

    def largest(responses):
        square = (responses - responses.mean(0)) ** 2
        return square.max(0) / square.sum(0)

    assert np.median(largest(data.responses)) > np.median(largest(old.responses))
    assert np.quantile(largest(data.responses), 0.9) > 0.2


def test_gain_drifts_slowly_about_one_and_every_cell_on_its_own():
    time_s, sd = np.arange(0, 200_000, 60.0), np.array([0.0, 0.3, 0.3])
    gain = slow_gain(time_s, sd, np.random.default_rng(0))
    np.testing.assert_array_equal(gain[:, 0], 1)
    np.testing.assert_allclose(gain.mean(0), 1, atol=0.06)
    np.testing.assert_allclose(np.log(gain[:, 1:]).std(0), 0.3, rtol=0.25)
    assert np.diff(np.log(gain[:, 1])).std() < 0.1
    assert abs(np.corrcoef(gain[:, 1], gain[:, 2])[0, 1]) < 0.4


def test_a_mouse_takes_the_population_and_unknown_ones_are_refused():
    mouse = Mouse(5, n_cells=6, field_px=(72, 96), like="v1", oracle=0.5)
    assert len(mouse.population.cells.form) == mouse.population.n_cells
    with pytest.raises(ValueError, match=r"no population 'cat'.*bends.*v1"):
        Population(1, 4, like="cat")
    with pytest.raises(ValueError, match=r"drawn, not made for an oracle"):
        Population(1, 4, oracle=0.5)
    with pytest.raises(ValueError, match=r"0\.05 to 0\.5"):
        Population(1, 4, like="v1", oracle=0.99)


def test_the_older_population_is_drawn_as_ever():
    population = Population(3, 24)
    data = simulate_dataset(population, 40, test_images=4, repeats=3)
    assert float(data.rates.sum()) == pytest.approx(3397.5115, rel=1e-4)
    assert float(data.responses.sum()) == pytest.approx(3289.8506, rel=1e-3)
