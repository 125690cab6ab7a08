"""What the command lines of single stages share: methods, their parameters, errors of one line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.registry import Registry


def add_method(parser: argparse.ArgumentParser, registry: Registry, *, leave: tuple = ()) -> None:
    """Add `--method` and `--set`, and list every method with its parameters in the help."""
    names = [name for name in registry if name not in leave]
    parser.add_argument(
        "--method", choices=names, default=registry.default, help=f"default: {registry.default}"
    )
    parser.add_argument(
        "--set",
        dest="params",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the method; may be given several times",
    )
    lines = ["methods and their parameters:"]
    for name in names:
        summary = (registry[name].__doc__ or "").strip().splitlines()[:1]
        lines.append(f"  {name}: {summary[0] if summary else ''}")
        lines += [f"      {k} = {v!r}" for k, v in registry.defaults(name).items()]
    parser.epilog = "\n".join(lines)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def chosen(registry: Registry, options: argparse.Namespace) -> tuple[Callable, dict[str, Any]]:
    """Return the method's function and its complete parameters.

    Raises
    ------
    ValueError
        If a parameter is unknown, or not of the form name=value.
    """
    params = {}
    for text in options.params:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE; got {text!r}")
        try:
            params[name] = json.loads(value)
        except json.JSONDecodeError:
            params[name] = value  # a word
    return registry[options.method], registry.complete(options.method, params)


def report(values: dict[str, Any], *, as_json: bool) -> None:
    """Print what a stage has found, one line a value or as one JSON object."""
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def run(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, call the chosen command and return 0, or 1 after one line that says what is wrong.

    Every command's parser has `command`, a function from the options to a dictionary to report.
    """
    options = parser.parse_args(arguments)
    try:
        found = options.command(options)
    except np.linalg.LinAlgError as error:  # a ValueError that names no file
        names = ("files", "file", "path", "traces")
        given = next((found for name in names if (found := getattr(options, name, None))), "input")
        where = given if isinstance(given, str) else ", ".join(map(str, given[:3]))
        problem = DataError(
            "numbers cannot be solved for",
            file=where,
            found=error,
            expected="a movie that varies everywhere",
            remedy="look for dead pixels, lines or borders, and cut them off",
        )
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    report(found, as_json=options.json)
    return 0
