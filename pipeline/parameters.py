"""Values of parameters against what the signature of their function says of them.

The type is the annotation of the keyword-only parameter, or else the type of its default. The range
follows from the name, which carries unit and meaning (`_px`, `_s`, `_fraction`, `seed`); a `Rule`
or `Nested` in `Annotated` says what the name cannot.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

LONGEST = 60  # characters of an offending value that are shown


class ParameterError(ValueError):
    """A parameter with a value that it cannot have: one line with path, found and expected."""

    def __init__(self, path: str, found: object, expected: str, owner: str = "") -> None:
        self.path, self.found, self.expected, self.owner = path, found, expected, owner
        text = found if isinstance(found, str) else repr(found)
        text = " ".join(repr(text).split() if isinstance(found, str) else text.split())
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}..."
        whose = f" ({owner})" if owner else ""
        super().__init__(f"{path}{whose}: found {text}; expected {expected}")


@dataclass(frozen=True)
class Rule:
    """What a value must fulfil beyond its type: words for a person, and the test."""

    text: str
    test: Callable[[Any], bool]


@dataclass(frozen=True)
class Nested:
    """The value holds parameters of a method of `registry`, named by another parameter."""

    registry: Any
    method: str = "method"


@contextlib.contextmanager
def under(path: str) -> Iterator[None]:
    """Put a path before that of a `ParameterError` that is raised inside."""
    try:
        yield
    except ParameterError as error:
        where = f"{path}.{error.path}"
        raise ParameterError(where, error.found, error.expected, error.owner) from None


_FREE = Rule("", lambda _: True)
_SHARE = Rule("0 to 1", lambda x: 0 <= x <= 1)
_INNER_SHARE = Rule("between 0 and 1", lambda x: 0 < x < 1)
_PERCENT = Rule("0 to 100", lambda x: 0 <= x <= 100)
_POSITIVE = Rule("> 0", lambda x: x > 0)
_COUNT = Rule(">= 1", lambda x: x >= 1)
_NOT_NEGATIVE = Rule(">= 0", lambda x: x >= 0)
_SEED = Rule("0 to 2147483647", lambda x: 0 <= x < 2**31)

RANGES: tuple[tuple[str, Rule], ...] = (
    (r"start_s|offset_s|min_depth_um|max_depth_um", _FREE),  # they may lie before the origin
    (r"(\w+_)?seeds?", _SEED),
    (r"share|validation_fraction", _INNER_SHARE),
    (
        r"min_(\w+_)?probability|alpha|confidence|\w+_share|share_of_best|\w+_fraction"
        r"|min_likelihood|min_confidence|min_visible|min_valid|at_least",
        _SHARE,
    ),
    (r"\w+_percentile", _PERCENT),
    (
        r"minutes|fps|(\w+_)?um_per_px\w*|duration_s|length_s|rise_s|decay_s|bin_s|\w*diameter_um"
        r"|learning_rates?|norm|max_seconds|mean_cd_m2",
        _POSITIVE,
    ),
    (
        r"steps|epochs|max_epochs|batch_size|channels|layers|\w*kernels?|stride|pool|hidden|taps"
        r"|candidates|scouts|orientations|phases|bins|top_k|folds|repeats|(min|max)_repeats|starts"
        r"|max_images|height_px|width_px|size_px|template_frames|max_frames|blocks|ring_pixels"
        r"|iterations|n_(?!natural|bootstrap|shuffles)\w+|min_images|min_trials|min_points|n",
        _COUNT,
    ),
    (
        r"\w+_(px|um|s|cm_s|cd_m2|mb|frames|radii|rates?)|max_\w+|gamma\w*|\w+_gamma|weight_decay"
        r"|clip_norm|sparsity|tolerance|penalty|epsilon|step_start|step_end|min_snr|blur_px",
        _NOT_NEGATIVE,
    ),
)
"""Range of a number by the name of its parameter; the first pattern that fits counts."""


def check_parameters(owner: str, function: Callable, given: Mapping[str, Any]) -> None:
    """Check values of keyword-only parameters of a function.

    Parameters
    ----------
    owner : str
        Whose parameters they are, for the message: "deconvolver 'oasis_ar1'".
    function : callable
        Has the parameters.
    given : mapping
        Values by name, all of them known to the function.

    Raises
    ------
    ParameterError
        At the first value of another type or out of its range.
    """
    kinds = kinds_of(function)
    for name, value in given.items():
        check_value(name, value, kinds[name], owner)
        for nested in _metadata(kinds[name], Nested):
            if value is not None:
                method = given.get(nested.method) or nested.registry.default
                with under(name):
                    nested.registry.complete(method, value)


def check_value(name: str, value: Any, kind: Any, owner: str = "", path: str = "") -> None:
    """Check one value against its annotation, the range that its name has and its rules.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : object
        What was given.
    kind : type or annotation
        What it should be.
    owner, path : str
        For the message; the path is the name by default.

    Raises
    ------
    ParameterError
    """
    rule = _range(name, kind)
    rules = [rule, *_metadata(kind, Rule)]
    expected = " ".join(filter(None, (_words(kind), *(rule.text for rule in rules))))
    whole = all(rule.test(value) for rule in rules[1:]) if _fits(value, kind) else False
    if not whole or not all(rule.test(number) for number in _numbers(value)):
        raise ParameterError(path or name, value, expected, owner)


def takes(preset: Any) -> Callable[[Callable], Callable]:
    """Return a decorator by which a function takes a record's fields as keywords.

    Parameters
    ----------
    preset : frozen dataclass
        Its values are the defaults, the annotations of its class those of the parameters.

    Returns
    -------
    decorator
        Of a function whose last positional argument is such a record.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Window:
    ...     start_s: float = 0.05
    ...     length_s: float = 0.5
    >>> @takes(Window(length_s=1.0))
    ... def end_s(onset_s, window):
    ...     return onset_s + window.start_s + window.length_s
    >>> end_s(10.0, start_s=0.25)
    11.25
    """
    hints = typing.get_type_hints(type(preset), include_extras=True)
    keywords = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(preset, field.name),
            annotation=hints[field.name],
        )
        for field in fields(preset)
    ]

    def decorate(function: Callable) -> Callable:
        own = inspect.signature(function)
        *data, _ = own.parameters.values()

        def with_keywords(*given: Any, **changes: Any) -> Any:
            return function(*given, replace(preset, **changes))

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(with_keywords, name, getattr(function, name))
        signature = own.replace(parameters=[*data, *keywords])
        with_keywords.__signature__ = signature  # type: ignore[attr-defined]  # as inspect reads it
        with_keywords.__annotations__ = {one.name: one.annotation for one in keywords}
        return with_keywords

    return decorate


@functools.cache
def kinds_of(function: Callable) -> dict[str, Any]:
    """Return the annotation, or else the type of the default, of every keyword-only parameter."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError):  # names that only a type checker imports
        hints = {}
    kinds = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            simple = isinstance(parameter.default, (bool, int, float, str))
            kinds[parameter.name] = hints.get(
                parameter.name, type(parameter.default) if simple else Any
            )
    return kinds


