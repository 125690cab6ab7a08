"""The simulated animal at its rig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .animal import Animal
from .rig.record import record


class Mouse(Animal):
    """An animal whose cortex is known, and a rig that records it.

    Parameters and attributes: see `pipeline.simulate.animal.Animal`.
    """

    def record(
        self, images_or_package: NDArray | str | Path, folder: str | Path, day: int = 1, **how: Any
    ) -> Path:
        """Record a session into a bundle; see `pipeline.simulate.rig.record.record`."""
        return record(self, images_or_package, folder, day, **how)
