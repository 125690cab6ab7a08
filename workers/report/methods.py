"""The methods text: what was really done, with actual parameters and versions."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from workers.report.context import Loop
from workers.report.page import Section
from workers.version import code_version

PACKAGES = ("numpy", "scipy", "torch", "datajoint", "opencv-python-headless", "pandas")
STEPS = {
    "imaging": "Imaging", "behavior": "Behaviour", "targets": "Selection of neurons",
    "mei": "Most exciting inputs", "mask": "Masks", "display": "Display", "plan": "Plan of day 2",
    "match": "The same cells", "outcome": "Verdict",
}  # fmt: skip


def methods(page: Loop) -> Section:
    """Return the methods as paragraphs."""
    from schemas import closed_loop

    recipe = page.recipe
    lines = []
    # a loop decides these itself, whatever its recipe says
    decided = {
        "targets": {"n_targets": page.loop["targets"]},
        "plan": {"minutes": page.loop["minutes"]},
    }
    for step, title in STEPS.items():
        chosen = {**recipe[step], **decided.get(step, {})}
        parts = chosen.items() if "method" not in chosen else [("", chosen)]
        lines.append(f"{title}. " + " ".join(_sentence(name, part) for name, part in parts))
    responses = recipe["responses"]
    lines.insert(2, "Responses. " + _sentence("", responses["window"]))
    network = recipe["model"]
    for kind in ("cnn", "ln"):
        config = network[kind]
        layers = "; ".join(f"{part}: {_settings(config[part])}" for part in sorted(config))
        seeds = ", ".join(map(str, network[f"{kind}_seeds"]))
        lines.append(f"Model {kind.upper()}, seeds {seeds}. {layers}.")
    if network.get("combination") is not None:
        lines.append("Models combined for MEIs. " + _sentence("", network["combination"]))
    kinds = "; ".join(f"{c['method']} ({_settings(c['params'])})" for c in recipe["controls"])
    lines.append(f"Stimuli. {kinds}.")
    frozen = (closed_loop.AnalysisPlan & (page.plan or {})).to_dicts()
    if frozen:
        plan = frozen[0]["analysis_plan"]
        pairs = ", ".join(" against ".join(pair) for pair in plan["comparisons"])
        lines.append(
            f"Analysis plan, frozen as {frozen[0]['analysis_hash']} before day 2. {pairs}; "
            f"{plan['method']} ({_settings(plan['params'])}); neurons matched with probability "
            f"{plan['inclusion']['min_match_probability']} or more, trials that passed the audit."
        )
    for row in (closed_loop.Package & (page.plan or {})).to_dicts(order_by="written"):
        lines.append(f"Package {row['package_digest'][:16]} was written {row['written']} (UTC).")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _installed())
    python = platform.python_version()
    lines.append(f"Software. inception-loop {code_version()}, Python {python}, {versions}.")
    return Section(f"Methods of the loop on {page.name}", remarks=lines)


def _installed() -> list[str]:
    known = {item.metadata["Name"].lower() for item in metadata.distributions()}
    return [name for name in PACKAGES if name in known]


def _sentence(name: str, part: Any) -> str:
    if not isinstance(part, dict) or "method" not in part:
        return f"{name}: {part}." if name else f"{part}."
    rest = {k: v for k, v in part.items() if k not in ("method", "params")}
    settings = _settings({**part["params"], **rest})
    return f"{name + ': ' if name else ''}{part['method']}" + (
        f" ({settings})." if settings else "."
    )


def _settings(values: Any) -> str:
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
