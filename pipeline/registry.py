"""Registries of methods, and the hash that names a method with its parameters."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from pipeline.errors import DataError
from pipeline.parameters import check_parameters
from pipeline.plugins import load_plugins

Choice = str | Mapping[str, Any] | None  # of a method: see `Registry.spec`
RESERVED = {"name", "revision", "revisions"}  # spell a choice, and name no parameter
_MOST_REVISIONS = 20_000  # combinations tried to name the revisions of a stored row


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, numpy scalars as numbers.

    Raises
    ------
    TypeError
        If the value holds something that JSON cannot say.
    ValueError
        If it holds NaN or an infinity.

    Examples
    --------
    >>> canonical_json({"b": 5.0, "a": [1, 0.5]})
    '{"a":[1,0.5],"b":5}'
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def config_hash(value: Any) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON of `value`.

    Examples
    --------
    >>> config_hash({"b": 5.0, "a": 1}) == config_hash({"a": 1, "b": 5})
    True
    """
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


Below = Callable[[str, Mapping[str, Any]], Iterable[tuple["Registry", str]]]


_made: weakref.WeakSet[Registry] = weakref.WeakSet()


def registries() -> list[Registry]:
    """Return every registry that was made in this process, by kind."""
    return sorted(_made, key=lambda registry: registry.kind)


