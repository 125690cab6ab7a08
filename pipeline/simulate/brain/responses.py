"""Responses to images without a movie: a data set of known rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.rng import generator
from pipeline.simulate.photographs import natural_images

from .behavior import simulate_animal, slow_gain
from .population import Population


@dataclass(frozen=True)
class SimulatedDataset:
    """What a scan hands to the model stage, and the truth behind it.

    `Dataset(images=..., image_index=..., image_id=..., responses=..., tiers=..., behavior=...,
    pupil_center=..., unit_ids=...)` takes the first eight as they are.
    """

    images: NDArray[np.uint8]  # (images, H, W)
    image_index: NDArray[np.int64]  # (trials,)
    image_id: NDArray[np.int64]  # (trials,)
    responses: NDArray[np.float32]  # (trials, units)
    tiers: NDArray[np.str_]  # (trials,) train, validation, test
    behavior: NDArray[np.float64]  # (trials, 3) pupil radius, its derivative, running speed
    pupil_center: NDArray[np.float64]  # (trials, 2) x, y in eye px
    unit_ids: NDArray[np.int64]
    rates: NDArray[np.float32]  # (trials, units) true expected response
    log_gain: NDArray[np.float32]  # (trials, units) true log gain of behavior
    gaze_shift_px: NDArray[np.float64]  # (trials, 2) true shift of the receptive fields, x, y

    def arguments(self) -> dict[str, NDArray]:
        """Return the arguments of `pipeline.dataset.Dataset`."""
        names = "images image_index image_id responses tiers behavior pupil_center unit_ids"
        return {name: getattr(self, name) for name in names.split()}


def simulate_dataset(
    mouse: Population,
    images: NDArray | int = 3000,
    *,
    test_images: NDArray | int = 100,
    repeats: int = 10,
    validation_fraction: float = 0.1,
    seed: int = 0,
    duration_s: float = 0.5,
    trial_s: float = 0.9,
    measurement_sd: float = 0.75,
    size_px: tuple[int, int] | None = None,
) -> SimulatedDataset:
    """Show images to a population and return the trials in the order of presentation.

    Parameters
    ----------
    mouse : Population or Mouse
        Anything with `drive`, `log_gain`, `cells`, `gaze_shift_px` and `pupil_mean_px`.
    images : array uint8 (n, H, W) or int
        Images shown once, or how many natural images to cut for that.
    test_images : array or int
        Images shown `repeats` times, or how many further natural images.
    repeats : int
        Presentations of every test image.
    validation_fraction : float
        Share of the single images that is labeled validation.
    seed : int
        Names order, behavior and noise.
    duration_s, trial_s : float
        Presentation, and time from one onset to the next.
    measurement_sd : float
        Noise of spike inference (counts).
    size_px : (int, int), optional
        Size of the images to cut; default the model's.

    Returns
    -------
    SimulatedDataset

    Examples
    --------
    >>> from pipeline.dataset import Dataset
    >>> from pipeline.simulate import Population
    >>> made = simulate_dataset(Population(n_cells=3), 20, test_images=4, repeats=2)
    >>> data = Dataset(**made.arguments())
    >>> data.n_units, data.n_trials
    (3, 28)
    """
    population = getattr(mouse, "population", mouse)
    height, width = population.shape if size_px is None else size_px
    size = (height, width)
    n_single = images if isinstance(images, int) else len(images)
    n_test = test_images if isinstance(test_images, int) else len(test_images)
    wanted = (n_single if isinstance(images, int) else 0) + (
        n_test if isinstance(test_images, int) else 0
    )
    cut = natural_images(wanted, size, seed=seed) if wanted else np.empty((0, *size), np.uint8)
    # test images are cut first, so that more training images never change them
    if isinstance(test_images, int):
        test_images, cut = cut[:n_test], cut[n_test:]
    if isinstance(images, int):
        images = cut
    stack = np.concatenate([images, test_images])
    rng = generator(seed, "trials", population.seed)
    index = np.concatenate(
        [np.arange(n_single), np.repeat(np.arange(n_single, n_single + n_test), repeats)]
    )
    rng.shuffle(index)
    onset = np.arange(len(index)) * trial_s
    state = simulate_animal(
        onset[-1] + trial_s,
        generator(seed, "animal", population.seed),
        pupil_mean_px=tuple(population.pupil_mean_px),
    )
    behavior = state.behavior(onset + 0.3)
    gaze = state.gaze(onset + 0.3)
    rates = np.empty((len(index), population.n_cells), np.float32)
    for start in range(0, len(index), 1024):
        part = slice(start, start + 1024)
        rates[part] = population.drive(stack[index[part]], behavior=behavior[part], gaze=gaze[part])
    if population.cells.drift_sd.any():
        slow = generator(seed, "drift", population.seed)
        rates *= slow_gain(onset, population.cells.drift_sd, slow)
    mean = rates * duration_s
    noise = generator(seed, "noise", population.seed)
    counts = gamma_poisson(
        mean, population.cells.noise_order, population.cells.noise_gain_var, noise
    )
    responses = counts + measurement_sd * noise.normal(size=counts.shape)
    held = np.zeros(n_single + n_test, dtype="<U10")
    held[:n_single] = "train"
    chosen = generator(seed, "validation").random(n_single) < validation_fraction
    held[:n_single][chosen] = "validation"
    held[n_single:] = "test"
    return SimulatedDataset(
        images=stack,
        image_index=index,
        image_id=index.copy(),
        responses=responses.astype(np.float32),
        tiers=held[index],
        behavior=behavior,
        pupil_center=gaze,
        unit_ids=np.arange(population.n_cells),
        rates=mean.astype(np.float32),
        log_gain=population.log_gain(behavior, len(index)).astype(np.float32),
        gaze_shift_px=population.gaze_shift_px(gaze, len(index)),
    )


def gamma_poisson(
    mean: NDArray,
    order: NDArray,
    gain_var: NDArray,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw spike counts of a given mean that are sub- to super-Poisson.

    Every `order`-th event of a Poisson process of `order` times the rate (Fano factor about
    1 / order), times a gamma gain of mean 1 and variance `gain_var` (adds ``gain_var * mean``
    to the Fano factor).

    Parameters
    ----------
    mean : array, shape (trials, units)
        Expected counts.
    order : int array, shape (units,)
    gain_var : array, shape (units,)
    rng : Generator

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = gamma_poisson(np.full((5000, 1), 4.0), np.array([1]), np.array([0.0]), rng)
    >>> round(float(counts.mean())), round(float(counts.var() / counts.mean()))
    (4, 1)
    """
    variance = np.broadcast_to(gain_var, mean.shape)
    gain = np.ones(mean.shape)
    noisy = variance > 0
    gain[noisy] = rng.gamma(1 / variance[noisy], variance[noisy])
    events = rng.poisson(mean * gain * order)
    offset = rng.integers(0, np.broadcast_to(order, mean.shape))  # Hermite: keeps the mean exact
    return ((events + offset) // order).astype(np.float32)