def _range(name: str, kind: Any) -> Rule:
    for pattern, rule in RANGES:
        if re.fullmatch(pattern, name):
            return rule if _numeric(kind) else _FREE
    return _NOT_NEGATIVE if _numeric(kind) == {int} else _FREE


def _numeric(kind: Any) -> set[type]:
    """Return which of int and float an annotation names, at any depth but in mappings."""
    if kind in (int, float):
        return {kind}
    if isinstance(typing.get_origin(kind), type) and issubclass(typing.get_origin(kind), Mapping):
        return set()
    return set().union(*(_numeric(part) for part in _parts(kind)))


def _parts(kind: Any) -> tuple[Any, ...]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ()
    return parts[:1] if origin is Annotated else parts


def _metadata(kind: Any, wanted: type) -> list[Any]:
    """Return what `Annotated` says of an annotation, of one class."""
    if typing.get_origin(kind) is not Annotated:
        return []
    return [item for item in kind.__metadata__ if isinstance(item, wanted)]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple, np.ndarray)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        yield float(value)


def _fits(value: Any, kind: Any) -> bool:
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    origin, parts = typing.get_origin(kind), _parts(kind)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(item) and value == item for item in kind.__args__)
    outer = origin or kind
    if not isinstance(outer, type):
        return True  # a type variable, say: nothing is known
    if issubclass(outer, np.ndarray):
        return isinstance(value, (np.ndarray, list, tuple))
    if issubclass(outer, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(item, part)
            for pair in value.items()
            for item, part in zip(pair, parts, strict=False)
        )
    if issubclass(outer, Sequence):
        if not isinstance(value, (list, tuple, np.ndarray)):
            return False
        if issubclass(outer, tuple) and parts and parts[-1] is not Ellipsis:
            return len(value) == len(parts) and all(map(_fits, value, parts))
        return all(_fits(item, parts[0]) for item in value) if parts else True
    return isinstance(value, outer)


