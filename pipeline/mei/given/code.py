"""Digests of models and of functions: all that decides what they compute."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

PROBES = 3  # images that tell modules of the same weights apart


def model_digest(model: nn.Module, shape: tuple[int, int, int]) -> str:
    """Return a digest of a module: its class, its weights, and its answers to a few images.

    Attributes and code decide as well what a module computes, and no file says them; the answers
    do. Other kernels answer in other bits: the digest is then another one, which costs a
    computation and never a wrong result.

    Parameters
    ----------
    model : Module
        In `eval` mode; z-scored images (n, C, h, w) to (n, units).
    shape : (int, int, int)
        Channels, height and width of its images.
    """
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}".encode())
    device = torch.device("cpu")
    for name, tensor in model.state_dict().items():
        device = tensor.device
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    source = torch.Generator().manual_seed(0)
    images = torch.randn((PROBES, *shape), generator=source).to(device)
    with torch.no_grad():
        digest.update(_bytes(model(images)))
    return digest.hexdigest()


def code_digest(function: Callable) -> str:
    """Return a digest of a function: its code, its defaults, and the values that it reads.

    Raises
    ------
    ValueError
        If it reads a value of which there is no telling whether it is the same the next time.
    """
    return hashlib.sha256("\n".join(_told(function, set())).encode()).hexdigest()


def _told(value: Any, seen: set[int]) -> Iterable[str]:
    """Yield lines that are the same for values that do the same."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value)
    elif isinstance(value, np.generic):
        yield repr(value.item())
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        yield f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(_bytes(value)).hexdigest()}"
    elif isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}"
    elif id(value) in seen:
        yield "again"
    elif isinstance(value, (list, tuple, frozenset, set)):
        ordered = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        yield f"{type(value).__name__} of {len(value)}"
        for item in ordered:
            yield from _told(item, seen | {id(value)})
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _told(key, seen)
            yield from _told(item, seen | {id(value)})
    elif isinstance(value, partial):
        yield from _told((value.func, value.args, value.keywords), seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen | {id(value)})
    elif isinstance(value, nn.Module):
        yield type(value).__qualname__
        for name, tensor in value.state_dict().items():
            yield name
            yield from _told(tensor, seen)
    else:
        raise ValueError(
            f"cannot tell whether a {type(value).__name__} is the same the next time; "
            f"give the value as a number, an array or a parameter"
        )


def _function(function: types.FunctionType, seen: set[int]) -> Iterable[str]:
    yield function.__qualname__
    yield from _code(function.__code__)
    yield from _told((function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        yield from _told(cell.cell_contents, seen)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            value = function.__globals__[name]
            yield name
            if isinstance(value, types.FunctionType) and value.__module__ != function.__module__:
                yield f"{value.__module__}.{value.__qualname__}"
            else:
                yield from _told(value, seen)


def _code(code: types.CodeType) -> Iterable[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)


def _names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes that code reads, also in functions of its own."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _bytes(value: torch.Tensor | np.ndarray) -> bytes:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        value = value.view(torch.uint8).numpy() if value.numel() else np.zeros(0, np.uint8)
    return np.ascontiguousarray(value).tobytes()
