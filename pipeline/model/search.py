"""Which configurations to try: grids, random draws, and who survives a round of training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from pipeline.registry import Registry, config_hash
from pipeline.rng import generator

from .config import Config, complete_config

search_methods = Registry("search")


@search_methods.register("grid", default=True)
def grid(base: Mapping[str, Any], *, space: Mapping[str, Sequence[Any]]) -> list[Config]:
    """Return every combination of the values given.

    Parameters
    ----------
    base : dict
        Configuration that the candidates differ from.
    space : dict
        ``"section.parameter"`` to the list of its values, such as
        ``{"core.channels": [16, 32], "training.learning_rate": [0.003, 0.01]}``; the parameter
        `name` chooses another method of a section.
    """
    for name, values in space.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"a grid needs a list of values for {name!r}, got {values!r}")
    return _distinct(
        _replaced(base, dict(zip(space, values, strict=True)))
        for values in itertools.product(*space.values())
    )


@search_methods.register("random")
def random(
    base: Mapping[str, Any], *, space: Mapping[str, Any], n: int = 20, seed: int = 0
) -> list[Config]:
    """Return distinct configurations drawn at random.

    Parameters
    ----------
    base : dict
        Configuration that the candidates differ from.
    space : dict
        ``"section.parameter"`` to a list of values, each as likely, or to a range
        ``{"low": .., "high": .., "log": true, "integer": false}``: uniform, or uniform in the
        logarithm (the default).
    n : int
        Candidates; fewer if the space has not as many. Each is a stream of its own: the first 20
        of 40 are the 20.
    seed : int
        Names the draws.
    """
    drawn: list[Config] = []
    for index in range(20 * n):
        rng = generator(seed, "search", index)
        values = {name: _draw(name, space[name], rng) for name in sorted(space)}
        drawn = _distinct([*drawn, _replaced(base, values)])
        if len(drawn) == n:
            break
    return drawn


def survivors(scores: Mapping[str, float], keep: float) -> list[str]:
    """Return who goes on to the next rung: the best share by validation, at least one.

    Parameters
    ----------
    scores : dict
        Candidate to its validation correlation; NaN is worse than any number.
    keep : float
        Share that survives (0 to 1), rounded up.

    Returns
    -------
    list of str
        Best first; ties by name, so that the order of training does not matter.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], got {keep}")

    def rank(name: str) -> tuple[float, str]:
        score = scores[name]
        return (-score if math.isfinite(score) else math.inf, name)

    return sorted(scores, key=rank)[: max(1, math.ceil(keep * len(scores) - 1e-9))]


def _replaced(base: Mapping[str, Any], values: Mapping[str, Any]) -> Config:
    """Return a complete configuration with values put into its sections."""
    config = deepcopy({section: dict(params) for section, params in base.items()})
    # a method's name first: its parameters replace those of the method before
    for path in sorted(values, key=lambda path: not path.endswith(".name")):
        section, dot, parameter = path.partition(".")
        if not dot:
            raise ValueError(f"space needs 'section.parameter', got {path!r}")
        if parameter == "name" and config.get(section, {}).get("name") != values[path]:
            config[section] = {}
        config.setdefault(section, {})[parameter] = values[path]
    return complete_config(config)


def _draw(name: str, choice: Any, rng: np.random.Generator) -> Any:
    if not isinstance(choice, Mapping):
        return choice[int(rng.integers(len(choice)))]
    unknown = set(choice) - {"low", "high", "log", "integer"}
    low, high = choice.get("low"), choice.get("high")
    log = choice.get("log", True)
    if unknown or low is None or high is None or not low < high or (log and low <= 0):
        raise ValueError(
            f"range of {name!r} needs low < high (both > 0 if log), and may have log and integer; "
            f"got {dict(choice)}"
        )
    u = rng.random()
    value = math.exp(math.log(low) + u * math.log(high / low)) if log else low + u * (high - low)
    return round(value) if choice.get("integer", False) else float(f"{value:.4g}")


def _distinct(configs: Any) -> list[Config]:
    return list({config_hash(config): config for config in configs}.values())
