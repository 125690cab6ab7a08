"""Lookup tables of methods: a registered function with its complete parameters is a row."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pipeline.registry import Registry


class Methods:
    """A registry as a class attribute, whose module is imported when the attribute is read.

    Compiled code and torch stand behind most registries; who only asks tables needs neither.

    Parameters
    ----------
    module : str
        Such as ``pipeline.mei``; importing it registers its methods.
    name : str
        Name of the registry there.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __get__(self, table: object, cls: type | None = None) -> Registry:
        return self.load()

    def load(self) -> Registry:
        """Import the registry and return it."""
        return getattr(importlib.import_module(self.module), self.name)


class MethodTable:
    """Mixin of the `...Method` lookups: columns `<x>_hash`, `<x>_method`, `<x>_params`."""

    registry: Methods

    @classmethod
    def _columns(cls) -> tuple[str, str, str]:
        (key,) = cls.primary_key
        stem = key.removesuffix("_hash")
        return key, f"{stem}_method", f"{stem}_params"

    @classmethod
    def add(
        cls,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        revision: int | None = None,
    ) -> dict:
        """Insert a method unless it is there already, and return its key.

        Parameters
        ----------
        name : str, optional
            Registered name; default is the recommended method.
        params : mapping, optional
            Parameters; what is left out takes its default.
        revision : int, optional
            The one that is meant, as a recipe of before names it; default the one of today.

        Raises
        ------
        DataError
            If another revision than that of today is meant.
        ValueError
            If method or parameter is unknown.
        """
        name = name or cls.registry.default
        if revision is not None:
            cls.registry.check(name, None, revision)
        full = cls.registry.complete(name, params)
        key_name, name_column, params_column = cls._columns()
        key = {key_name: cls.registry.hash(name, params)}
        if not cls & key:
            cls.insert1({**key, name_column: name, params_column: full}, skip_duplicates=True)
        return key

    @classmethod
    def fetch_method(cls, key: Mapping[str, Any]) -> tuple[str, dict]:
        """Return name and parameters of the one method that `key` restricts to, to compute by it.

        Raises
        ------
        DataError
            If the row is of a revision that this program does not compute. Its results stay.
        """
        key_name, name_column, params_column = cls._columns()
        row = (cls & key).fetch1()
        name, params = row[name_column], row[params_column]
        cls.registry.check_stored(row[key_name], name, params, lambda found: cls.key_of(found, row))
        return name, params

    @classmethod
    def key_of(cls, found: str, row: Mapping[str, Any]) -> str:
        """Return the key of a row from the hash of its method: the same, unless a table adds."""
        return found

    @classmethod
    def stored_method(cls, key: Mapping[str, Any]) -> tuple[str, dict]:
        """Return name and parameters of a method, of whatever revision, to tell of its results."""
        _, name_column, params_column = cls._columns()
        return (cls & key).fetch1(name_column, params_column)
