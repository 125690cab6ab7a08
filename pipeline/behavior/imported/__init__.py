"""Pupils that other programs have tracked: one reader and one method a program."""

from . import deeplabcut, facemap, sleap  # noqa: F401  registers the readers
