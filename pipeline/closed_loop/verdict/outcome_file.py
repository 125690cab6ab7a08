"""An outcome in one file, so that what is computed once can be read in parts."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from pipeline.closed_loop.verdict.confusion import confusion
from pipeline.closed_loop.verdict.outcome import Outcome
from pipeline.npy import read_npz

TABLES = ("responses", "comparisons", "populations")


def save_outcome(outcome: Outcome, path: str | PathLike) -> None:
    """Write an outcome to an npz file: tables as JSON, matrices as arrays."""
    tables = {name: getattr(outcome, name).to_dict("list") for name in TABLES}
    text = json.dumps({"kinds": outcome.kinds, **tables}, default=lambda value: value.item())
    matrices: dict[str, Any] = {
        f"matrix_{kind}": found.matrix for kind, found in outcome.confusions.items()
    }
    np.savez_compressed(path, tables=np.array(text), **matrices)


def load_outcome(path: str | PathLike) -> Outcome:
    """Read what `save_outcome` wrote."""
    arrays = read_npz(path)
    content = json.loads(str(arrays["tables"]))
    matrices = {kind: arrays[f"matrix_{kind}"] for kind in content["kinds"]}
    return Outcome(
        **{name: pd.DataFrame(content[name]) for name in TABLES},
        confusions={kind: confusion(matrix) for kind, matrix in matrices.items()},
        kinds=content["kinds"],
    )
