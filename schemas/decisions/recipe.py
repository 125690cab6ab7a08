"""Recipes: the names and parameters of every method of a loop, as one JSON document."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any, Literal

from pipeline.closed_loop.names import THROUGH
from pipeline.errors import DataError
from pipeline.parameters import ParameterError, Rule, check_parameters, check_value, under
from pipeline.registry import Registry, canonical_json
from schemas.method import Methods

ANALYSES = (
    "stability",
    "gradient_spectrum",
    "spectrum_difference",
    "linear_filter",
    "linearised",
    "gabor_similarity",
    "natural_patches",
    "jitter_tuning",
    "contrast_tuning",
)
"""Analyses of the targets that the report shows; others may be asked for."""

FOR_THE_EYE = {"objective": "over_gaze"}  # of every image made by ascent, so that none is favored
METHOD: dict[str, Any] = {"method": None, "params": {}}  # None: the recommended one


def default_recipe() -> dict[str, Any]:
    """Return the recommended recipe; a method of None is its registry's default.

    Sections name methods as `{"method": name, "params": {...}}`. `model.cnn` and `model.ln` are
    encoder configurations (None: the recommended CNN and its linear-nonlinear twin), and
    `model.combination` is how both share the prediction that MEIs are made from (None instead of
    the section: that of the CNN alone). `controls` are the kinds of stimuli, the MEI itself among
    them. What is made by ascent is made for an eye that
    moves as it did on day 1 (`over_gaze`), since it will be shown to one; a method that a recipe
    names begins from its own defaults, which are for the mean gaze; parameters without a method
    change those of the recommended one.
    """
    return {
        "imaging": {
            step: deepcopy(METHOD)
            for step in ("raster", "motion", "segmentation", "fluorescence", "deconvolution")
        },
        "behavior": {step: deepcopy(METHOD) for step in ("pupil", "treadmill", "window")},
        "responses": {
            "window": deepcopy(METHOD),
            "min_soma_probability": 0.5,
            "min_snr": 3.0,
            "reliability": [deepcopy(METHOD)],
        },
        "dataset": {"height_px": 36, "tiers": {}},
        "model": {
            "cnn": None,
            "ln": None,
            "cnn_seeds": [1, 2, 3, 4],
            "ln_seeds": [1, 2],
            "combination": deepcopy(METHOD),
            "max_seconds": None,
        },
        "targets": deepcopy(METHOD),
        "mei": {
            **deepcopy(METHOD),
            "params": dict(FOR_THE_EYE),
            "starts": 4,
            "seed": 0,
            "norm": None,
            "batch_size": 25,
        },
        "mask": deepcopy(METHOD),
        "controls": _shown_kinds({}),
        "control_seed": 0,
        "analyses": [{"method": name, "params": {}} for name in ANALYSES],
        "pool": [],
        "display": deepcopy(METHOD),
        "plan": {**deepcopy(METHOD), "n_natural": 20},
        "match": {**deepcopy(METHOD), "min_probability": 0.5, "through": "field"},
        "outcome": deepcopy(METHOD),
    }


def _shown_kinds(gabor: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds of stimulus; what is made by ascent is made for an eye that moves."""
    params = {
        "mei": {},
        "rf": {"params": dict(FOR_THE_EYE)},
        "gabor": {**gabor, **FOR_THE_EYE},
        "mni": {},
        "fni": {},
    }
    return [{"method": kind, "params": given} for kind, given in params.items()]


def demo_recipe() -> dict[str, Any]:
    """Return a recipe for a short scan on two cores.

    One linear model, small batches, Gabors of the published bank, and as many repeats as fit.
    """
    return {
        "model": {"ln_seeds": [1]},
        "mei": {"batch_size": 6},
        "controls": _shown_kinds({"refine": 0}),
        "plan": {"params": {"max_repeats": None}, "n_natural": 8},
    }


class _Registries(Mapping[str, Registry]):
    """Registries by their place in a recipe; one is imported when it is asked for."""

    def __init__(self, methods: Mapping[str, Methods]) -> None:
        self._methods = dict(methods)

    def __getitem__(self, path: str) -> Registry:
        return self._methods[path].load()

    def __contains__(self, path: object) -> bool:
        return path in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)


