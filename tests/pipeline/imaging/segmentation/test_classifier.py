"""The mask classifier on drawn somata, dendrites and blobs, whose kind is known."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.imaging.segmentation.classifier import (
    FEATURES,
    MaskClassifier,
    logistic,
    mask_features,
)

SIDE, DIAMETER = 64, 10.0


def drawn(seed, n=60):
    """Return masks, weights, images and labels of somata (rings) and of strips and specks."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks, labels = [], []
    for index in range(n):
        soma = index % 2 == 0
        y, x = rng.uniform(14, SIDE - 14, 2)
        angle = rng.uniform(0, np.pi)
        u = (rows - y) * np.cos(angle) + (columns - x) * np.sin(angle)
        v = -(rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
        if soma:
            a, b = DIAMETER / 2 * rng.uniform(0.85, 1.2, 2)
        elif rng.random() < 0.5:
            a, b = rng.uniform(1.0, 1.8), rng.uniform(6, 12)  # dendrite
        else:
            a, b = rng.uniform(1.2, 2.2, 2)  # speck
        masks.append((u / a) ** 2 + (v / b) ** 2 <= 1)
        labels.append(soma)
    masks, labels = np.array(masks), np.array(labels)
    weights = masks / masks.sum(axis=(1, 2), keepdims=True)
    mean = gaussian_filter(masks[labels].sum(0).astype(float), 1) + rng.normal(0, 0.1, (SIDE, SIDE))
    return masks, weights, mean, gaussian_filter(mean, 1), labels


def features_of(seed):
    *parts, labels = drawn(seed)
    return mask_features(*parts, diameter_px=DIAMETER), labels


def test_learns_from_labels_and_holds_on_other_masks():
    classifier = logistic(*features_of(0))
    assert classifier.accuracy > 0.9
    assert classifier.auc > 0.95
    features, labels = features_of(1)
    probability = classifier.probability(features)
    assert np.mean((probability > 0.5) == labels) > 0.9
    assert np.all((probability >= 0) & (probability <= 1))


def test_shuffled_labels_are_not_learned():
    features, labels = features_of(0)
    rng = np.random.default_rng(0)
    found = [logistic(features, rng.permutation(labels)).auc for _ in range(12)]
    assert abs(np.mean(found) - 0.5) < 0.12  # cross-validated chance is a little below a half


def test_the_fit_is_where_the_penalized_likelihood_is_flat():
    features, labels = features_of(2)
    fit = logistic(features, labels, penalty=2.0)
    x = (features - fit.center) / fit.scale
    rest = labels - fit.probability(features)
    np.testing.assert_allclose(x.T @ rest, 2.0 * fit.weight, atol=1e-5)


def test_gain_offset_and_place_do_not_change_the_features():
    masks, weights, mean, correlation, _ = drawn(3, n=8)
    one = mask_features(masks, weights, mean, correlation, diameter_px=DIAMETER)
    brighter = mask_features(masks, weights, 7 * mean + 300, correlation, diameter_px=DIAMETER)
    np.testing.assert_allclose(one, brighter, atol=1e-9)
    moved = [
        np.pad(a, [(0, 0)] * (a.ndim - 2) + [(20, 20), (20, 20)], mode="edge")
        for a in (masks, weights, mean, correlation)
    ]
    np.testing.assert_allclose(mask_features(*moved, diameter_px=DIAMETER), one, atol=1e-9)


def test_a_mask_of_few_pixels_and_one_that_fills_the_field_have_finite_features():
    masks = np.zeros((2, 12, 12), bool)
    masks[0, 3, 3] = True
    masks[1] = True
    out = mask_features(masks, masks / 9.0, np.ones((12, 12)), np.ones((12, 12)), diameter_px=8.0)
    assert np.isfinite(out).all()


def test_a_classifier_survives_json_and_refuses_other_features():
    classifier = logistic(*features_of(0))
    text = json.dumps(classifier.to_json())
    features, _ = features_of(1)
    again = MaskClassifier.from_json(json.loads(text))
    np.testing.assert_array_equal(again.probability(features), classifier.probability(features))
    with pytest.raises(ValueError, match="train it again"):
        MaskClassifier.from_json({**json.loads(text), "features": [*FEATURES[:-1], "size"]})


def test_too_few_labels_of_a_class_are_refused():
    features, labels = features_of(0)
    few = np.zeros_like(labels)
    few[:3] = True
    with pytest.raises(ValueError, match="3 masks are labeled 'soma'; 10 are needed"):
        logistic(features, few)
