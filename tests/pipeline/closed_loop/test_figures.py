"""The figures of day 2 draw what they are given, gaps and all."""

import numpy as np
import pandas as pd
import pytest

from pipeline import plotting


def figures():
    rng = np.random.default_rng(0)
    matrix = np.clip(rng.normal(0, 0.2, (12, 12)) + 0.7 * np.eye(12), -1, 1)
    matrix[3] = np.nan  # a unit that never varied
    ratio = np.array([1.0, 1.5, 2.0, 3.0])
    designs = pd.DataFrame(
        {
            "n_neurons": [6, 6, 12, 12],
            "repeats": [5, 20, 5, 20],
            "detectable_per_neuron": [None, 2.1, 2.6, 1.7],
        }
    )
    levels = pd.DataFrame(
        {
            "kind": ["rf"] * 3 + ["fni"] * 3,
            "percent": [50, 70, 90] * 2,
            "n_neurons": [12, 10, 7] * 2,
            "fraction": [0.8, 0.8, None, 1.0, 0.9, 0.9],
        }
    )
    kept = np.arange(40) % 3 == 0
    cnn = rng.uniform(0, 0.6, 40)
    cnn[5] = np.nan
    edges = (0.48 + np.arange(6) / 60).tolist()
    responses = {kind: rng.gamma(2, 1, 12) for kind in ("mei", "rf")}
    return {
        "confirmation": lambda: plotting.confirmation_figure(matrix, np.linspace(0.5, 1, 12)),
        "audit": lambda: plotting.audit_figure(
            {"ok": 480, "dropped": 3, "late": 11, "wrong": 0},
            {"edges_s": edges, "counts": [0, 470, 20, 0, 1]},
        ),
        "power": lambda: plotting.power_figure(
            {"ratio": ratio, "per_neuron": ratio / 3, "population": np.minimum(ratio / 2, 1)},
            designs,
            {"rf": 1.3, "fni": np.nan},
        ),
        "sensitivity": lambda: plotting.sensitivity_figure(levels),
        "selection": lambda: plotting.selection_figure(
            cnn, 0.6 * cnn, kept, {"validation score of the CNN is not above 0.1": 20, "near": 6}
        ),
        "prediction": lambda: plotting.prediction_figure(responses, responses),
        "sheet": lambda: plotting.sheet_figure(
            rng.integers(0, 256, (23, 36, 64), dtype=np.uint8), [f"unit {k}" for k in range(23)]
        ),
    }


@pytest.mark.parametrize("name", figures())
def test_a_figure_is_drawn(name, tmp_path):
    path = tmp_path / f"{name}.png"
    plotting.save(figures()[name](), path)
    assert path.stat().st_size > 5000
