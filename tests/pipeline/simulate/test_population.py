import cv2
import numpy as np
import pytest
import torch

from pipeline.errors import DataError
from pipeline.simulate import Population, gamma_poisson, natural_images, simulate_dataset
from pipeline.simulate.brain.filters import to_model_pixels


@pytest.fixture(scope="module")
def population():
    return Population(seed=3, n_cells=40)


def _correlation(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def test_natural_images_are_distinct_contrasted_and_a_prefix_of_longer_requests():
    images = natural_images(120, (72, 128), seed=1)
    assert images.dtype == np.uint8
    assert images.shape == (120, 72, 128)
    assert len({image.tobytes() for image in images}) == 120
    assert images.std((1, 2)).min() >= 12
    np.testing.assert_array_equal(natural_images(30, (72, 128), seed=1), images[:30])
    assert not np.array_equal(natural_images(1, (72, 128), seed=2)[0], images[0])


def test_images_of_a_flat_folder_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 300), 90, np.uint8))
    with pytest.raises(DataError, match="exhausted"):
        natural_images(2, (36, 64), folder=tmp_path)


def test_area_average_keeps_the_mean_also_between_sizes_that_do_not_divide():
    image = np.random.default_rng(0).integers(0, 256, (2, 90, 160))
    small = to_model_pixels(image, (36, 64))
    np.testing.assert_allclose(small.mean((1, 2)), image.mean((1, 2)), rtol=1e-5)
    blocks = image[:, :72, :128].reshape(2, 36, 2, 64, 2).mean((2, 4))
    np.testing.assert_allclose(to_model_pixels(image[:, :72, :128], (36, 64)), blocks, rtol=1e-5)
    with pytest.raises(DataError, match="aspect"):
        to_model_pixels(image[:, :, :90], (36, 64))


@pytest.mark.numerical
def test_response_is_the_same_at_every_size_of_an_image(population):
    small = natural_images(5, (36, 64), seed=4)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(population.drive(large), population.drive(small), rtol=1e-4)


def test_complex_cells_ignore_phase_and_simple_cells_do_not(population):
    module = population.torch_module()
    filters = torch.where((module.weight > 0)[:, None], module.linear, module.even)
    filters = 12 * filters / filters.norm(dim=1, keepdim=True)
    rate = {sign: module(sign * filters).diagonal().detach().numpy() for sign in (1, -1)}
    kind = population.cells.kind
    np.testing.assert_allclose(rate[1][kind == "complex"], rate[-1][kind == "complex"], rtol=1e-4)
    base = population.cells.base_hz[kind == "simple"]
    np.testing.assert_allclose(rate[-1][kind == "simple"], base, atol=1e-2)
    assert (rate[1][kind == "simple"] > 10 * base).all()


def test_filters_move_with_gaze(population):
    images = natural_images(6, (36, 64), seed=5)
    shift = np.array([2.0, -1.0])  # receptive fields right and up
    gaze = population.pupil_mean_px + np.linalg.solve(population.gaze_map, shift)
    moved = population.drive(images, gaze=gaze)
    content = np.roll(images, (1, -2), axis=(1, 2))  # the same as content left and down
    expected = population.drive(content)
    inner = (population.cells.x_px < 50) & (population.cells.y_px > 12)
    np.testing.assert_allclose(moved[:, inner], expected[:, inner], rtol=0.02, atol=0.05)


def test_gain_is_one_at_the_reference_state_and_multiplies(population):
    images = natural_images(3, (36, 64), seed=6)
    still = population.drive(images)
    np.testing.assert_allclose(population.drive(images, behavior=[15.0, 0.0, 2.0]), still)
    running = population.drive(images, behavior=[18.0, 0.0, 15.0])
    ratio = running / still
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-5)
    np.testing.assert_allclose(np.log(ratio[0]), population.log_gain([18, 0, 15], 1)[0], atol=1e-5)


