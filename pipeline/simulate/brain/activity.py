"""What the cells of one recording do: rates, spikes and fluorescence, all known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from pipeline.simulate.rig.schedule import Shown

from .behavior import AnimalState, slow_gain
from .calcium import Indicator, draw_spikes, fluorescence
from .population import Population

LATENCY_S = 0.045  # from the monitor to the cortex
TRANSIENT_S = 0.10
FADE_S = 0.05
BIN_S = 0.0125  # longest time bin of the spike trains
CELLS_AT_ONCE = 12


@dataclass(frozen=True)
class Activity:
    """Activity of the cells of a recording."""

    rates_hz: NDArray[np.float32]  # (shown trials, population) expected rate while the image is on
    spikes: NDArray[np.uint16]  # (cells, frames) from the start of a frame to the next
    dff: NDArray[np.float32]  # (cells, frames) when the line of the cell is scanned


def trial_rates(
    population: Population, images: NDArray, shown: Shown, state: AnimalState
) -> NDArray[np.float32]:
    """Return the expected rate (Hz) of every trial with the animal's gaze and behavior then."""
    middle = shown.onset_s + 0.3
    rates = np.empty((len(middle), population.n_cells), np.float32)
    for start in range(0, len(middle), 1024):
        part = slice(start, start + 1024)
        rates[part] = population.drive(
            images[shown.image_index[part]],
            behavior=state.behavior(middle[part]),
            gaze=state.gaze(middle[part]),
        )
    return rates


def simulate_activity(
    population: Population,
    images: NDArray,
    shown: Shown,
    state: AnimalState,
    frame_times_s: NDArray,
    fps: float,
    *,
    cells: NDArray,
    delay_s: NDArray,
    kinetics: Indicator,
    amplitude: NDArray,
    rng: np.random.Generator,
) -> Activity:
    """Simulate the given cells of a population through a recording.

    Parameters
    ----------
    images : array, shape (images, H, W), uint8
    frame_times_s : array, shape (frames,)
        Starts of the frames (rig clock).
    cells : int array, shape (cells,)
        Indices into the population.
    delay_s : array, shape (cells,)
        When in a frame the cell is scanned.
    amplitude : array, shape (cells,)
        Fluorescence change of one action potential.
    """
    rates = trial_rates(population, images, shown, state)
    table = population.cells
    base = np.broadcast_to(table.base_hz.astype(np.float32), rates.shape)
    gain = np.exp(population.log_gain(state.behavior(shown.onset_s + 0.3), len(rates)))
    evoked = np.maximum(rates - base * gain, 0)
    noise = rng.spawn(len(cells))  # a stream per cell: how they are grouped does not matter
    if table.drift_sd.any():
        evoked *= slow_gain(shown.onset_s, table.drift_sd, rng.spawn(1)[0])
        rates = (evoked + base * gain).astype(np.float32)
    per_frame = int(np.ceil(1 / fps / BIN_S))
    bin_s = 1 / fps / per_frame
    n_frames, first = len(frame_times_s), frame_times_s[0]
    n_bins = n_frames * per_frame
    spikes = np.empty((len(cells), n_frames), np.uint16)
    dff = np.empty((len(cells), n_frames), np.float32)
    frame_gain_state = state.behavior(frame_times_s)
    bin_end = first + bin_s * np.arange(1, n_bins + 1)
    begin = np.round((shown.onset_s + LATENCY_S - first) / bin_s).astype(int)
    end = np.round((shown.offset_s + LATENCY_S - first) / bin_s).astype(int)
    since = bin_s * (np.arange(int(np.ceil(np.max(end - begin)))) + 0.5)
    profile = 1 + 1.0 * np.exp(-since / TRANSIENT_S)
    profile /= profile[: max(1, round(0.5 / bin_s))].mean()
    fade = np.exp(-bin_s / FADE_S)
    for group in range(0, len(cells), CELLS_AT_ONCE):
        part = slice(group, group + CELLS_AT_ONCE)
        which = cells[part]
        rate = np.zeros((len(which), n_bins))
        for i, generator in enumerate(noise[part]):
            variance = table.noise_gain_var[which[i]]
            level = evoked[:, which[i]].astype(float)
            if variance > 0:
                level *= generator.gamma(1 / variance, variance, len(level))
            for a, b, height in zip(begin, end, level, strict=True):
                a_in, b_in = max(a, 0), min(b, n_bins)
                if b_in > a_in:
                    rate[i, a_in:b_in] = height * profile[a_in - a : b_in - a]
        # the response outlasts the image a little
        off = rate == 0
        rate += np.where(off, lfilter([1 - fade], [1, -fade], rate, axis=1), 0)
        quiet = np.exp(population.log_gain(frame_gain_state, n_frames)[:, which]).T
        rate += np.repeat(quiet * table.base_hz[which, None], per_frame, axis=1)
        counts = np.stack(
            [
                draw_spikes(level[None], bin_s, table.noise_order[[unit]], generator)[0]
                for level, unit, generator in zip(rate, which, noise[part], strict=True)
            ]
        )
        spikes[part] = counts.reshape(len(which), n_frames, per_frame).sum(2)
        fine = fluorescence(counts, bin_s, kinetics, amplitude[part])
        for i, trace in enumerate(fine):
            dff[group + i] = np.interp(frame_times_s + delay_s[group + i], bin_end, trace)
    return Activity(rates_hz=rates, spikes=spikes, dff=dff)


def neuropil_activity(
    dff: NDArray, speed_cm_s: NDArray, n_modes: int, fps: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return relative changes (frames, modes) of neuropil light.

    A part common to all (the population's mean activity, running, slow fluctuations) and a part
    of each mode's own.
    """
    n = dff.shape[1]

    def slow(tau_s: float, shape: tuple[int, ...]) -> NDArray:
        keep = np.exp(-1 / (tau_s * fps))
        return lfilter([np.sqrt(1 - keep**2)], [1, -keep], rng.normal(size=shape), axis=0)

    def unit(x: NDArray) -> NDArray:
        sd = x.std(0)
        return (x - x.mean(0)) / np.where(sd > 0, sd, 1)

    keep = np.exp(-1 / (1.0 * fps))
    running = lfilter([1 - keep], [1, -keep], np.minimum(speed_cm_s / 10, 1.5))
    population = unit(dff.mean(0)) if len(dff) else np.zeros(n)
    common = 0.6 * population + 0.4 * unit(running) + 0.5 * slow(2.0, (n,))
    return (0.18 * common[:, None] + 0.20 * slow(1.2, (n, n_modes))).astype(np.float32)
