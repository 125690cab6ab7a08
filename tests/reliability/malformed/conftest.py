"""Whole recordings to be damaged, by the builder of the ingest tests."""

import itertools

import pytest
from borrowed import load

write_bundle = load("schemas/conftest.py").write_bundle
ANIMALS = itertools.count(500_000)


@pytest.fixture
def next_animal():
    """An animal that no other test has."""
    return next(ANIMALS)
