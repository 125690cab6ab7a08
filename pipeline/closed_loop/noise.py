"""How responses to repeats of one image vary, from the natural images of day 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from pipeline.rng import generator

CONTROL_QUANTILE = 0.9  # a control drives a neuron about as well as its best natural images
SPLITS = 10  # of every image's repeats into halves
BINS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0])
GAZE_WIDTH = 1.0  # sd of gaze: what pairs nearer than that differ by, an own image does not undo
LEAST_RESPONSE = 0.5  # of a neuron's mean: below, rectification and the measurement decide
EXPONENT = (1.0, 2.0)  # from counts of a steady rate to a rate that is all gain


@dataclass(frozen=True)
class NoiseModel:
    """How responses to repeats of one image vary; arrays of shape (neurons,).

    The variance is a power of the mean (Taylor's law), as of cortical neurons (Tolhurst et al.
    1983, doi:10.1016/0042-6989(83)90200-6): counting alone has the exponent 1, a gain that
    changes with the animal's state, and gaze, bring it near 2 (Goris et al. 2014,
    doi:10.1038/nn.3711).

    Attributes
    ----------
    control_mean : array
        Mean response expected from a control image.
    coefficient, exponent : arrays
        Variance over repeats at mean m: ``coefficient * m**exponent``.
    log_sd : array
        How unsure the logarithm of the coefficient is: a day 1 tells little of one neuron. Power
        is a curved function of it, so that the mean power is not that of the mean neuron.
    sd : array
        Standard deviation over all trials, the unit in which an outcome compares neurons.
    """

    control_mean: NDArray[np.float64]
    coefficient: NDArray[np.float64]
    exponent: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    sd: NDArray[np.float64]

    def variance(self, mean: ArrayLike) -> NDArray[np.float64]:
        """Return the variance over repeats of responses with this mean."""
        return self.coefficient * np.maximum(mean, 0.0) ** self.exponent

    def take(self, neurons: ArrayLike) -> NoiseModel:
        """Return the noise of some neurons, in any arrangement."""
        return NoiseModel(*(value[neurons] for value in vars(self).values()))

    def with_controls(self, mean: ArrayLike) -> NoiseModel:
        """Return the same with the responses that a model predicts to the real controls.

        Those are made for the neuron and matched in contrast: as a rule they drive it better than
        its best natural images. NaN, or none above 0: the natural images stand for them.
        """
        mean = np.asarray(mean, np.float64)
        known = np.isfinite(mean) & (mean > 0)
        return replace(self, control_mean=np.where(known, mean, self.control_mean))

    def drawn(self, rng: np.random.Generator) -> NoiseModel:
        """Return one possible truth: coefficients drawn as unsure as they are."""
        factor = np.exp(self.log_sd * rng.standard_normal(self.log_sd.shape))
        return replace(self, coefficient=self.coefficient * factor)


def fit_noise(
    responses: ArrayLike,
    image_id: ArrayLike,
    gaze: ArrayLike | None = None,
    *,
    min_repeats: int = 4,
    seed: int = 0,
) -> NoiseModel:
    """Fit variance as a power of the mean, from repeated images of day 1.

    The mean of few repeats is noisy, and noisy together with their variance. Therefore the
    repeats of every image are halved at random: one half gives mean and variance, the other says
    how strong the image is. The exponent comes from all neurons together, in units of their mean
    response; every neuron's factor is shrunk to theirs by how much it scatters between images.

    Parameters
    ----------
    responses : array, shape (trials, neurons)
        Non-negative responses (deconvolved activity, a.u.); NaN are left out.
    image_id : array, shape (trials,)
    gaze : array, shape (trials, 2), optional
        Where the eye looked. Receptive fields then move over natural images, which differ from
        place to place, more than over an image made for them: pairs of repeats count more the
        nearer their gaze.
    min_repeats : int
        Images with fewer repeats are left out; at least 4, two for each half.
    seed : int
        Names the halves.

    Raises
    ------
    ValueError
        If fewer than three images are repeated often enough, or no neuron ever varies.
    """
    responses, image_id = np.asarray(responses, np.float64), np.asarray(image_id)
    least = max(min_repeats, 4)
    groups = [np.flatnonzero(image_id == name) for name in np.unique(image_id)]
    groups = [g for g in groups if (np.isfinite(responses[g]).sum(0) >= least).all()]
    if len(groups) < 3:
        raise ValueError(
            f"a noise model needs >= 3 images with >= {least} repeats, got {len(groups)}"
        )
    level = np.maximum(np.mean([np.nanmean(responses[g], axis=0) for g in groups], axis=0), 1e-12)
    scaled = [responses[g] / level for g in groups]
    eyes = [np.zeros((len(g), 2)) if gaze is None else _standard(gaze)[g] for g in groups]
    strength, mean, variance, steady, weight = _halves(scaled, eyes, generator(seed, "halves"))
    scale, exponent = _taylor(strength, mean, steady, weight)
    factor, log_sd = _factors(strength, scale * np.maximum(mean, 0) ** exponent, variance)
    means = np.array([np.nanmean(r, axis=0) for r in scaled])
    errors = np.array([np.nanvar(r, axis=0, ddof=1) / np.isfinite(r).sum(0) for r in scaled])
    return NoiseModel(
        control_mean=level * _quantile(means, errors, CONTROL_QUANTILE),
        coefficient=scale * factor * level ** (2 - exponent),
        exponent=np.full(len(level), exponent),
        log_sd=log_sd,
        sd=np.nanstd(responses, axis=0),
    )


def _standard(gaze: ArrayLike) -> NDArray[np.float64]:
    """Return gaze in units of its sd along each axis; 0 where it is not known or never changes."""
    gaze = np.asarray(gaze, np.float64)
    known = np.isfinite(gaze)
    n = np.maximum(known.sum(0), 1)
    centred = np.where(known, gaze - np.where(known, gaze, 0.0).sum(0) / n, 0.0)
    sd = np.sqrt((centred**2).sum(0) / n)
    moves = sd > 1e-9 * (1 + np.abs(np.where(known, gaze, 0.0)).max(0))
    return np.where(moves, centred / np.where(moves, sd, 1.0), 0.0)


def _halves(
    groups: list[NDArray], eyes: list[NDArray], rng: np.random.Generator
) -> tuple[NDArray[np.float64], ...]:
    """Return mean of one half; of the other mean, variance, variance at like gaze and its weight.

    Each of shape (images, halves, neurons), NaN where a neuron is not known.
    """
    found = []
    for group, eye in zip(groups, eyes, strict=True):
        for _ in range(SPLITS):
            order, half = rng.permutation(len(group)), len(group) // 2
            one, two = order[:half], order[half:]
            for first, second in ((one, two), (two, one)):
                mean, variance = _moments(group[second])
                steady, weight = _steady(group[second], eye[second])
                found.append((_moments(group[first])[0], mean, variance, steady, weight))
    stacked = np.array(found).reshape(len(groups), 2 * SPLITS, 5, -1)
    stacked[np.isnan(stacked).any(2)[:, :, None].repeat(5, 2)] = np.nan  # known only as a whole
    return tuple(stacked[:, :, k] for k in range(5))


def _moments(half: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(half)
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # one trial has no variance: NaN
        mean = np.where(known, half, 0.0).sum(0) / n
        squares = (np.where(known, half - mean, 0.0) ** 2).sum(0)
        return mean, squares / np.where(n > 1, n - 1, np.nan)


def _steady(half: NDArray, eye: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return half of the mean squared difference of pairs of trials, and the sum of their weights.

    A pair weighs by a Gaussian of the distance of its gaze. At equal weights it is the variance.
    """
    first, second = np.triu_indices(len(half), 1)
    square = 0.5 * (half[first] - half[second]) ** 2
    near = np.exp(-0.5 * ((eye[first] - eye[second]) ** 2).sum(1) / GAZE_WIDTH**2)[:, None]
    weight = np.where(np.isfinite(square), near, 0.0)
    total = weight.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a neuron without a pair: NaN
        return (weight * np.nan_to_num(square)).sum(0) / total, total


