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
    ended: str = ""  # what ended it: "plateau", or a limit that may be another the next time
    bound: float = 0.0  # that limit: epochs or seconds
    history: list[dict[str, float]] = field(default_factory=list)

    def goes_on(self, epochs: int, seconds: float | None) -> bool:
        """Return whether a training that a limit has ended has more to do under other limits."""
        if self.ended == "epochs":
            return epochs > self.bound
        return self.ended == "time" and (seconds is None or seconds > self.bound)
