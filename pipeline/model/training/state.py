"""Where a training stands: all that a checkpoint holds beside weights and optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class State:
    """All that changes from epoch to epoch besides weights and optimizer."""

    epoch: int = 0
    stage: int = 0
    stale: int = 0  # epochs since the best of this stage
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
