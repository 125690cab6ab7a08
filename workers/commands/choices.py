"""Verbs about what can be chosen: methods, and recipes that name them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.commands.common import PREFIX, Home, Json, Prefix, open_existing, recipe_of, say

app = typer.Typer()
recipes = typer.Typer(help="Show, check and compare recipes.", no_args_is_help=True)
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="default, demo, the hash of a stored recipe, or a file FILE.json."
    ),
]
_WIDTH = 100


@app.command()
def methods(
    stage: Annotated[
        str | None, typer.Argument(help="A stage (imaging) or a kind (deconvolver) [all].")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods of a stage or of a kind: what they do, their parameters and defaults."""
    from pipeline.catalog import catalog

    rows = catalog(stage)
    if as_json:
        print(json.dumps(rows))
        return
    kinds = {row["kind"] for row in rows}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        print(f"{of_kind[0]['stage']}: {kind}")
        for row in of_kind:
            marks = ["default"] * row["default"]
            marks += [f"revision {row['revision']}"] * (row["revision"] > 1)
            marked = f"{row['name']} ({', '.join(marks)})" if marks else row["name"]
            _print(f"{marked}: {row['summary']}", 2)
            if len(kinds) == 1:
                for parameter in row["params"]:
                    _print(_parameter(parameter), 6)
    if len(kinds) > 1:
        print("`inception methods KIND` shows the parameters of one kind")


def _parameter(parameter: dict[str, Any]) -> str:
    has = "default" in parameter
    value = f" = {json.dumps(parameter['default'])}" if has else ", always given"
    return f"{parameter['name']}{value}: {parameter['text']}".removesuffix(": ")


def _print(text: str, indent: int) -> None:
    print(
        textwrap.fill(
            text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 4)
        )
    )


@recipes.command("show")
def show(recipe: RecipeName = "default", home: Home = None, prefix: Prefix = PREFIX) -> None:
    """Print a recipe with every default, as JSON: a file for `inception loop --recipe`."""
    print(json.dumps(_complete(recipe, prefix), indent=2))


@recipes.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="The recipe.")],
    as_json: Json = False,
) -> None:
    """Check names and values of a recipe; say what it changes."""
    changes = _differences(_complete("default", PREFIX), _complete(str(file), PREFIX))
    what = f"changes {len(changes)} entries of the default" if changes else "is the default"
    lines = [f"{file}: a recipe that {what}", *map(_line, changes)]
    say({"file": str(file), "changes": changes}, as_json, "\n".join(lines))


@recipes.command("diff")
def diff(
    one: RecipeName,
    other: RecipeName,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Show what differs between two recipes, with their defaults filled in."""
    changes = _differences(_complete(one, prefix), _complete(other, prefix))
    say(changes, as_json, "\n".join(map(_line, changes)) or "the same")


def _complete(name: str, prefix: str) -> dict[str, Any]:
    """Return a recipe in full, by name, file or hash."""
    from schemas.decisions.recipe import RECIPES, complete_recipe

    if name in RECIPES:
        return complete_recipe(RECIPES[name]())
    given = recipe_of(name)
    if isinstance(given, dict):
        return complete_recipe(given)
    open_existing(prefix)
    from schemas.closed_loop import Recipe

    stored = (Recipe & {"recipe_hash": name}).to_dicts()
    if not stored:
        known = [*RECIPES, *(Recipe().to_arrays("recipe_hash"))]
        raise LookupError(f"no recipe {name!r}; there are {', '.join(map(str, known))}")
    return stored[0]["recipe"]


def _differences(one: Any, other: Any, path: str = "") -> list[dict[str, Any]]:
    """Return the entries at which two recipes differ; None stands for one that is absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        found = []
        for name in names:
            at = f"{path}.{name}" if path else name
            found += _differences(one.get(name), other.get(name), at)
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = []
        for row, pair in enumerate(zip(one, other, strict=True)):
            found += _differences(*pair, f"{path}[{row}]")
        return found
    return [] if one == other else [{"path": path, "one": one, "other": other}]


def _line(change: dict[str, Any]) -> str:
    one, other = (json.dumps(change[name]) for name in ("one", "other"))
    return f"  {change['path']}: {one} -> {other}"
