"""Decisions of people about targets, which come before any rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .data import TargetData, TargetResult, target_rules
from .selection import reason_of


def choose_targets(method: str, data: TargetData, params: Mapping[str, Any]) -> TargetResult:
    """Apply a target rule, and see to it that decisions by hand come before it.

    Parameters
    ----------
    method : str
        Name in `target_rules`. A rule of a plug-in that does not read `data.by_hand` has its
        choice corrected: excluded units go, included ones come first, and as many stay as
        `n_targets` says where the rule has such a parameter.
    data : TargetData
    params : mapping
        Keyword parameters of the rule.
    """
    result = target_rules[method](data, **params)
    by_hand = data.by_hand or {}
    if all(result.kept[unit] == decision.included for unit, decision in by_hand.items()):
        return result
    included = [unit for unit, decision in by_hand.items() if decision.included]
    score = np.nan_to_num(np.asarray(result.score, float), nan=-np.inf)
    first = sorted(included, key=lambda unit: (-score[unit], unit))
    others = [int(unit) for unit in np.argsort(result.rank) if result.kept[unit]]
    most = max(int(params.get("n_targets", len(score))), len(first))
    kept = [*first, *(unit for unit in others if unit not in by_hand)]
    reason = list(result.reason)
    for unit in kept[most:]:
        reason[unit] = f"not among the best {most}"
    for unit, decision in by_hand.items():
        reason[unit] = reason_of(decision)
    rank = np.full(len(score), -1, np.int64)
    rank[kept[:most]] = np.arange(len(kept[:most]))
    return replace(result, kept=rank >= 0, rank=rank, reason=reason)
