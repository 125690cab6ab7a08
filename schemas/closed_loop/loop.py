"""What was decided: recipe and loop."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import datajoint as dj

from pipeline.registry import config_hash
from schemas import experiment  # noqa: F401  in a foreign key
from schemas.closed_loop.binding import schema
from schemas.decisions.recipe import RECIPES, complete_recipe


@schema
class Recipe(dj.Lookup):
    definition = """
    # Every method and parameter of a loop
    recipe_hash     : char(16)       # hash of the complete recipe
    ---
    recipe_name=''  : varchar(64)    # short name
    recipe          : json           # see schemas.decisions.recipe
    """

    @classmethod
    def add(cls, recipe: str | Mapping[str, Any] | None = None, name: str = "") -> dict:
        """Insert a recipe unless it is there, and return its key.

        Parameters
        ----------
        recipe : str or mapping, optional
            Name in `RECIPES`, hash of a recipe in the table, or what differs from the default.
        name : str
            Short name of a new one.
        """
        if isinstance(recipe, str) and recipe not in RECIPES:
            known = (cls & {"recipe_hash": recipe}) or (cls & {"recipe_name": recipe})
            if len(known) != 1:
                names = sorted({*RECIPES, *cls.to_arrays("recipe_name")} - {""})
                raise ValueError(f"no recipe {recipe!r}; there are {names}, or give its hash")
            return known.fetch1("KEY")
        if recipe is None or isinstance(recipe, str):
            name = recipe or "default"
            recipe = RECIPES[name]()
        with contextlib.suppress(TypeError, ValueError):  # no JSON: `complete_recipe` says where
            if known := cls & {"recipe_hash": config_hash(recipe)}:
                return known.fetch1("KEY")  # taken out of this table, perhaps long ago
        full = complete_recipe(recipe)
        key = {"recipe_hash": config_hash(full)}
        if not cls & key:
            cls.insert1({**key, "recipe_name": name, "recipe": full}, skip_duplicates=True)
        return key


@schema
class Loop(dj.Manual):
    definition = """
    # Decision to close the loop on the cells of a scan; all tasks follow from it
    -> experiment.Scan
    -> Recipe
    ---
    targets         : int32          # most neurons to make stimuli for
    minutes         : float64        # time for the presentation on day 2 (min)
    deadline_utc=null : datetime     # when the package is needed (UTC)
    registered      : datetime       # when this was decided (UTC)
    """


@schema
class StoppedLoop(dj.Manual):
    definition = """
    # Loop that a person has stopped: jobs that no other loop needs wait until it is resumed
    -> Loop
    ---
    who             : varchar(64)    # who stopped it
    stopped_at      : datetime(3)    # (UTC, server time)
    """
