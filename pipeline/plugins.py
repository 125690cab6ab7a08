"""A laboratory's own methods: modules that every process imports before it computes.

A package names a module in its entry points, group `inception.plugins`; the environment variable
`INCEPTION_PLUGINS` names further ones, separated by commas. Importing such a module registers its
methods: a core, an objective, a kind of stimulus, a motion method, a reader of movies. They are
found by name from then on, in recipes, hashes, help texts and workers, as those of this program.
"""

from __future__ import annotations

import importlib
import os
from importlib import metadata

from pipeline.errors import DataError

GROUP = "inception.plugins"
VARIABLE = "INCEPTION_PLUGINS"

_loaded: dict[str, str] = {}


def load_plugins() -> dict[str, str]:
    """Import every plug-in that is not imported yet.

    Returns
    -------
    dict
        Module to where it is named: `lab-methods 0.3` for a package, `INCEPTION_PLUGINS`.

    Raises
    ------
    DataError
        If a plug-in cannot be imported; the message names it and who asked for it.
    """
    for module, source in _named().items():
        if module in _loaded:
            continue
        _loaded[module] = source  # a plug-in that asks for a method while it is imported
        try:
            importlib.import_module(module)
        except Exception as error:  # a stranger's code may raise anything
            del _loaded[module]
            raise DataError(
                "plug-in cannot be imported",
                file=source,
                field=module,
                found=f"{type(error).__name__}: {error}",
                remedy=f"mend or uninstall it, or take it out of {VARIABLE}",
            ) from error
    return dict(_loaded)


def _named() -> dict[str, str]:
    found = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.value):
        owner = entry.dist
        found[entry.value] = GROUP if owner is None else f"{owner.name} {owner.version}"
    for name in os.environ.get(VARIABLE, "").split(","):
        if name.strip():
            found.setdefault(name.strip(), VARIABLE)
    return found
