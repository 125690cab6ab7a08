"""Lookup tables of methods: a registered function with its complete parameters is a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.registry import Registry


class MethodTable:
    """Mixin of the `...Method` lookups: columns `<x>_hash`, `<x>_method`, `<x>_params`."""

    registry: ClassVar[Registry]

    @classmethod
    def _columns(cls) -> tuple[str, str, str]:
        (key,) = cls.primary_key
        stem = key.removesuffix("_hash")
        return key, f"{stem}_method", f"{stem}_params"

    @classmethod
    def add(cls, name: str | None = None, params: Mapping[str, Any] | None = None) -> dict:
        """Insert a method unless it is there already, and return its key.

        Parameters
        ----------
        name : str, optional
            Registered name; default is the recommended method.
        params : mapping, optional
            Parameters; what is left out takes its default.

        Raises
        ------
        ValueError
            If method or parameter is unknown.
        """
        name = name or cls.registry.default
        full = cls.registry.complete(name, params)
        key_name, name_column, params_column = cls._columns()
        key = {key_name: cls.registry.hash(name, params)}
        if not cls & key:
            cls.insert1({**key, name_column: name, params_column: full}, skip_duplicates=True)
        return key

    @classmethod
    def fetch_method(cls, key: Mapping[str, Any]) -> tuple[str, dict]:
        """Return name and parameters of the one method that `key` restricts to."""
        _, name_column, params_column = cls._columns()
        return (cls & key).fetch1(name_column, params_column)
