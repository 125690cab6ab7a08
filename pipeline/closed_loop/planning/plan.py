"""Which image comes when on day 2, within the minutes that the animal gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.registry import Registry
from pipeline.rng import generator

plan_methods = Registry("plan method")

COLUMNS = ["trial_idx", "image", "kind", "duration_s", "blank_before_s"]


@dataclass(frozen=True)
class PlanResult:
    """A plan, and what had to stay out of it.

    Attributes
    ----------
    trials : DataFrame
        One row a trial in order of presentation: `trial_idx, image, kind, duration_s,
        blank_before_s`; `kind` is a name of a stimulus (`gabor`, `gabor:1`). An image that several
        targets or kinds share is shown as one image, under the first name that asks for it.
    repeats : int
        Presentations of every image.
    dropped : list of dict
        What does not fit: `{"target": row or None, "images": {kind: image}, "reason": text}`.
    total_s : float
        Time from the start of the first blank to the end of the last image, overhead included.
    """

    trials: pd.DataFrame
    repeats: int
    dropped: list[dict] = field(default_factory=list)
    total_s: float = 0.0


@plan_methods.register("balanced_blocks", default=True)
def balanced_blocks(
    images_by_kind: Mapping[str, Sequence[str | None]],
    *,
    minutes: float = 60.0,
    repeats: int | None = None,
    duration_s: float = 0.5,
    blank_s: tuple[float, float] = (0.3, 0.5),
    seed: int = 0,
    min_repeats: int = 10,
    max_repeats: int | None = 20,
    overhead_s: float = 0.02,
    pooled_kinds: Sequence[str] = ("natural",),
    pooled_fraction: float = 0.3,
) -> PlanResult:
    """Show every image once a block, in a new random order each block.

    Slow changes of the animal's state then fall on all images alike, and nothing but the image
    itself tells its kind. No image follows itself.

    Parameters
    ----------
    images_by_kind : mapping of name of stimulus to list of image ids
        Names are those of `pipeline.stimulus.kinds`: a kind, and which of a target's images of it.
        Row i of every list belongs to target i, best target first; None where a target lacks that
        image. Lists of `pooled_kinds` (re-test images) have rows of their own.
    minutes : float
        Time for the whole presentation.
    repeats : int, optional
        Presentations of every image; None takes what fits, between the next two.
    duration_s, blank_s
        Duration of an image; the gray blank before it is uniform between the two values, drawn in
        strata so that the plan's length is known.
    min_repeats, max_repeats : int
        If even `min_repeats` (or `repeats`) do not fit, re-test images are cut to
        `pooled_fraction` of a block, then targets are left out from the last one on.
    overhead_s : float
        Time lost per trial to flips (waiting for the monitor's refresh).
    seed : int
        Of the order and the blanks.
    pooled_kinds : sequence of str
        Names of the stimuli that are re-test images, without a target.
    pooled_fraction : float
        Share of a block that re-test images may have where time is short.

    Raises
    ------
    ValueError
        If there are fewer than two images, or not even one target fits.

    References
    ----------
    Timing: Walker et al. (2019), doi:10.1038/s41593-019-0517-x; 20 repeats: Ding et al. (2023).
    """
    return _plan(
        images_by_kind,
        _block_by_block,
        minutes=minutes,
        repeats=repeats,
        duration_s=duration_s,
        blank_s=blank_s,
        seed=seed,
        limits=(min_repeats, max_repeats),
        overhead_s=overhead_s,
        pooled_kinds=pooled_kinds,
        pooled_fraction=pooled_fraction,
    )


@plan_methods.register("shuffled")
def shuffled(
    images_by_kind: Mapping[str, Sequence[str | None]],
    *,
    minutes: float = 60.0,
    repeats: int | None = None,
    duration_s: float = 0.5,
    blank_s: tuple[float, float] = (0.3, 0.5),
    seed: int = 0,
    min_repeats: int = 10,
    max_repeats: int | None = 20,
    overhead_s: float = 0.02,
    pooled_kinds: Sequence[str] = ("natural",),
    pooled_fraction: float = 0.3,
) -> PlanResult:
    """Shuffle all presentations at once; only immediate repetitions are moved.

    Parameters as for `balanced_blocks`. Balanced over the whole plan only.
    """
    return _plan(
        images_by_kind,
        _all_at_once,
        minutes=minutes,
        repeats=repeats,
        duration_s=duration_s,
        blank_s=blank_s,
        seed=seed,
        limits=(min_repeats, max_repeats),
        overhead_s=overhead_s,
        pooled_kinds=pooled_kinds,
        pooled_fraction=pooled_fraction,
    )


def _block_by_block(images: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    order: list[int] = []
    for _ in range(repeats):
        block = rng.permutation(images)
        if order and block[0] == order[-1]:
            swap = rng.integers(1, len(block))
            block[0], block[swap] = block[swap], block[0]
        order.extend(block)
    return np.array(order)


def _all_at_once(images: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(np.repeat(np.arange(images), repeats))
    while len(twice := np.flatnonzero(order[1:] == order[:-1]) + 1):
        for place in twice:
            other = rng.integers(len(order))
            order[[place, other]] = order[[other, place]]
    return order


def _plan(
    images_by_kind: Mapping[str, Sequence[str | None]],
    arrange: Callable[[int, int, np.random.Generator], np.ndarray],
    *,
    minutes: float,
    repeats: int | None,
    duration_s: float,
    blank_s: Sequence[float],
    seed: int,
    limits: tuple[int, int | None],
    overhead_s: float,
    pooled_kinds: Sequence[str],
    pooled_fraction: float,
) -> PlanResult:
    """Choose what fits, and put it into the order that `arrange(images, repeats, rng)` returns."""
    low, high = _interval(blank_s)
    chosen, repeats, dropped = _fit(
        images_by_kind,
        trial_s=duration_s + float(np.mean((low, high))) + overhead_s,
        budget_s=minutes * 60,
        repeats=repeats,
        limits=limits,
        pooled=tuple(pooled_kinds),
        pooled_fraction=pooled_fraction,
    )
    order = arrange(len(chosen), repeats, generator(seed, "order"))
    rng = generator(seed, "blanks")
    n = len(order)
    strata = (rng.permutation(n) + rng.random(n)) / n  # uniform, with a mean of 1/2 within 1/n
    images, kinds = np.array(list(chosen), object), np.array(list(chosen.values()), object)
    trials = pd.DataFrame(
        {
            "trial_idx": np.arange(n),
            "image": images[order],
            "kind": kinds[order],
            "duration_s": float(duration_s),
            "blank_before_s": np.round(low + (high - low) * strata, 4),
        },
        columns=COLUMNS,
    )
    total = float((trials.duration_s + trials.blank_before_s).sum() + overhead_s * n)
    return PlanResult(trials, int(repeats), dropped, total)


def _interval(blank_s: Sequence[float]) -> tuple[float, float]:
    low, high = (float(b) for b in blank_s)
    if not 0 < low <= high:
        raise ValueError(f"blank_s must be 0 < shortest <= longest, got {tuple(blank_s)}")
    return low, high


def _fit(
    images_by_kind: Mapping[str, Sequence[str | None]],
    *,
    trial_s: float,
    budget_s: float,
    repeats: int | None,
    limits: tuple[int, int | None],
    pooled: tuple[str, ...],
    pooled_fraction: float,
) -> tuple[dict[str, str], int, list[dict]]:
    """Choose images (id to kind) and repeats that fit the time, and say what was left out."""
    kinds = [kind for kind in images_by_kind if kind not in pooled]
    n_targets = max((len(images_by_kind[kind]) for kind in kinds), default=0)
    targets = [
        {
            kind: image
            for kind in kinds
            if i < len(images_by_kind[kind]) and (image := images_by_kind[kind][i]) is not None
        }
        for i in range(n_targets)
    ]
    pool = [
        (kind, image)
        for kind in images_by_kind
        if kind in pooled
        for image in images_by_kind[kind]
        if image is not None
    ]
    goal = limits[0] if repeats is None else repeats
    if goal < 1:
        raise ValueError(f"every image must be shown at least once, got {goal} repeats")
    room = int((budget_s - 0.01) / (trial_s * goal))  # images that fit at the fewest repeats

    chosen = _unite(targets, pool)
    dropped: list[dict] = []
    if len(chosen) > room and targets:
        keep = int(pooled_fraction * room)
        for kind, image in pool[keep:]:
            dropped.append({"target": None, "images": {kind: image}, "reason": "no time"})
        pool = pool[:keep]
        while targets and len(_unite(targets, pool)) > room:
            dropped.append(
                {"target": len(targets) - 1, "images": targets.pop(), "reason": "no time"}
            )
        chosen = _unite(targets, pool)
    if len(chosen) > room or (n_targets and not targets):
        raise ValueError(
            f"{budget_s / 60:g} minutes hold {room} images x {goal} repeats of {trial_s:.2f} s, "
            "less than one target needs; give more minutes or fewer repeats"
        )
    if len(chosen) < 2:
        raise ValueError(f"a plan needs at least two images, got {len(chosen)}")
    if repeats is None:
        repeats = int((budget_s - 0.01) / (trial_s * len(chosen)))
        if limits[1] is not None:
            repeats = min(repeats, limits[1])
    return chosen, repeats, dropped


def _unite(targets: list[dict[str, str]], pool: list[tuple[str, str]]) -> dict[str, str]:
    """Return image to kind, every image once."""
    united: dict[str, str] = {}
    for target in targets:
        for kind, image in target.items():
            united.setdefault(image, kind)
    for kind, image in pool:
        united.setdefault(image, kind)
    return united
