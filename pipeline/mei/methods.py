"""Ascent methods: compositions of parts with complete parameters."""

from __future__ import annotations

from typing import Any, Literal

from .ascent import Ascended, Problem, ascend, ascent_methods

Part = str | dict[str, Any]
Schedule = Literal["geometric", "linear"]
Normalise = Literal["l2", "mean_abs"]
Keep = Literal["best", "last"]
Priors = Literal["ensembles", "all", "none"]


@ascent_methods.register("constrained", default=True, revision=2)
def constrained(
    problem: Problem,
    *,
    steps: int = 100,
    step_start: float = 2.0,
    step_end: float = 0.01,
    schedule: Schedule = "geometric",
    normalise: Normalise = "l2",
    candidates: int = 32,
    scouts: int = 16,
    scout_steps: int = 25,
    restarts: int = 20,
    keep: Keep = "best",
    converged_within: float = 0.01,
    crop: bool = True,
    priors: Priors = "ensembles",
    initial: Part = "smooth_noise",
    transform: Part = "none",
    objective: Part = "activation",
    gradient: Part = "none",
    regulariser: Part = "none",
    constraint: Part = "norm",
    stopper: Part = "last_step",
    finish: Part = "none",
) -> Ascended:
    """Ascend on the sphere of images of one norm about mean gray (fixed rms contrast and mean).

    Parameters
    ----------
    problem : Problem
    steps : int
        Evaluations of model and gradient.
    step_start, step_end : float
        Length of a step as a share of the norm (`normalise` "l2"), or in z-scored pixels
        ("mean_abs").
    schedule : {"geometric", "linear"}
        How the step falls.
    candidates, scouts, scout_steps : int
        Starts that are drawn for one; the most exciting of them, `scouts` many, climb
        `scout_steps` steps; the highest of these goes on.
    restarts : int
        Further draws for a unit that is silent, without gradient, to all of them.
    keep : {"best", "last"}
        Which image of the way is returned; of those as good as the best, up to rounding, the
        latest.
    converged_within : float
        An ascent counts as converged if its last tenth brought no more than this share.
    crop : bool
        Ascend only the pixels that the unit sees, if the model knows them exactly.
    priors : {"ensembles", "all", "none"}
        For which models `transform` and `finish` are used: what they cost on the true neuron they
        earn only where the model errs. Any model without `members` is taken at its word.
        The finish `compact` helps networks of few trials (an animal imaged with 1,600 images:
        median true drive 0.903 to 0.914 of the best possible), but not better ones (200 unseen
        cells, 3,000 images: 0.935 to 0.928). An MEI is what excites the model most: it is off.
    initial, transform, objective, gradient, regulariser, constraint, stopper, finish : str or dict
        The parts.
    """
    return ascend(problem, _own(locals()))


@ascent_methods.register("walker2019", revision=2)
def walker2019(
    problem: Problem,
    *,
    steps: int = 1000,
    step_start: float = 3.0 * 0.1 / 255,
    step_end: float = 0.125 * 0.1 / 255,
    schedule: Schedule = "linear",
    normalise: Normalise = "mean_abs",
    candidates: int = 1,
    scouts: int = 1,
    scout_steps: int = 0,
    restarts: int = 20,
    keep: Keep = "last",
    converged_within: float = 0.01,
    crop: bool = False,
    priors: Priors = "all",
    initial: Part = "noise_2019",
    transform: Part = "none",
    objective: Part = "activation",
    gradient: Part = "spectral_2019",
    regulariser: Part = "blur_schedule",
    constraint: Part = "grey_range",
    stopper: Part = "last_step",
    finish: Part = "none",
) -> Ascended:
    """Ascend as Walker et al. (2019): no norm, falling step and blur, spectral preconditioning.

    Differences to the published code: starts are seeded, the frequency grid is in FFT order.
    See `constrained` for the parameters. The norm of the result is whatever comes out.

    References
    ----------
    Walker et al. (2019), Nature Neuroscience, doi:10.1038/s41593-019-0517-x
    """
    return ascend(problem, _own(locals()))


def _own(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "problem"}
