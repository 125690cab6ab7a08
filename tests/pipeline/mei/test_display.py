"""Stimuli of simulated cells on their way to the monitor."""

import numpy as np

from pipeline.simulate import Population
from pipeline.stimulus.display import to_monitor
from pipeline.stimulus.monitor import MonitorCurve


def test_luminance_of_8_bit_images_is_as_wanted_or_the_image_is_flagged():
    levels = np.arange(256.0)
    luminance = 0.2 + 38 * (levels / 255) ** 2.1  # the truth that pixels are turned back with
    curve = MonitorCurve(levels[::5], luminance[::5])
    population = Population(5, 24)
    best, _ = population.optimal_images(12.0)
    noise = np.random.default_rng(0).normal(110, 30, (15, 36, 64))
    flat = np.full((1, 36, 64), 110.0)  # there is nothing to amplify
    images = np.concatenate([110 + 55 * best, noise, flat]).astype(np.float32)
    shown = to_monitor(images, curve, mean_cd_m2=10.0, sd_cd_m2=2.0)
    seen = luminance[shown.images].reshape(len(images), -1)
    error = np.maximum(np.abs(seen.mean(1) / 10 - 1), np.abs(seen.std(1) / 2 - 1))
    assert shown.images.dtype == np.uint8
    assert (error <= 0.01 + 1e-3).mean() >= 0.95
    assert (error[shown.ok] <= 0.01 + 1e-3).all()
    assert not shown.ok[-1]
    assert all(bool(reason) != good for reason, good in zip(shown.reason, shown.ok, strict=True))