def _taylor(
    strength: NDArray, mean: NDArray, variance: NDArray, weight: NDArray
) -> tuple[float, float]:
    """Return scale and exponent of the population's variance, in units of mean responses."""
    known = np.isfinite(strength)
    strength, mean, variance, weight = (v[known] for v in (strength, mean, variance, weight))
    place = np.searchsorted(np.quantile(strength, BINS[1:-1]), strength, side="right")
    total = np.bincount(place, weight)
    some = total > 0
    x, v = (np.bincount(place, weight * value)[some] / total[some] for value in (mean, variance))
    use = (x >= LEAST_RESPONSE) & (v > 0)
    if use.sum() < 3:
        use = (x > 0) & (v > 0)
    if not use.any():
        raise ValueError("a noise model needs neurons that vary over repeats, got none")
    exponent = np.polyfit(np.log(x[use]), np.log(v[use]), 1)[0] if use.sum() > 1 else EXPONENT[0]
    exponent = float(np.clip(exponent, *EXPONENT))
    return float(np.exp(np.mean(np.log(v[use]) - exponent * np.log(x[use])))), exponent


def _factors(
    strength: NDArray, expected: NDArray, variance: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every neuron's variance over the expected, about 1, and the sd of its logarithm.

    Strong images count most, since day 2 shows such. Neurons differ by a normal deviation whose
    variance is found by the method of Paule and Mandel (1982, doi:10.6028/jres.087.022).
    """
    weight = np.maximum(strength, 0.0)
    found, hoped = (np.nansum(weight * value, axis=1) for value in (variance, expected))
    images, sums = len(found), (found.sum(0), hoped.sum(0))
    silent = (sums[0] <= 0) | (sums[1] <= 0)
    sums = tuple(np.where(silent, 1.0, total) for total in sums)
    own = np.log(sums[0] / sums[1])
    own -= np.median(own[~silent]) if (~silent).any() else 0.0
    shares = found / sums[0] - hoped / sums[1]
    sampling = np.maximum((shares**2).sum(0) * images / (images - 1), 1e-6)
    own, sampling = np.where(silent, 0.0, own), np.where(silent, 1e6, sampling)

    def excess(between: float) -> float:
        return float((own**2 / (sampling + between))[~silent].sum() - (~silent).sum() + 1)

    most = float((own**2).sum()) + 1e-9  # there the excess is negative
    between = brentq(excess, 0.0, most) if (~silent).sum() > 1 and excess(0.0) > 0 else 0.0
    trust = between / (between + sampling)
    return np.exp(trust * own), np.sqrt(trust * sampling)


def _quantile(mean: NDArray, error: NDArray, q: float) -> NDArray[np.float64]:
    """Return a quantile over images of the true means: the sampled ones scatter more."""
    center, spread = mean.mean(0), mean.var(0, ddof=1)
    signal = np.clip(1 - error.mean(0) / np.maximum(spread, 1e-12), 0.0, 1.0)
    return np.quantile(center + np.sqrt(signal) * (mean - center), q, axis=0)
