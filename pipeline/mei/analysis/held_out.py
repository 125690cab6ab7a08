"""Whether an MEI excites a network that took no part in making it."""

from __future__ import annotations

import numpy as np

from pipeline.mei.search import own_responses
from pipeline.mei.synthesize import synthesize
from pipeline.model import Ensemble
from pipeline.model.combination import mean_and_sd

from .base import Analysis, AnalysisContext, analyses


@analyses.register("held_out", revision=2)
def held_out(context: AnalysisContext, *, starts: int = 1) -> Analysis:
    """Make every MEI without one member of the ensemble (`Ensemble.leave_out`), and ask it.

    Parameters
    ----------
    context : AnalysisContext
        With an ensemble of at least two members.
    starts : int
        Of every MEI.

    Returns
    -------
    Analysis
        `makers`: mean response of the members that made the image; `held_out`: response of the
        one that did not; `ratio`: the second over the first; `member_cv`: standard deviation of
        all members over their mean, both by their shares, for the image they made together.
    """
    ensemble, stimuli = context.ensemble, context.stimuli
    if ensemble is None or len(ensemble.encoders) < 2:
        raise ValueError("'held_out' needs an ensemble of at least two members")
    others, left_out = ensemble.leave_out()
    made = synthesize(
        others.frozen(),
        stimuli.units,
        shape=(1, *stimuli.shape),
        mean=stimuli.image_mean,
        sd=stimuli.image_sd,
        norm=stimuli.length,
        starts=starts,
        seed=stimuli.seed,
        held_out=left_out.frozen(),
        device=stimuli.device.type,
    )
    units = stimuli.pick()
    z = context.mei.to(units.device)
    full = np.stack(
        [
            own_responses(Ensemble([member]).frozen().to(units.device), z, units)
            for member in ensemble.encoders
        ]
    )
    level = np.where(made.activations > 0, made.activations, np.nan)
    shares = None if ensemble.shares is None else ensemble.shares[:, stimuli.units]
    mean, sd = mean_and_sd(full, shares)
    return Analysis(
        {
            "makers": np.asarray(made.activations, float),
            "held_out": np.asarray(made.held_out, float),
            "ratio": made.held_out / level,
            "member_cv": sd / np.where(mean > 0, mean, np.nan),
        }
    )
