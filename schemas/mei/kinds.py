"""Rows of kinds and variants as stimuli with one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def as_stimuli(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose `kind` is the stimulus's one name, variant included: `gabor`, `gabor:1`.

    Parameters
    ----------
    rows : DataFrame
        With columns `kind` and `variant`; a table without any row has neither.
    """
    from pipeline.stimulus.kinds import stimulus_name

    if "variant" not in rows:
        return rows
    names = [
        stimulus_name(kind, variant)
        for kind, variant in zip(rows["kind"], rows["variant"], strict=True)
    ]
    return rows.assign(kind=names).drop(columns="variant")
