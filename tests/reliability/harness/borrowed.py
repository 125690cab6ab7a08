"""Builders of whole and broken inputs that other tests have: a second copy would drift."""

import importlib.util
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]


def load(path):
    """Return a module of the tests by its path below `tests/`."""
    spec = importlib.util.spec_from_file_location("borrowed_" + Path(path).stem, TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