REGISTRIES = _Registries(
    {
        "imaging.raster": Methods("pipeline.imaging.raster", "raster_methods"),
        "imaging.motion": Methods("pipeline.imaging.motion", "motion_methods"),
        "imaging.segmentation": Methods("pipeline.imaging.segmentation", "segmenters"),
        "imaging.fluorescence": Methods("pipeline.imaging.extraction", "fluorescence_methods"),
        "imaging.deconvolution": Methods("pipeline.imaging.deconvolution", "deconvolvers"),
        "behavior.pupil": Methods("pipeline.behavior.pupil", "pupil_trackers"),
        "behavior.treadmill": Methods("pipeline.behavior.treadmill", "treadmill_methods"),
        "behavior.window": Methods("pipeline.dataset", "behavior_windows"),
        "responses.window": Methods("pipeline.dataset", "response_windows"),
        "responses.reliability": Methods("pipeline.dataset", "reliability_methods"),
        "model.combination": Methods("pipeline.model", "combinations"),
        "targets": Methods("pipeline.mei.targets", "target_rules"),
        "mei": Methods("pipeline.mei", "ascent_methods"),
        "mask": Methods("pipeline.mei.masks", "mask_methods"),
        "controls": Methods("pipeline.mei.controls", "control_kinds"),
        "analyses": Methods("pipeline.mei.analysis", "analyses"),
        "display": Methods("pipeline.stimulus.display", "displays"),
        "plan": Methods("pipeline.closed_loop.planning.plan", "plan_methods"),
        "match": Methods("pipeline.closed_loop.matching", "match_methods"),
        "outcome": Methods("pipeline.closed_loop.verdict.outcome", "outcome_methods"),
    }
)
"""Where in a recipe methods are named, and the registry they are in."""

OPTIONAL = {"model.combination"}
"""Methods that a recipe may do without: None instead of a section."""

_SEEDS = Annotated[
    Sequence[int], Rule("(at least one, all different)", lambda x: 0 < len(x) == len(set(x)))
]
PLAIN: dict[str, Any] = {
    "responses.min_soma_probability": float,
    "responses.min_snr": float,
    "dataset.height_px": int,
    "model.cnn_seeds": _SEEDS,
    "model.ln_seeds": _SEEDS,
    "model.max_seconds": float | None,
    "mei.starts": int,
    "mei.seed": int,
    "mei.norm": float | None,
    "mei.batch_size": int,
    "control_seed": int,
    "pool": Sequence[str],
    "plan.n_natural": int,
    "match.min_probability": float,
    "match.through": Literal[THROUGH],
}
"""Entries that are no methods, and what their values are; ranges follow from the names."""

GIVEN = {"plan": {"minutes": 60}}
"""Parameters without a default: the loop's own value replaces them."""

RECIPES: dict[str, Callable[[], dict[str, Any]]] = {
    "default": default_recipe,
    "demo": demo_recipe,
}
"""Recipes by name; each returns what differs from the default."""


