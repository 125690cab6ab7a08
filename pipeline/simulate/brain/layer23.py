"""Cells as in layer 2/3 of mouse primary visual cortex.

Form. The most exciting images of such cells are corners, checkerboards, curved strokes, textures
and centers with a surround as well as Gabors (Walker et al. 2019, doi:10.1038/s41593-019-0517-x);
many are linear in one part of the field and indifferent to phase in the other (Ding et al. 2023,
doi:10.1101/2023.03.15.532836). Simple and complex cells are both common, and spatial frequencies
of 0.02 to 0.1 cycles per degree (Niell and Stryker 2008, doi:10.1523/JNEUROSCI.0623-08.2008), of
which a model pixel is about two. Inhibition is broadly tuned (Kerlin et al. 2010,
doi:10.1016/j.neuron.2010.08.002): here it grows with the contrast in the field, whatever is there.

The shares of the forms are not published as numbers. Those here, the strength of inhibition and the
rectification give what networks trained on mouse V1 have (SENSORIUM 2022, mouse 26872; sinzlab,
`sensorium_sota_model`): a best image 2.3 times as strong as the best of a thousand natural images,
sparseness over natural images of 0.5 (0.2 to 0.8), and a best Gabor that is clearly weaker than the
best image in most cells (median 0.59 there, 0.72 here, where one cell in eight looks for a Gabor).

State. Running and a wide pupil raise the gain of most cells by half to twofold (Niell and Stryker
2010, doi:10.1016/j.neuron.2010.01.033; Reimer et al. 2014, doi:10.1016/j.neuron.2014.09.033). Each
cell's own gain wanders slowly, within an hour and from day to day (Marks and Goard 2021,
doi:10.1038/s41467-021-25436-3; Deitch et al. 2021, doi:10.1016/j.cub.2021.07.062).

Noise. Single trials vary more than a Poisson process, since the gain does (Goris et al. 2014,
doi:10.1038/nn.3711): most presentations draw little from a cell that answers others with a burst. A
gamma gain does both: with a variance above 1 most gains are near 0, a few are many times the mean,
and one trial can hold a large share of a cell's variance. The variance of each cell is such that
its oracle correlation over ten repeats (Walker et al. 2019) is drawn around 0.35, lognormal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.rng import generator

from .cells import KINDS, Banks, CellTable, shared_out
from .forms import FIELD_SIGMAS, FORMS, Field

FORM_SHARES = {
    "corner": 0.2,
    "texture": 0.25,
    "gabor": 0.12,
    "curve": 0.15,
    "crossing": 0.1,
    "check": 0.1,
    "surround": 0.08,
}
KIND_SHARES = {"mixed": 0.55, "normalised": 0.2, "simple": 0.15, "complex": 0.1}
FIELD_PX = (18.0, 0.28, 9.0, 35.0)  # median, sd of the log, least, most; of 36 rows
ORACLE, ORACLE_SD, ORACLE_RANGE = 0.35, 0.4, (0.06, 0.85)
REPEATS, SHOWN_S = 10, 0.5  # that the oracle is of
STATE_GAIN_VAR, STILL = 0.2, 0.72  # of behavior; share of the signal that moving eyes leave
MEASURED_SD = 0.75  # (counts) noise of spike inference
GAIN_VAR_MOST = 12.0


@dataclass(frozen=True)
class FormCells(CellTable):
    """Cells of many forms."""

    threshold_from_mean: ClassVar[bool] = True

    field_px: NDArray[np.float64]  # diameter that holds 95 % of the energy of the form


def draw_v1(
    n: int,
    seed: int,
    shape: tuple[int, int],
    kinds: Mapping[str, float] | None = None,
    *,
    oracle: float = ORACLE,
) -> tuple[FormCells, Banks]:
    """Draw `n` cells and their filters.

    Parameters
    ----------
    n, seed : int
    shape : (int, int)
        Model pixels.
    kinds : dict, optional
        Fractions of the four kinds; default `KIND_SHARES`.
    oracle : float
        Median oracle correlation of ten repeats, 0.05 to 0.5: more than that, eyes that move and
        the counting of spikes do not leave.

    Raises
    ------
    ValueError
        If the oracle is out of range, or a kind is unknown.
    """
    if not 0.05 <= oracle <= 0.5:
        raise ValueError(f"oracle {oracle}; a median of 0.05 to 0.5 can be made")
    rng = generator(seed, "v1 cells")
    kind = shared_out(n, kinds or KIND_SHARES, KINDS)
    # forms are dealt out apart from kinds, so that every form comes in every kind
    form = shared_out(n, FORM_SHARES, tuple(FORMS))
    form = form[np.argsort(np.arange(n) // 20 + rng.random(n), kind="stable")]
    scale = shape[0] / 36
    middle, spread, least, most = FIELD_PX
    field_px = np.clip(rng.lognormal(np.log(middle), spread, n), least, most) * scale
    wide = np.select([form == "texture", form == "surround"], [1.25, 0.8], 1.0)
    field_px = np.minimum(field_px * wide, most * scale)
    margin = np.clip(0.38 * field_px, 6 * scale, 0.38 * shape[0])
    angle = rng.uniform(0, 2 * np.pi, n)
    cells = FormCells(
        kind=kind,
        form=form,
        y_px=margin + rng.random(n) * (shape[0] - 1 - 2 * margin),
        x_px=margin + rng.random(n) * (shape[1] - 1 - 2 * margin),
        sigma_px=field_px / FIELD_SIGMAS,
        aspect=np.ones(n),
        phase_weight=np.select(
            [kind == "simple", kind == "complex", kind == "mixed"],
            [1.0, 0.0, rng.uniform(0.45, 0.7, n)],
            default=rng.uniform(0.45, 0.7, n),
        ),
        normalisation=np.where(kind == "normalised", 1.0, 0.0),
        inhibition=rng.uniform(0.3, 0.55, n),
        threshold=rng.uniform(-1.2, -0.1, n),
        power=rng.uniform(1.3, 1.9, n),
        saturation=rng.uniform(25, 60, n),
        mean_hz=np.clip(rng.lognormal(np.log(3.2), 0.45, n), 0.8, 10.0),
        base_hz=rng.uniform(0.02, 0.3, n),
        gain_pupil=rng.normal(1.3, 0.7, n),
        gain_dilation=rng.normal(0.06, 0.04, n),
        gain_running=rng.normal(0.8, 0.5, n),
        drift_sd=rng.uniform(0.05, 0.3, n),
        noise_order=np.ones(n, np.int64),
        noise_gain_var=np.zeros(n),
        oracle=np.clip(oracle * rng.lognormal(0, ORACLE_SD, n), *ORACLE_RANGE),
        field_px=field_px,
    )
    return cells, _filters(cells, angle, shape, rng.spawn(n))


def _filters(
    cells: FormCells, angle: NDArray, shape: tuple[int, int], streams: list[np.random.Generator]
) -> Banks:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    banks = np.zeros((3, len(cells.form), rows.size), np.float32)
    for i, rng in enumerate(streams):
        dy, dx = rows - cells.y_px[i], columns - cells.x_px[i]
        cos, sin = np.cos(angle[i]), np.sin(angle[i])
        field = Field(dx * cos + dy * sin, -dx * sin + dy * cos, cells.field_px[i], rng)
        even, odd = FORMS[cells.form[i]](field)
        if (
            0 < cells.phase_weight[i] < 1 and len(even) > 1
        ):  # linear in one part, energy of the rest
            parts = (even[:1], even[1:], odd[1:])
        else:
            parts = (even, even, odd)
        banks[:, i] = [np.sum(part, 0).ravel() for part in parts]
        norm = np.sqrt((banks[:2, i] ** 2).sum(1).max())
        banks[:, i] /= norm
    return Banks(*banks)


def gain_variance(rates: NDArray, cells: CellTable) -> NDArray[np.float64]:
    """Return the variance of the trial gain with which cells have the oracle they are to have.

    The oracle correlates a trial with the mean of the other ``k - 1`` repeats: of signal variance
    ``S`` and noise ``N`` it is ``S / sqrt((S + N) (S + N / (k - 1)))``. The noise of a count of
    mean ``m`` is ``m / order + (v + s) m^2`` and that of the measurement, with ``v`` asked for and
    ``s`` of behavior; eyes that move take a part of the signal.

    Parameters
    ----------
    rates : array, shape (images, units)
        Response to natural images (Hz).
    cells : CellTable

    Returns
    -------
    array, shape (units,)
        0 where a cell is not that reliable with no such noise at all.
    """
    mean = SHOWN_S * rates.astype(np.float64)
    signal = STILL * mean.var(0)
    low, high = np.zeros_like(signal), 1e4 * signal
    for _ in range(60):
        noise = (low + high) / 2
        r = signal / np.sqrt((signal + noise) * (signal + noise / (REPEATS - 1)))
        low, high = np.where(r >= cells.oracle, noise, low), np.where(r < cells.oracle, noise, high)
    square = (mean**2).mean(0)
    other = mean.mean(0) / cells.noise_order + STATE_GAIN_VAR * square + MEASURED_SD**2
    other += (1 - STILL) * mean.var(0)
    return np.clip((low - other) / square, 0, GAIN_VAR_MOST)
