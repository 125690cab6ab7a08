"""Mask classification, soma or other, learned from masks that people have labeled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from pipeline.imaging.segmentation.shape import filled, main_component, shape_features
from pipeline.registry import Registry

mask_classifiers = Registry("mask classifier")

FEATURES = (
    "log_diameter",
    "roundness",
    "solidity",
    "elongation",
    "rim",
    "one_piece",
    "mean_contrast",
    "correlation_contrast",
)


def mask_features(
    masks: NDArray[np.bool_],
    weights: NDArray[np.floating],
    mean_image: NDArray,
    correlation_image: NDArray,
    *,
    diameter_px: float,
) -> NDArray[np.float64]:
    """Return what a classifier knows about every mask, shape (units, len(FEATURES)).

    Parameters
    ----------
    masks, weights : array, shape (units, H, W)
    mean_image, correlation_image : array, shape (H, W)
        Contrasts are inside minus surroundings over their pooled standard deviation, so that
        neither the gain of the microscope nor its zero level matters.
    diameter_px : float
        Expected diameter of a soma (px).
    """
    out = np.zeros((len(masks), len(FEATURES)))
    for unit, (mask, weight) in enumerate(zip(masks, weights, strict=True)):
        window = _window(mask, round(diameter_px))
        if window is None:
            continue
        mask, weight = mask[window], weight[window]
        body = filled(main_component(mask))
        shape = shape_features(body, diameter_px)
        images = (mean_image[window], correlation_image[window])
        out[unit] = (
            np.log2(max(shape["relative_diameter"], 0.05)),
            shape["roundness"],
            shape["solidity"],
            _elongation(body),
            _rim(body, weight),
            main_component(mask).sum() / mask.sum(),
            *(_contrast(image, mask, max(1, round(diameter_px / 3))) for image in images),
        )
    return out


def _window(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice] | None:
    places = np.nonzero(mask)
    if len(places[0]) < 3:
        return None
    rows, columns = (
        slice(max(0, p.min() - margin), min(size, p.max() + margin + 1))
        for p, size in zip(places, mask.shape, strict=True)
    )
    return rows, columns


def _elongation(mask: NDArray[np.bool_]) -> float:
    """Return log2 of long over short axis of the ellipse of equal second moments."""
    small, large = np.linalg.eigvalsh(np.cov(np.nonzero(mask)) + np.eye(2) / 12)
    return float(np.log2(large / small) / 2)


def _rim(mask: NDArray[np.bool_], weight: NDArray[np.floating]) -> float:
    """Return log2 of the mean weight in the outer half of a mask over that in its core."""
    core = binary_erosion(mask, iterations=max(1, int(np.sqrt(mask.sum() / np.pi) / 3)))
    if not core.any() or core.sum() == mask.sum():
        return 0.0
    inner, outer = weight[core].mean(), weight[mask & ~core].mean()
    floor = 0.05 * max(weight.max(), 1e-12)
    return float(np.clip(np.log2((outer + floor) / (inner + floor)), -4, 4))


def _contrast(image: NDArray, mask: NDArray[np.bool_], width: int) -> float:
    ring = binary_dilation(mask, iterations=width + 1) & ~binary_dilation(mask)
    if not ring.any():
        return 0.0
    inside, outside = image[mask], image[ring]
    spread = np.sqrt((inside.var() + outside.var()) / 2)
    return float(np.clip((inside.mean() - outside.mean()) / max(spread, 1e-9), -10, 10))


@dataclass(frozen=True)
class MaskClassifier:
    """A trained classifier: numbers that fit into a row.

    Attributes
    ----------
    center, scale, weight : array, shape (features,)
        Probability of a soma: logistic((x - center) / scale @ weight + bias).
    bias : float
    diameter_um : float
        Expected soma diameter that features are relative to (um).
    accuracy, auc : float
        By cross-validation (1): share of right answers at p = 0.5; area under the ROC curve.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: float
    diameter_um: float
    accuracy: float
    auc: float

    def probability(self, features: NDArray) -> NDArray[np.float64]:
        """Return the probability of a soma for rows of `mask_features`."""
        x = (features - self.center) / self.scale
        return _logistic(x @ self.weight + self.bias)

    def to_json(self) -> dict[str, object]:
        """Return the classifier as a dictionary of numbers and lists, feature names included."""
        arrays = {name: getattr(self, name).tolist() for name in ("center", "scale", "weight")}
        single = {n: float(getattr(self, n)) for n in ("bias", "diameter_um", "accuracy", "auc")}
        return {"features": list(FEATURES), **arrays, **single}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MaskClassifier:
        """Return the classifier that `to_json` wrote.

        Raises
        ------
        ValueError
            If it was trained on other features.
        """
        if list(values["features"]) != list(FEATURES):
            raise ValueError(
                f"classifier was trained on features {values['features']}, this code computes "
                f"{list(FEATURES)}; train it again"
            )
        return cls(
            center=np.asarray(values["center"], np.float64),
            scale=np.asarray(values["scale"], np.float64),
            weight=np.asarray(values["weight"], np.float64),
            bias=float(values["bias"]),
            diameter_um=float(values["diameter_um"]),
            accuracy=float(values["accuracy"]),
            auc=float(values["auc"]),
        )