def complete_recipe(recipe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a recipe with everything filled in from the default, as a database hands it back.

    Raises
    ------
    ValueError
        If the recipe names a section or entry that does not exist.
    pipeline.parameters.ParameterError
        If a value is of another type than its entry, or out of range: one line with the path.
    """
    from pipeline.dataset import assign_tiers
    from pipeline.model import complete_config, default_config, ln_config

    full = default_recipe()
    _merge(full, {} if recipe is None else recipe, "recipe")
    for path, registry in REGISTRIES.items():
        found, where = _at(full, path), f"recipe.{path}"
        if found is None and path in OPTIONAL:
            continue
        if not isinstance(found, list):
            _complete_method(found, registry, where, GIVEN.get(path, {}))
            continue
        for row, method in enumerate(found):
            _complete_method(method, registry, f"{where}[{row}]", GIVEN.get(path, {}))
    _check_controls(full["controls"])
    for path, kind in PLAIN.items():
        check_value(path.rpartition(".")[2], _at(full, path), kind, path=f"recipe.{path}")
    for kind, config in (("cnn", default_config), ("ln", ln_config)):
        chosen = full["model"][kind]
        check_value(kind, chosen, Mapping[str, Any] | None, path=f"recipe.model.{kind}")
        with under(f"recipe.model.{kind}"):
            full["model"][kind] = complete_config(config() if chosen is None else chosen)
    tiers = inspect.signature(assign_tiers).parameters.values()
    known = {p.name: p.default for p in tiers if p.kind is p.KEYWORD_ONLY}
    unknown = sorted(set(full["dataset"]["tiers"]) - set(known))
    if unknown:
        raise ValueError(f"recipe.dataset.tiers has no {unknown}; it has {sorted(known)}")
    with under("recipe.dataset.tiers"):
        check_parameters("", assign_tiers, full["dataset"]["tiers"])
    full["dataset"]["tiers"] = {**known, **full["dataset"]["tiers"]}
    if full["match"]["through"] == "field":
        del full["match"]["through"]  # so that the hash is that of recipes without the choice
    return json.loads(canonical_json(full))


def _check_controls(controls: list[dict[str, Any]]) -> None:
    """Refuse two controls that would make the same images."""
    seen: dict[str, int] = {}
    for row, control in enumerate(controls):
        text = canonical_json([control["method"], control["params"]])
        if text in seen:
            raise DataError(
                f"kind {control['method']!r} stands twice with the same parameters",
                file="recipe",
                field=f"controls[{row}]",
                found=f"those of controls[{seen[text]}], and so the same images",
                expected="other parameters",
                remedy="change them, or leave it out",
            )
        seen[text] = row


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise DataError unless every method of a stored recipe is of the revision of today."""
    from pipeline.model import check_config

    for _, registry, method in _methods(recipe):
        registry.check(method["method"], method["params"], method.get("revision", 1))
        today = registry.revised(method["method"], method["params"]).get("revisions", {})
        if today != method.get("revisions", {}):
            raise DataError(
                f"{registry.kind} {method['method']!r} names methods of another revision",
                found=method.get("revisions", 1),
                expected=today or 1,
                remedy="give what differs from the default recipe instead of a stored one",
            )
    for kind in ("cnn", "ln"):
        if recipe["model"][kind] is not None:
            check_config(recipe["model"][kind])


def _methods(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Registry, dict[str, Any]]]:
    """Yield every method of a recipe: its section, the registry, and its dictionary there."""
    for path, registry in REGISTRIES.items():
        found: Any = recipe
        for name in path.split("."):
            found = found.get(name)  # recipes from before there was a section, too
        if found is None and path in OPTIONAL:
            continue
        for method in found if isinstance(found, list) else [found]:
            yield path, registry, method


def _at(full: Mapping[str, Any], path: str) -> Any:
    """Return the entry at a dotted path."""
    for name in path.split("."):
        full = full[name]
    return full


def _complete_method(
    method: dict[str, Any], registry: Registry, where: str, given: Mapping[str, Any]
) -> None:
    """Fill in name and parameters of a method of a recipe."""
    check_value("method", method.get("method"), str | None, path=f"{where}.method")
    name = registry.default if method.get("method") is None else method["method"]
    method["method"] = name
    if (revision := method.pop("revision", None)) is not None:
        registry.check(name, None, revision)
    method.pop("revisions", None)
    with under(f"{where}.params"):
        method["params"] = registry.complete(name, {**given, **(method.get("params") or {})})
    method |= registry.revised(name, method["params"])


def _merge(full: dict[str, Any], part: Mapping[str, Any], where: str) -> None:
    if not isinstance(part, Mapping):
        raise ParameterError(where, part, f"a JSON object with entries of {sorted(full)}")
    for name, value in part.items():
        if name not in full and not (name in ("revision", "revisions") and "params" in full):
            raise ValueError(f"{where} has no entry {name!r}; it has {sorted(full)}")
        at = f"{where}.{name}"
        if name in ("params", "tiers"):
            check_value(name, value, Mapping[str, Any] | None, path=at)
            full[name] = {**full[name], **deepcopy(dict(value or {}))}
        elif isinstance(full.get(name), dict) and not (value is None and _optional(at)):
            if isinstance(value, Mapping) and "params" in full[name] and value.get("method"):
                full[name]["params"] = {}  # a method that is named begins from its own defaults
            _merge(full[name], value, at)
        elif isinstance(full.get(name), list) and at.removeprefix("recipe.") in REGISTRIES:
            check_value(name, value, Sequence[Any], path=at)
            full[name] = [deepcopy(METHOD) for _ in value]
            for row, (method, chosen) in enumerate(zip(full[name], value, strict=True)):
                _merge(method, chosen, f"{at}[{row}]")
        else:
            full[name] = deepcopy(value)


def _optional(where: str) -> bool:
    return where.removeprefix("recipe.") in OPTIONAL
