"""Finished batches of a synthesis on disk, so that one that was interrupted goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.npy import read_npz
from pipeline.registry import config_hash

from .ascent import PARTS, Ascended, ascent_methods
from .given import code_digest, model_digest

log = logging.getLogger("inception.mei")


class Checkpoint:
    """Batches of one synthesis, each a file named after everything that decides its result.

    Parameters
    ----------
    folder : path
        May be shared by any number of syntheses.
    model : Module
        In `eval` mode. Its class, weights and answers are part of the name.
    settings : dict
        Method, complete parameters, scene and seed, as JSON.
    objective : function, optional
        Given in place of the method's; its code is part of the name, as is that of every part that
        is not of this package.

    Raises
    ------
    ValueError
        If there is no telling whether a function is the same the next time.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        model: nn.Module,
        settings: dict[str, Any],
        objective: Callable | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        code = {where: _digest(where, f) for where, f in _foreign(settings, objective)}
        shape = tuple(settings["scene"]["shape"])
        self.settings = {**settings, "model": model_digest(model, shape), "code": code}

    def _file(self, units: NDArray, starts: NDArray, crop: bool) -> Path:
        batch = {"units": units, "starts": starts, "crop": crop}
        return self.folder / f"{config_hash({**self.settings, **batch})}.npz"

    def load(self, units: NDArray, starts: NDArray, crop: bool) -> Ascended | None:
        """Return what was saved of a batch; None if nothing was, or it is damaged."""
        file = self._file(units, starts, crop)
        if not file.exists():
            return None
        try:
            saved = read_npz(file)
            if saved.keys() != set(Ascended.__dataclass_fields__):
                raise DataError("is no batch of a synthesis", file=file, found=sorted(saved))
        except DataError as error:  # it saves time, and can be computed again
            file.unlink()
            log.warning("%s; removed, the batch is computed anew", error)
            return None
        return Ascended(**saved)

    def save(self, units: NDArray, starts: NDArray, crop: bool, done: Ascended) -> None:
        """Keep a batch; a file is there whole or not at all."""
        with written_whole(self._file(units, starts, crop)) as partial:
            np.savez(partial, **asdict(done))


def _foreign(
    settings: dict[str, Any], objective: Callable | None
) -> Iterator[tuple[str, Callable]]:
    """Yield the functions of an ascent that are not of this package, and what they are."""
    params = settings["params"]
    found: list[tuple[str, Callable]] = [("method", ascent_methods[settings["method"]])]
    for place in (params, params.get("ascent")):
        if isinstance(place, dict):
            named = ((part, r, place[part]) for part, r in PARTS.items() if part in place)
            found += [(part, registry[choice["name"]]) for part, registry, choice in named]
    if objective is not None:
        found.append(("own objective", getattr(objective, "__wrapped__", objective)))
    for what, function in found:
        if not str(getattr(function, "__module__", "")).startswith("pipeline."):
            yield what, function


def _digest(what: str, function: Callable) -> str:
    try:
        return code_digest(function)
    except ValueError as error:
        raise ValueError(f"{what}: {error}, or leave checkpoint out") from None
