"""Small recordings written by hand: what is true of them is known without the code."""

import itertools

import pytest

ANIMALS = itertools.count(1000)


@pytest.fixture
def next_animal():
    """An animal that no other test has."""
    return next(ANIMALS)


@pytest.fixture
def write_bundle(tmp_path, next_animal):
    """Write a recording of an extracted scan; keyword arguments replace entries of the JSON."""
    from bundles import write_recording

    def write(name="bundle", **options):
        return write_recording(tmp_path / name, next_animal, **options)

    return write