def _logistic(z: NDArray) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(z, -50, 50)))


def _fit(x: NDArray, y: NDArray, penalty: float) -> tuple[NDArray[np.float64], float]:
    """Newton's method for the ridge-penalized likelihood, which has one minimum."""
    design = np.column_stack([x, np.ones(len(x))])
    ridge = np.diag([penalty] * x.shape[1] + [1e-3])  # the bias too: labels may be separable
    beta = np.zeros(design.shape[1])

    def loss(values: NDArray) -> float:
        z = design @ values
        return float(np.sum(np.logaddexp(0, z) - y * z) + values @ ridge @ values / 2)

    for _ in range(100):
        p = _logistic(design @ beta)
        slope = design.T @ (p - y) + ridge @ beta
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, slope)
        size = 1.0
        while loss(beta - size * step) > loss(beta) and size > 1e-6:
            size /= 2
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return beta[:-1], float(beta[-1])


def _auc(score: NDArray, label: NDArray[np.bool_]) -> float:
    """Return the chance that a soma scores above an other; ties count half."""
    above, below = score[label][:, None], score[~label][None]
    return float(np.mean((above > below) + 0.5 * (above == below)))


@mask_classifiers.register("logistic", default=True)
def logistic(
    features: NDArray,
    is_soma: NDArray[np.bool_],
    *,
    penalty: float = 1.0,
    folds: int = 5,
    diameter_um: float = 12.0,
    min_labels: int = 10,
) -> MaskClassifier:
    """Fit a logistic regression on standardized features.

    Parameters
    ----------
    features : array, shape (masks, len(FEATURES))
        From `mask_features`, with `diameter_um` over the size of a pixel as diameter.
    is_soma : array of bool, shape (masks,)
        Labels.
    penalty : float
        Of the squared weights of standardized features.
    folds : int
        Of the cross-validation; mask i is in fold i modulo `folds` of its own class.
    diameter_um : float
        Expected soma diameter (um).
    min_labels : int
        Fewest labels of each class.

    Returns
    -------
    MaskClassifier
        The same labels in the same order give the same numbers.

    Raises
    ------
    ValueError
        If labels of a class are too few.
    """
    x, y = np.asarray(features, np.float64), np.asarray(is_soma, bool)
    for name, count in (("soma", y.sum()), ("other", (~y).sum())):
        if count < max(min_labels, folds):
            raise ValueError(
                f"{count} masks are labeled {name!r}; {max(min_labels, folds)} are needed"
            )
    fold = np.empty(len(y), int)
    for label in (True, False):
        fold[y == label] = np.arange((y == label).sum()) % folds
    held_out = np.empty(len(y))
    for k in range(folds):
        train = fold != k
        center, scale = _standard(x[train])
        weight, bias = _fit((x[train] - center) / scale, y[train], penalty)
        held_out[~train] = _logistic((x[~train] - center) / scale @ weight + bias)
    center, scale = _standard(x)
    weight, bias = _fit((x - center) / scale, y, penalty)
    accuracy = float(np.mean((held_out > 0.5) == y))
    return MaskClassifier(center, scale, weight, bias, diameter_um, accuracy, _auc(held_out, y))


def _standard(x: NDArray) -> tuple[NDArray, NDArray]:
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