_PLAIN: dict[Any, Callable[[Any], bool]] = {
    Any: lambda value: True,
    None: lambda value: value is None,
    types.NoneType: lambda value: value is None,
    bool: lambda value: isinstance(value, (bool, np.bool_)),
    int: lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    float: lambda value: (
        isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(value)
    ),
    str: lambda value: isinstance(value, str),
}

_WORDS: dict[Any, str] = {
    Any: "any value",
    None: "null",
    types.NoneType: "null",
    bool: "true or false",
    int: "int",
    float: "number",
    str: "text",
}


def _words(kind: Any) -> str:
    """Say in words what an annotation asks for."""
    if kind in _WORDS:
        return _WORDS[kind]
    origin, parts = typing.get_origin(kind), _parts(kind)
    if origin is Annotated:
        return _words(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in parts))
    if origin is Literal:
        return " or ".join(repr(item) for item in kind.__args__)
    outer = origin or kind
    if isinstance(outer, type) and issubclass(outer, Mapping):
        return "a JSON object"
    if isinstance(outer, type) and issubclass(outer, tuple) and parts and parts[-1] is not ...:
        return f"{len(parts)} of {_words(parts[0])}"
    if isinstance(outer, type) and issubclass(outer, (Sequence, np.ndarray)):
        return f"a list of {_words(parts[0])}" if parts else "a list"
    return getattr(outer, "__name__", str(outer))


def check_indices(given: Any, size: int, name: str = "units") -> NDArray[np.int64]:
    """Return positions as integers, from positions or from a mask.

    Parameters
    ----------
    given : int, sequence of int, or mask of bool, shape (size,)
        Whole numbers may be of any numeric type; 2.7 and "2" are no positions.
    size : int
        Number of things that there are.
    name : str
        What they are, for the message.

    Returns
    -------
    int array, shape (n,)

    Raises
    ------
    ValueError
        If a value is no whole number, lies outside of 0 to size - 1, or a mask has another length.

    Examples
    --------
    >>> check_indices([False, True, True], 3)
    array([1, 2])
    >>> check_indices([2.7], 3)
    Traceback (most recent call last):
    ValueError: units must be whole numbers in 0..2 or a mask of 3, got 2.7
    """
    expected = f"{name} must be whole numbers in 0..{size - 1} or a mask of {size}"
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes, np.ndarray)):
        given = list(given)  # a range, a generator, a pandas column
    values = np.atleast_1d(np.asarray(given))
    if values.ndim != 1:
        raise ValueError(f"{expected}, got an array of shape {values.shape}")
    if values.dtype == bool:
        if len(values) != size:
            raise ValueError(f"{expected}, got a mask of {len(values)}")
        return np.flatnonzero(values)
    if not len(values):
        return np.zeros(0, np.int64)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{expected}, got {values[0]!r}")
    wrong = values[(values != np.floor(values)) | (values < 0) | (values >= size)]
    if len(wrong):
        raise ValueError(f"{expected}, got {wrong[0]}")
    return values.astype(np.int64)
