"""Registries of methods, and the hash that names a method with its parameters."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.parameters import check_parameters


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, numpy scalars as numbers.

    Raises
    ------
    TypeError
        If the value holds something that JSON cannot say.
    ValueError
        If it holds NaN or an infinity.
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def config_hash(value: Any) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"configuration keys must be str, got {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    # 5.0 and 5 are the same parameter, whichever way a database hands them back
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


class Registry:
    """Named functions whose keyword-only arguments are their parameters.

    Parameters
    ----------
    kind : str
        What the functions are, in the singular, for error messages ("deconvolver").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Callable] = {}
        self._default: str | None = None

    def register(self, name: str, *, default: bool = False) -> Callable[[Callable], Callable]:
        """Return a decorator that files a function under `name`."""

        def decorate(function: Callable) -> Callable:
            if name in self._functions:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            if default and self._default is not None:
                raise ValueError(f"{self.kind}: both {self._default!r} and {name!r} are default")
            self._functions[name] = function
            if default:
                self._default = name
            return function

        return decorate

    @property
    def default(self) -> str:
        """Name of the recommended method."""
        if self._default is None:
            raise ValueError(f"no default {self.kind} is registered")
        return self._default

    def __getitem__(self, name: str) -> Callable:
        if not isinstance(name, str) or name not in self._functions:
            raise ValueError(f"no {self.kind} {name!r}; there are {sorted(self._functions)}")
        return self._functions[name]

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def defaults(self, name: str) -> dict[str, Any]:
        """Return every parameter of a method with its default."""
        signature = inspect.signature(self[name])
        return {
            parameter.name: parameter.default
            for parameter in signature.parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def complete(self, name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return `params` with every default filled in.

        Raises
        ------
        ValueError
            If a parameter is unknown, has a value of another type or out of its range, or if one
            without a default is missing.
        """
        known, params = self.defaults(name), dict(params or {})
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ValueError(
                f"{self.kind} {name!r} has no parameter {unknown}; it takes {sorted(known)}"
            )
        check_parameters(f"{self.kind} {name!r}", self[name], params)
        full = {**known, **params}
        missing = sorted(k for k, v in full.items() if v is inspect.Parameter.empty)
        if missing:
            raise ValueError(f"{self.kind} {name!r} needs parameter {missing}")
        return full

    def hash(self, name: str, params: Mapping[str, Any] | None = None) -> str:
        """Return the key of a method row: hash of the name and its completed parameters."""
        return config_hash({"method": name, "params": self.complete(name, params)})
