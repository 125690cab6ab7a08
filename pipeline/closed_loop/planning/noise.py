"""How responses to repeats of one image vary, from the natural images of day 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, nnls

from pipeline.rng import generator

CONTROL_QUANTILE = 0.9  # a control drives a neuron about as well as its best natural images
SPLITS = 10  # of every image's repeats into halves
BINS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0])
LEAST_RESPONSE = 0.5  # of a neuron's mean: below, rectification and the measurement decide


@dataclass(frozen=True)
class NoiseModel:
    """How responses to repeats of one image vary; arrays of shape (neurons,).

    Counting gives a variance in proportion to the mean, a gain that changes from trial to trial one
    with its square (Goris et al. 2014, doi:10.1038/nn.3711). MEIs drive neurons far beyond what
    natural images do: the sum of both can be extrapolated, a power between them (Taylor's law)
    falls short. What a model of the neurons knows of the animal's state (gain by pupil and running,
    gaze that moves receptive fields) is kept apart, since its square depends on the image.

    Attributes
    ----------
    control_mean : array
        Mean response expected from a control image.
    linear, square : arrays
        Variance over repeats at mean m, beside that of the state: ``linear * m + square * m**2``.
    log_sd : array
        How unsure the logarithm of both is: a day 1 tells little of one neuron. Power
        is a curved function of it, so that the mean power is not that of the mean neuron.
    sd : array
        Standard deviation over all trials, the unit in which an outcome compares neurons.
    state_cv : array
        Standard deviation over mean of the response that a model predicts to the own image over
        the animal's states; 0 if `square` holds what the state does.
    """

    control_mean: NDArray[np.float64]
    linear: NDArray[np.float64]
    square: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    sd: NDArray[np.float64]
    state_cv: NDArray[np.float64]

    def variance(self, mean: ArrayLike) -> NDArray[np.float64]:
        """Return the variance over repeats of responses with this mean."""
        mean = np.maximum(mean, 0.0)
        return self.linear * mean + (self.square + self.state_cv**2) * mean**2

    @property
    def exponent(self) -> NDArray[np.float64]:
        """How the variance grows at the controls' mean: 1 by counting, 2 by a changing gain."""
        counting = self.linear * self.control_mean
        total = np.maximum(self.variance(self.control_mean), 1e-24)
        return np.where(counting > 0, 2 - counting / total, 2.0)

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
        """Return one possible truth: noise drawn as unsure as they are."""
        factor = np.exp(self.log_sd * rng.standard_normal(self.log_sd.shape))
        return replace(self, linear=self.linear * factor, square=self.square * factor)


def fit_noise(
    responses: ArrayLike,
    image_id: ArrayLike,
    predicted: ArrayLike | None = None,
    in_states: ArrayLike | None = None,
    *,
    min_repeats: int = 4,
    seed: int = 0,
) -> NoiseModel:
    """Fit variance as a function of the mean, from repeated images of day 1.

    The mean of few repeats is noisy, and noisy together with their variance. Therefore the
    repeats of every image are halved at random: one half gives mean and variance, the other says
    how strong the image is. The law comes from all neurons together, in units of their mean
    response; every neuron's factor is shrunk to theirs by how much it scatters between images.

    What a model predicts of the animal's state is taken off every trial, for as much as responses
    follow it from repeat to repeat, and what it predicts of the own images is put back: gaze does
    other things to those than to natural images.

    Parameters
    ----------
    responses : array, shape (trials, neurons)
        Non-negative responses (deconvolved activity, a.u.); NaN are left out.
    image_id : array, shape (trials,)
    predicted : array, shape (trials, neurons), optional
        A model's response to the image in the state of each trial; only how it differs between
        repeats counts.
    in_states : array, shape (states, neurons), optional
        The same model's response to the own image of every neuron in states as of day 1.
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
    state, state_cv = np.zeros_like(responses), np.zeros(len(level))
    if predicted is not None and in_states is not None:
        state, state_cv = _state(responses, np.asarray(predicted, np.float64), groups, in_states)
    rest = [(responses[g] - state[g]) / level for g in groups]
    strength, mean, variance = _halves(scaled, rest, generator(seed, "halves"))
    linear, square = _law(strength, mean, variance)
    factor, log_sd = _factors(
        strength, linear * np.maximum(mean, 0) + square * np.maximum(mean, 0) ** 2, variance
    )
    means = np.array([np.nanmean(r, axis=0) for r in scaled])
    errors = np.array([np.nanvar(r, axis=0, ddof=1) / np.isfinite(r).sum(0) for r in scaled])
    return NoiseModel(
        control_mean=level * _quantile(means, errors, CONTROL_QUANTILE),
        linear=linear * factor * level,
        square=square * factor,
        log_sd=log_sd,
        sd=np.nanstd(responses, axis=0),
        state_cv=state_cv,
    )


def _state(
    responses: NDArray, predicted: NDArray, groups: list[NDArray], in_states: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how the state moves every response off its image's mean, and its CV at own images.

    Both by the regression of repeats on the prediction: what is left is not correlated with it,
    so that the variances add. A model that knows half of the gain is believed to double.
    """
    moved = np.zeros_like(responses)
    both = np.zeros((2, responses.shape[1]))
    for g in groups:
        known = np.isfinite(responses[g])
        n = np.maximum(known.sum(0), 1)
        r, p = (np.where(known, value[g], 0.0) for value in (responses, predicted))
        off = predicted[g] - p.sum(0) / n
        moved[g] = off
        both += (off * np.where(known, r - r.sum(0) / n, 0)).sum(0), (known * off**2).sum(0)
    slope = np.maximum(both[0] / np.where(both[1] > 0, both[1], np.inf), 0.0)
    own = np.asarray(in_states, np.float64)
    mean = own.mean(0)
    cv = np.where(mean > 0, own.std(0) / np.where(mean > 0, mean, 1.0), 0.0)
    return slope * moved, slope * cv


