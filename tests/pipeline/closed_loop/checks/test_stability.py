import numpy as np
import pytest

from pipeline.closed_loop.checks.stability import day_stability
from pipeline.plotting import day_stability_figure


def pairs(n=6, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(110, 20, (n, 12, 16))
    others = images + noise * rng.normal(0, 20, images.shape)
    masks = np.zeros(images.shape)
    masks[:, 3:9, 4:12] = 1
    return images, others, masks


def test_the_same_image_at_another_contrast_is_the_same():
    images, _, masks = pairs()
    found = day_stability(images, 60 + 0.5 * images, masks, np.ones((6, 2)), np.ones((6, 2)))
    np.testing.assert_allclose(found.correlation, 1.0)
    np.testing.assert_allclose(found.rank, 1.0)
    assert np.abs(found.correlation_others).max() < 4 / np.sqrt(48)


def test_only_what_is_inside_of_the_mask_counts():
    images, _, masks = pairs()
    others = np.where(masks > 0, images, np.random.default_rng(5).normal(size=images.shape))
    found = day_stability(images, others, masks, np.ones((6, 2)), np.ones((6, 2)))
    np.testing.assert_allclose(found.correlation, 1.0)


def test_noise_lowers_the_correlation_as_it_should():
    images, others, masks = pairs(n=40, noise=1.0)
    found = day_stability(images, others, masks, np.ones((40, 2)), np.ones((40, 2)))
    assert np.mean(found.correlation) == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_unrelated_images_rank_in_the_middle_and_flat_ones_are_unknown():
    images, _, masks = pairs(n=40)
    others, _, _ = pairs(n=40, seed=9)
    others[3] = 100.0
    answers = np.column_stack([np.full(40, 2.0), np.linspace(0, 4, 40)])
    found = day_stability(images, others, masks, answers, answers)
    assert np.isnan(found.correlation[3])
    assert np.isnan(found.rank[3])
    assert np.nanmean(found.rank) == pytest.approx(0.5, abs=0.15)
    np.testing.assert_allclose(found.transfer, answers[:, 1] / 2)
    assert np.isinf(found.transfer_back[0])  # its model is silent to its own image


def test_one_pair_has_no_chance_level_and_a_figure():
    images, others, masks = pairs(n=1, noise=0.5)
    found = day_stability(images, others, masks, np.ones((1, 2)), np.ones((1, 2)))
    assert np.isnan(found.rank[0])
    assert 0.5 < found.correlation[0] < 1
    figure = day_stability_figure(
        np.stack([images, others], axis=1), ["unit 3"], found.correlation, found.correlation_others
    )
    figure.canvas.draw()
