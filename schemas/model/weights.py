"""What a training leaves: a row with weights, and a checkpoint while it runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.store import file_bytes, number

if TYPE_CHECKING:
    from pipeline.model import Encoder, TrainingResult


def stored(encoder: Encoder) -> tuple[str, bytes]:
    """Return the content of an `<object@main>` column with an encoder."""
    from pipeline.model import save_encoder

    encoder.cpu()
    return file_bytes(lambda path: save_encoder(encoder, path), ".safetensors")


def figures(result: TrainingResult) -> dict[str, Any]:
    """Return the columns that say how a training went."""
    from pipeline.device import pick_device

    return {
        "validation_correlation": number(result.validation_correlation),
        "epochs": int(result.epochs),
        "seconds": float(result.seconds),
        "device": str(pick_device()).split(":")[0],
        "history": [plain(entry) for entry in result.history],
    }


def plain(entry: Any) -> Any:
    """Return an entry of a training history as JSON: NaN is null."""
    if isinstance(entry, Mapping):
        return {name: plain(value) for name, value in entry.items()}
    return number(entry) if isinstance(entry, (int, float, np.number)) else str(entry)


def checkpoint_file(*names: Any) -> Path:
    """Return where a training keeps its place, so that a killed one goes on from there."""
    home = os.environ.get("INCEPTION_HOME")
    base = Path(home) if home else Path(tempfile.gettempdir()) / f"inception-{os.getuid()}"
    folder = base / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{'-'.join(map(str, names))}.ckpt"