def test_best_drive_of_a_simple_cell_is_that_of_its_filter_and_none_beats_it(population):
    images, best = population.optimal_images(10.0)
    np.testing.assert_allclose(np.sqrt((images**2).sum((1, 2))), 10.0, rtol=1e-4)
    module = population.torch_module()
    simple = np.flatnonzero(population.cells.kind == "simple")
    own = 10 * module.linear / module.linear.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(
        best[simple], module(own).diagonal().detach().numpy()[simple], rtol=1e-3
    )
    # at the optimum on the sphere the gradient is radial
    z = torch.as_tensor(images).reshape(len(images), -1).requires_grad_(True)
    units = torch.arange(len(images))
    (gradient,) = torch.autograd.grad(module.forward_units(z, units).sum(), z)
    cosine = torch.nn.functional.cosine_similarity(gradient, z.detach(), dim=1)
    assert cosine.min() > 0.97
    natural = population.zscore(natural_images(300, (36, 64), seed=8)).reshape(300, -1)
    natural *= 10 / np.linalg.norm(natural, axis=1, keepdims=True)
    rates = module(torch.as_tensor(natural)).detach().numpy()
    assert (rates.max(0) < best).all()


def test_forward_units_is_the_diagonal_of_forward(population):
    images = torch.as_tensor(population.zscore(natural_images(40, (36, 64), seed=9)))[:, None]
    module = population.torch_module()
    units = torch.arange(40)
    both = module(images).diagonal(), module.forward_units(images, units)
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("order", "gain_var", "fano"), [(3, 0.0, 1 / 3), (1, 0.0, 1), (1, 0.5, 3)])
def test_noise_has_the_stated_mean_and_fano_factor(order, gain_var, fano):
    mean = np.full((40_000, 1), 4.0)
    rng = np.random.default_rng(0)
    counts = gamma_poisson(mean, np.array([order]), np.array([gain_var]), rng)
    assert counts.mean() == pytest.approx(4.0, abs=0.07)
    # the random phase of a regular process and its rounding each add (1 - 1/k^2) / 12
    rounding = (1 - order**-2) / 6 / 4.0
    assert counts.var() / counts.mean() == pytest.approx(fano + rounding, rel=0.04)


@pytest.mark.numerical
def test_dataset_is_reproducible_and_as_reliable_as_cortex(population):
    data = simulate_dataset(population, 200, test_images=60, repeats=10, seed=1)
    again = simulate_dataset(population, 200, test_images=60, repeats=10, seed=1)
    np.testing.assert_array_equal(data.responses, again.responses)
    assert data.responses.shape == (800, 40)
    assert data.behavior.shape == (800, 3)
    assert data.pupil_center.shape == (800, 2)
    assert set(data.tiers) == {"train", "validation", "test"}
    test = np.flatnonzero(data.tiers == "test")
    order = test[np.argsort(data.image_index[test], kind="stable")]
    responses = data.responses[order].reshape(60, 10, 40)
    others = (responses.sum(1, keepdims=True) - responses) / 9
    oracle = _correlation(responses.reshape(600, 40), others.reshape(600, 40))
    assert 0.33 < np.median(oracle) < 0.55
    assert ((oracle > 0.2) & (oracle < 0.8)).mean() > 0.8
    single = _correlation(data.responses, data.rates)
    assert 0.6 < single.mean() < 0.85
    assert single.mean() > oracle.mean()


def test_no_linear_filter_explains_complex_cells(population):
    images = natural_images(2500, (36, 64), seed=12)
    z = population.zscore(images).reshape(len(images), -1)
    rates = population.drive(images)
    gram = z[:2000].T @ z[:2000] + 300 * np.eye(z.shape[1], dtype=np.float32)
    fit = np.linalg.solve(gram, z[:2000].T @ np.log1p(rates[:2000]))
    score = _correlation(np.expm1(z[2000:] @ fit), rates[2000:])
    assert np.median(score[population.cells.kind == "simple"]) > 0.6
    assert np.median(score[population.cells.kind == "complex"]) < 0.3


def test_relative_drive_is_one_for_the_best_image_at_any_contrast_and_size(population):
    units = np.array([3, 0, 7, 12])
    norm = np.array([6.0, 9.0, 12.0, 9.0])
    z, best = population.optimal_images(norm, units)
    np.testing.assert_allclose(np.sqrt((z**2).sum((1, 2))), norm, rtol=1e-4)
    grey = (z * population.image_sd + population.image_mean).repeat(2, axis=1).repeat(2, axis=2)
    given = population.relative_drive(grey, units, norm)
    np.testing.assert_allclose(given, 1.0, atol=2e-3)
    np.testing.assert_allclose(population.relative_drive(grey, units), 1.0, atol=0.02)
    assert (population.relative_drive(grey[::-1], units, norm) < 0.9).all()
    assert best[0] < population.best_drive(12.0, units[:1])[0]
