"""What methods there are, with their parameters, as their docstrings describe them."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from typing import Any

from pipeline.plugins import load_plugins
from pipeline.registry import Registry, registries
from pipeline.stages import STAGES

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
_ENTRY = re.compile(r"^(\w[\w, ]*?) *(?::.*)?$")


def catalog(stage: str | None = None) -> list[dict[str, Any]]:
    """List every registered method, plug-ins too, in the order in which data flow.

    Parameters
    ----------
    stage : str, optional
        A stage (`imaging`), or what a method is (`deconvolver`); None lists all.

    Returns
    -------
    list of dict
        `stage, kind, name, default, revision, summary, params`; `params` is a list of dict
        `name, default, text`, where a parameter without a default has no `default`.

    Raises
    ------
    ValueError
        If there is no such stage or kind.
    """
    for name in STAGES:
        if importlib.util.find_spec(f"pipeline.{name}"):  # some stages are tables only
            package = importlib.import_module(f"pipeline.{name}")
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    load_plugins()
    rows = [_row(registry, name) for registry in registries() for name in registry]
    shared = {
        (row["kind"], parameter["name"]): parameter["text"]
        for row in rows
        for parameter in row["params"]
        if parameter["text"]
    }
    rows = [row for row in rows if row["stage"] is not None]
    for row in rows:  # methods of a kind share parameters, and one of them describes these
        for parameter in row["params"]:
            parameter["text"] = parameter["text"] or shared.get(
                (row["kind"], parameter["name"]), ""
            )
    if stage is not None:
        kinds = sorted({row["kind"] for row in rows})
        word = stage.replace("_", " ")
        names = (word, word.removesuffix("s"))  # a plural, too
        chosen = [row for row in rows if row["stage"] == stage or row["kind"] in names]
        if not chosen:
            known = sorted({row["stage"] for row in rows})
            raise ValueError(f"no stage or kind {stage!r}; stages: {known}; kinds: {kinds}")
        rows = chosen
    return sorted(rows, key=lambda row: (STAGES.index(row["stage"]), row["kind"]))


def _row(registry: Registry, name: str) -> dict[str, Any]:
    function = registry[name]
    text = inspect.getdoc(function) or ""
    described = _of_records(function) | _parameters(text)
    params = [
        {"name": parameter}
        | ({} if default is inspect.Parameter.empty else {"default": default})
        | {"text": described.get(parameter, "")}
        for parameter, default in registry.defaults(name).items()
    ]
    return {
        "stage": _stage(registry),
        "kind": registry.kind,
        "name": name,
        "default": registry.has_default and registry.default == name,
        "revision": registry.revision(name),
        "summary": " ".join(text.split("\n\n")[0].split()),
        "params": params,
    }


def _stage(registry: Registry) -> str | None:
    """Return the stage whose package has registered the first of the methods."""
    for name in registry:
        parts = registry[name].__module__.split(".")
        if parts[0] == "pipeline" and parts[1] in STAGES:
            return parts[1]
    return None


def _of_records(function: Callable) -> dict[str, str]:
    """Return what the records that a function takes say of their fields."""
    found: dict[str, str] = {}
    for value in list(vars(sys.modules[function.__module__]).values()):
        if dataclasses.is_dataclass(value) and isinstance(value, type):
            found |= _parameters(inspect.getdoc(value) or "")
    return found


def _parameters(text: str) -> dict[str, str]:
    """Return the description of every parameter in a numpy docstring, on one line each."""
    heads = list(_HEADING.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found: dict[str, list[str]] = {}
    for head, end in zip(heads, ends, strict=False):
        if head[1] not in ("Parameters", "Other Parameters"):
            continue
        names: list[str] = []
        for line in text[head.end() : end].splitlines():
            entry = _ENTRY.match(line)
            if entry:
                names = [part.strip() for part in entry[1].split(",")]
                found |= {name: [] for name in names}
            elif line.strip():
                for name in names:
                    found[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}