class Registry:
    """Named functions whose keyword-only arguments are their parameters.

    Parameters
    ----------
    kind : str
        What the functions are, in the singular, for error messages ("deconvolver").
    below : function, optional
        From a method's name and complete parameters to the methods that these name by a word:
        pairs of registry and name. Their revisions are part of the hash as well.
    """

    def __init__(self, kind: str, below: Below | None = None) -> None:
        self.kind, self._below = kind, below or (lambda name, params: ())
        self._functions: dict[str, Callable] = {}
        self._revisions: dict[str, int] = {}
        self._default: str | None = None
        _made.add(self)

    def register(
        self, name: str, *, default: bool = False, revision: int = 1
    ) -> Callable[[Callable], Callable]:
        """Return a decorator that files a function under `name`.

        A function of a notebook replaces the one of the same name that the notebook defined
        before, with a warning.

        Parameters
        ----------
        name : str
            Unique in the registry.
        default : bool
            Whether this is the recommended method.
        revision : int
            Raised by 1 whenever the function returns other values for the same input and
            parameters. Above 1 it is part of the hash: a hash names one result.
        """
        if type(revision) is not int or revision < 1:
            raise ValueError(f"{self.kind} {name!r}: revision is 1, 2, ...; got {revision!r}")

        def decorate(function: Callable) -> Callable:
            if name in self._functions:
                if not _same_notebook(function, self._functions[name]):
                    raise ValueError(f"{self.kind} {name!r} is registered twice")
                warnings.warn(f"{self.kind} {name!r} is replaced by its new version", stacklevel=2)
            if default and self._default not in (None, name):
                raise ValueError(f"{self.kind}: both {self._default!r} and {name!r} are default")
            if taken := sorted(RESERVED & set(inspect.signature(function).parameters)):
                raise ValueError(f"{self.kind} {name!r}: no parameter may be called {taken}")
            self._functions[name], self._revisions[name] = function, revision
            if default or self._default == name:
                self._default = name if default else None
            return function

        return decorate

    @property
    def has_default(self) -> bool:
        """Whether one of the methods is recommended."""
        return self._default is not None

    @property
    def default(self) -> str:
        """Name of the recommended method."""
        if self._default is None:
            raise ValueError(f"no default {self.kind} is registered")
        return self._default

    def __getitem__(self, name: str) -> Callable:
        if not isinstance(name, str) or name not in self:
            raise ValueError(f"no {self.kind} {name!r}; there are {sorted(self._functions)}")
        return self._functions[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._functions:
            load_plugins()  # one of them may have it
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

    def revision(self, name: str) -> int:
        """Return the revision of a method that this program computes."""
        self[name]
        return self._revisions[name]

    def revised(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what revisions add to a hash or a choice in full: nothing while they are 1."""
        below = {(other, one): other.revision(one) for other, one in self._below(name, params)}
        return self._above_one(self.revision(name), below)

    @staticmethod
    def _above_one(own: int, below: Mapping[tuple[Registry, str], int]) -> dict[str, Any]:
        raised = {f"{r.kind} {name}": n for (r, name), n in below.items() if n > 1}
        return ({"revision": own} if own > 1 else {}) | ({"revisions": raised} if raised else {})

    def check(self, name: str, params: Mapping[str, Any] | None = None, revision: int = 1) -> None:
        """Raise DataError unless a method as it was stored is of the revision of today.

        Parameters
        ----------
        name : str
        params : mapping, optional
            Stored parameters; those that name methods themselves are looked into.
        revision : int
            The stored one; 1 where none is stored.
        """
        today = self.revision(name)
        if revision != today:
            problem, remedy = (
                "is no longer computed",
                "name the method again without a revision, for the one of today; results stay",
            )
            if not isinstance(revision, int) or revision > today:
                problem, remedy = "is not known to this program", "update the program"
            raise DataError(
                f"revision {revision} of {self.kind} {name!r} {problem}",
                expected=f"revision {today}",
                remedy=remedy,
            )

    def spec(self, given: Choice, default: str | None = None) -> dict[str, Any]:
        """Return a choice in full: ``{"name": ..., **parameters}``, and its revision above 1.

        Functions take a choice; rows and recipes hold a method and its parameters side by side,
        and are read here as well.

        Parameters
        ----------
        given : str, mapping or None
            A name, ``{"name": ..., **parameters}`` or ``{"method": ..., "params": {...}}``. What
            is left out is the default; a revision that is given must be the one of today.
        default : str, optional
            Name where none is given; default the registry's.
        """
        given = {"name": given} if isinstance(given, str) else dict(given or {})
        revision, _ = given.pop("revision", None), given.pop("revisions", None)
        if given and set(given) <= {"method", "params"}:
            given = {"name": given.get("method"), **(given.get("params") or {})}
        name = given.pop("name", None) or default or self.default
        if revision is not None:
            self.check(name, None, revision)
        full = self.complete(name, given)
        return {"name": name, **full, **self.revised(name, full)}

    def bind(self, given: Choice) -> partial:
        """Return the function of a choice (see `spec`) with its parameters bound."""
        params = self.spec(given)
        name = params.pop("name")
        return partial(self[name], **{k: v for k, v in params.items() if k not in RESERVED})

    def build(self, given: Choice, *data: Any) -> Any:
        """Return what the function of a choice (see `spec`) makes of `data`."""
        return self.bind(given)(*data)

    def hash(self, name: str, params: Mapping[str, Any] | None = None) -> str:
        """Return the key of a method row: hash of name, completed parameters, revisions above 1."""
        full = self.complete(name, params)
        return config_hash({"method": name, "params": full, **self.revised(name, full)})

    def check_stored(
        self, key: str, name: str, params: Mapping[str, Any], key_of: Callable[[str], str] = str
    ) -> None:
        """Raise DataError unless a stored row may be computed: see `check`.

        The row's revisions are those by which its key is the hash of its own parameters. What the
        method has got in parameters since then is not among these, and takes its default.
        """
        content = {"method": name, "params": params}
        named = [(self, name), *self._below(name, params)]
        today = [registry.revision(one) for registry, one in named]
        before = itertools.product(*(range(1, revision + 1) for revision in today))
        newer = itertools.product(*(range(1, revision + 5) for revision in today))
        some = itertools.islice(newer, _MOST_REVISIONS)  # 5 to the power of the methods below
        for found in itertools.chain([tuple(today)], before, some):
            below = dict(zip(named[1:], found[1:], strict=True))
            if key_of(config_hash({**content, **self._above_one(found[0], below)})) == key:
                self.check(name, params, found[0])
                for (registry, one), revision in below.items():
                    registry.check(one, None, revision)
                return
        raise DataError(
            f"parameters of {self.kind} {name!r} are not those that its key was made of",
            field=key,
            found=canonical_json(params),
            expected="a row that nobody has edited",
            remedy="add the method with these parameters, which gives it a key of its own",
        )


def _same_notebook(new: Callable, old: Callable) -> bool:
    """Tell whether a cell that defines a function was run again."""
    modules = {getattr(function, "__module__", None) for function in (new, old)}
    names = {getattr(function, "__qualname__", object()) for function in (new, old)}
    return modules == {"__main__"} and len(names) == 1
