"""What every part may know about the image that is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """Frame and limits of the image, in z-scored units ``(grey - mean) / sd``.

    Attributes
    ----------
    shape : (int, int, int)
        Channels, height and width of the whole frame.
    mean, sd : float
        Statistics of the training images (gray levels).
    norm : float
        L2 norm of the z-scored image, all channels together.
    """

    shape: tuple[int, int, int]
    mean: float
    sd: float
    norm: float

    @property
    def low(self) -> float:
        """Black."""
        return (0.0 - self.mean) / self.sd

    @property
    def high(self) -> float:
        """White."""
        return (255.0 - self.mean) / self.sd
