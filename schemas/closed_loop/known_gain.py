"""The gain that the model of day 1 expects on every trial of a presentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas import dataset, mei, model, stimulus
from schemas.closed_loop.planning import Plan

CHUNK = 256  # trials predicted at once


class GainInputs(NamedTuple):
    """What the gains of a presentation are computed from; references in place of arrays."""

    behavior: Any  # (trials, columns) of the presentation
    pupil_center: Any  # (trials, 2)
    file: Any  # of Dataset.fetch_file: states of day 1
    weights: dict[str, Any]  # of EnsembleSpec.fetch_weights
    image_files: list[tuple]  # of stimulus.ImageSet.locate


def without_state(methods: Any) -> Any:
    """Return presentations and methods that wait for the animal's state on the trials."""
    names = set(methods.to_arrays("outcome_method").tolist()) - {"welch_bh"}
    asking = [{"outcome_method": name} for name in sorted(names) if _takes_gain(name)]
    due = dataset.TrialBehaviorTask.proj() - dataset.TrialBehavior.proj()
    return due * (methods & asking).proj()


def _takes_gain(method: str) -> bool:
    from pipeline.closed_loop.verdict.outcome import takes_gain

    return takes_gain(method)


def fetch_gain_inputs(
    key: Mapping[str, Any], method: str, plan: str, data: Mapping[str, Any], images: Sequence[str]
) -> GainInputs | None:
    """Return what the gains are computed from.

    None if the method asks for none, or the animal's state was not recorded.

    Parameters
    ----------
    key : mapping
        Names one presentation.
    method : str
        Outcome method.
    plan : str
        Its `plan_id`.
    data : mapping
        `dataset_hash` of day 1.
    images : sequence of str
        `image_hash` of all own images.
    """
    states = dataset.TrialBehavior & {n: key[n] for n in ("animal_id", "session", "scan_idx")}
    rows = states.to_dicts(order_by="KEY") if _takes_gain(method) and states else []
    if not rows:
        return None
    shown = (mei.Display * Plan.Source & {"plan_id": plan}).to_arrays("ensemble_hash")
    (ensemble,) = set(shown.tolist())  # the model that made the MEIs
    return GainInputs(
        rows[0]["behavior"],
        rows[0]["pupil_center"],
        dataset.Dataset.fetch_file(data),
        model.EnsembleSpec.fetch_weights({"ensemble_hash": ensemble}),
        stimulus.ImageSet.locate(sorted(set(images))),
    )


def compute_gain(
    given: GainInputs | None,
    rows: Sequence[int],
    images: Sequence[str],
    own: Mapping[str, Sequence[str | None]],
    units: Sequence[int],
) -> NDArray[np.float64] | None:
    """Return the gain of every trial, shape (trials, neurons).

    The model's response to the trial's image in the trial's state, over that in the mean state of
    day 1. NaN where it is not known, and for images of other neurons.

    Parameters
    ----------
    given : GainInputs or None
    rows : sequence of int
        Trials that are scored, in the order of the presentation.
    images : sequence of str
        `image_hash` of each.
    own : mapping of kind to image_hash of every neuron
    units : sequence of int
        `unit_index` of every neuron.
    """
    if given is None:
        return None
    from pipeline.closed_loop.verdict.state import as_on_another_day

    data, ensemble = dataset.load_dataset(given.file), model.load_ensemble(given.weights)
    gain = np.full((len(rows), len(units)), np.nan)
    states = [
        as_on_another_day(today.load()[list(rows)], before)
        for today, before in (
            (given.behavior, data.behavior),
            (given.pupil_center, data.pupil_center),
        )
    ]
    known = np.ones(len(rows), bool)
    for state in states:
        known &= True if state is None else np.isfinite(state).all(1)
    shown = stimulus.load_images(given.image_files)
    names = np.asarray(images)
    trial, neuron = [], []
    for ids in own.values():
        for place, name in enumerate(ids):
            here = np.flatnonzero((names == name) & known) if name is not None else []
            trial += list(here)
            neuron += [place] * len(here)
    for start in range(0, len(trial), CHUNK):
        t, n = np.array(trial[start : start + CHUNK]), np.array(neuron[start : start + CHUNK])
        pictures = np.stack([shown[name] for name in names[t]])
        unit = np.asarray(units)[n]
        now = [None if state is None else state[t] for state in states]
        here, rest = (
            ensemble.predict(pictures, *state)[np.arange(len(t)), unit]
            for state in (now, (None, None))
        )
        gain[t, n] = np.where((here > 0) & (rest > 0), here / np.maximum(rest, 1e-12), np.nan)
    return gain
