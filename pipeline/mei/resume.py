"""Finished batches of a synthesis on disk, so that one that was interrupted goes on."""

from __future__ import annotations

import hashlib
import logging
import os
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

from .ascent import Ascended

log = logging.getLogger("inception.mei")


class Checkpoint:
    """Batches of one synthesis, each a file named after everything that decides its result.

    Parameters
    ----------
    folder : path
        May be shared by any number of syntheses.
    model : Module
        Its weights are part of the name.
    settings : dict
        Method, complete parameters, scene and seed, as JSON.
    """

    def __init__(self, folder: str | os.PathLike, model: nn.Module, settings: dict[str, Any]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        self.settings = {**settings, "model": digest.hexdigest()}

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