def _halves(
    groups: list[NDArray], rest: list[NDArray], rng: np.random.Generator
) -> tuple[NDArray[np.float64], ...]:
    """Return mean of one half; of the other the mean, and the variance of what is unexplained.

    Each of shape (images, halves, neurons), NaN where a neuron is not known.
    """
    found = []
    for group, left in zip(groups, rest, strict=True):
        for _ in range(SPLITS):
            order, half = rng.permutation(len(group)), len(group) // 2
            one, two = order[:half], order[half:]
            for first, second in ((one, two), (two, one)):
                mean = _moments(group[second])[0]
                variance = _moments(left[second])[1]
                found.append((_moments(group[first])[0], mean, variance))
    stacked = np.array(found).reshape(len(groups), 2 * SPLITS, 3, -1)
    stacked[np.isnan(stacked).any(2)[:, :, None].repeat(3, 2)] = np.nan  # known only as a whole
    return tuple(stacked[:, :, k] for k in range(3))


def _moments(half: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(half)
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # one trial has no variance: NaN
        mean = np.where(known, half, 0.0).sum(0) / n
        squares = (np.where(known, half - mean, 0.0) ** 2).sum(0)
        return mean, squares / np.where(n > 1, n - 1, np.nan)


def _law(strength: NDArray, mean: NDArray, variance: NDArray) -> tuple[float, float]:
    """Return what mean and its square add to the population's variance, in mean responses."""
    known = np.isfinite(strength)
    strength, mean, variance = (v[known] for v in (strength, mean, variance))
    place = np.searchsorted(np.quantile(strength, BINS[1:-1]), strength, side="right")
    total = np.bincount(place)
    some = total > 0
    x, v = (np.bincount(place, value)[some] / total[some] for value in (mean, variance))
    use = (x >= LEAST_RESPONSE) & (v > 0)
    if use.sum() < 3:
        use = (x > 0) & (v > 0)
    if not use.any():
        raise ValueError("a noise model needs neurons that vary over repeats, got none")
    terms = np.stack([x[use], x[use] ** 2], 1) / v[use, None]  # relative errors count alike
    linear, square = nnls(terms, np.ones(len(terms)))[0]
    return float(linear), float(square)


def _factors(
    strength: NDArray, expected: NDArray, variance: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every neuron's variance over the expected, and the sd of its logarithm.

    Strong images count most, since day 2 shows such. The expected is a mean over neurons that the
    noisy ones lead; about their own center, mostly below it, neurons differ by a normal deviation.
    Both are found by the method of Paule and Mandel (1982, doi:10.6028/jres.087.022).
    """
    weight = np.maximum(strength, 0.0)
    found, hoped = (np.nansum(weight * value, axis=1) for value in (variance, expected))
    images, all_found, all_hoped = len(found), found.sum(0), hoped.sum(0)
    silent = (all_found <= 0) | (all_hoped <= 0)
    all_found, all_hoped = (np.where(silent, 1.0, total) for total in (all_found, all_hoped))
    own = np.log(all_found / all_hoped)
    shares = found / all_found - hoped / all_hoped
    sampling = np.maximum((shares**2).sum(0) * images / (images - 1), 1e-6)
    own, sampling = np.where(silent, 0.0, own), np.where(silent, 1e6, sampling)

    def center(between: float) -> float:
        return float(np.average(own, weights=1 / (sampling + between)))

    def excess(between: float) -> float:
        square = (own - center(between)) ** 2 / (sampling + between)
        return float(square[~silent].sum() - (~silent).sum() + 1)

    most = len(own) * float(np.ptp(own)) ** 2 + 1e-9  # there the excess is negative
    between = brentq(excess, 0.0, most) if (~silent).sum() > 1 and excess(0.0) > 0 else 0.0
    trust, middle = between / (between + sampling), center(between)
    return np.exp(middle + trust * (own - middle)), np.sqrt(trust * sampling)


def _quantile(mean: NDArray, error: NDArray, q: float) -> NDArray[np.float64]:
    """Return a quantile over images of the true means: the sampled ones scatter more."""
    center, spread = mean.mean(0), mean.var(0, ddof=1)
    signal = np.clip(1 - error.mean(0) / np.maximum(spread, 1e-12), 0.0, 1.0)
    return np.quantile(center + np.sqrt(signal) * (mean - center), q, axis=0)
