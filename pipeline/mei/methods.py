"""Ascent methods: compositions of parts with complete parameters."""

from __future__ import annotations

from pipeline.parameters import takes

from .ascent import Ascended, AscentParameters, Problem, ascend, ascent_methods

CONSTRAINED = AscentParameters()
WALKER2019 = AscentParameters(
    steps=1000,
    step_start=3.0 * 0.1 / 255,
    step_end=0.125 * 0.1 / 255,
    schedule="linear",
    normalise="mean_abs",
    candidates=1,
    scouts=1,
    scout_steps=0,
    keep="last",
    crop=False,
    priors="all",
    initial="noise_2019",
    gradient="spectral_2019",
    regulariser="blur_schedule",
    constraint="grey_range",
)


@ascent_methods.register("constrained", default=True, revision=2)
@takes(CONSTRAINED)
def constrained(problem: Problem, parameters: AscentParameters) -> Ascended:
    """Ascend on the sphere of images of one norm about mean gray (fixed rms contrast and mean).

    Parameters
    ----------
    problem : Problem
    parameters : AscentParameters
        Given one by one, as keywords. The finish `compact` helps networks of few trials (an animal
        imaged with 1,600 images: median true drive 0.903 to 0.914 of the best possible), but not
        better ones (200 unseen cells, 3,000 images: 0.935 to 0.928). An MEI is what excites the
        model most: it is off.
    """
    return ascend(problem, parameters)


@ascent_methods.register("walker2019", revision=2)
@takes(WALKER2019)
def walker2019(problem: Problem, parameters: AscentParameters) -> Ascended:
    """Ascend as Walker et al. (2019): no norm, falling step and blur, spectral preconditioning.

    Differences to the published code: starts are seeded, the frequency grid is in FFT order.
    The norm of the result is whatever comes out.

    Parameters
    ----------
    problem : Problem
    parameters : AscentParameters
        Given one by one, as keywords.

    References
    ----------
    Walker et al. (2019), Nature Neuroscience, doi:10.1038/s41593-019-0517-x
    """
    return ascend(problem, parameters)
