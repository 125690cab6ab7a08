"""Which objectives may be ascended in the crop of a receptive field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .objectives import objectives


def reads_own_unit(params: Mapping[str, Any], function: Callable | None = None) -> bool:
    """Return whether an ascent asks of an image for nothing but the response of its own unit.

    Only then may what lies outside of the unit's receptive field be left out. An objective says so
    by its attribute `own_unit`; of one that does not, whole frames are ascended.

    Parameters
    ----------
    params : mapping
        Complete parameters of an ascent method. One without an objective chooses for itself.
    function : function, optional
        An objective that is given in place of the one in `params`.
    """
    if function is not None:
        return bool(getattr(function, "own_unit", False))
    first = params.get("ascent")
    named = params.get("objective", first.get("objective") if isinstance(first, Mapping) else None)
    if named is None:
        return True
    name = named if isinstance(named, str) else named["name"]
    return bool(getattr(objectives[name], "own_unit", False))
