"""What a cell of visual cortex may look for, drawn in model pixels.

Every form is drawn about the cell's center, turned by its angle, in a field of a given diameter,
twice: as it is, and a quarter of a cycle on, for a cell that takes the energy of both. Those that
have parts (corner, crossing, texture) give them singly, and others can be cut in halves, so that a
cell may be linear in one part and take the energy of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUARTER = np.pi / 2
FIELD_SIGMAS = 2 * np.sqrt(np.log(20))  # diameter in sd of an envelope that holds 95 % of energy


@dataclass(frozen=True)
class Field:
    """Coordinates of one receptive field, and the random numbers of its cell.

    Attributes
    ----------
    across, along : array, shape (height, width)
        Distance (model pixels) from the center, across and along the form's main angle.
    diameter_px : float
        That holds 95 % of the energy of the form.
    rng : Generator
        The cell's own.
    """

    across: NDArray[np.float64]
    along: NDArray[np.float64]
    diameter_px: float
    rng: np.random.Generator

    @property
    def sigma_px(self) -> float:
        """Standard deviation of a round envelope of the diameter."""
        return self.diameter_px / FIELD_SIGMAS

    def patch(
        self,
        quarter: float,
        *,
        sigma_px: tuple[float, float],
        wavelength_px: float,
        phase_rad: float,
        angle_rad: float = 0.0,
        at_px: tuple[float, float] = (0.0, 0.0),
    ) -> NDArray[np.float64]:
        """Draw a Gabor of zero mean; `sigma_px` and `at_px` are across and along."""
        x, y = self.across - at_px[0], self.along - at_px[1]
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        across, along = x * cos + y * sin, -x * sin + y * cos
        envelope = np.exp(-0.5 * ((across / sigma_px[0]) ** 2 + (along / sigma_px[1]) ** 2))
        carrier = np.cos(2 * np.pi * across / wavelength_px + phase_rad - quarter)
        return _no_mean(envelope * carrier, envelope)

    def halves(self, form: NDArray) -> list[NDArray[np.float64]]:
        """Cut a form in two, softly, across its length."""
        first = 1 / (1 + np.exp(-self.along / (0.06 * self.diameter_px)))
        return [_no_mean(form * part, part * np.abs(form)) for part in (first, 1 - first)]


def _no_mean(form: NDArray, envelope: NDArray) -> NDArray[np.float64]:
    return form - envelope * (form.sum() / envelope.sum())


Parts = list[NDArray[np.float64]]  # of one form, each (height, width); their sum is the form


def gabor(field: Field) -> tuple[Parts, Parts]:
    """Draw a Gabor patch."""
    sigma, rng = field.sigma_px, field.rng
    how: dict[str, Any] = {
        "sigma_px": (sigma * rng.uniform(0.75, 1.0), sigma),
        "wavelength_px": sigma * rng.uniform(1.9, 3.0),
        "phase_rad": rng.uniform(0, 2 * np.pi),
    }
    return [field.patch(0.0, **how)], [field.patch(QUARTER, **how)]


def corner(field: Field) -> tuple[Parts, Parts]:
    """Draw two stripes that meet at an angle of 60 to 110 degrees."""
    rng, sigma = field.rng, field.diameter_px / (FIELD_SIGMAS + 1.3)
    reach = 1.5 * sigma
    bend = np.deg2rad(rng.uniform(60, 110)) * rng.choice([-1, 1])
    wavelength, phases = sigma * rng.uniform(2.5, 3.5), rng.uniform(0, 2 * np.pi, 2)
    second = rng.uniform(0.85, 1.0)

    def draw(quarter: float) -> Parts:
        how = {"sigma_px": (0.85 * sigma, 1.1 * sigma), "wavelength_px": wavelength}
        first = field.patch(quarter, at_px=(0, -reach / 2), phase_rad=phases[0], **how)
        other = field.patch(
            quarter, at_px=(0, reach / 2), angle_rad=bend, phase_rad=phases[1], **how
        )
        return [first, second * other]

    return draw(0.0), draw(QUARTER)


def curve(field: Field) -> tuple[Parts, Parts]:
    """Draw stripes along an arc about a point beside the field."""
    rng, sigma = field.rng, field.sigma_px
    radius = field.diameter_px * rng.uniform(0.25, 0.42)
    wavelength, phase = field.diameter_px / rng.uniform(1.3, 2.0), rng.uniform(0, 2 * np.pi)
    envelope = np.exp(-0.5 * (field.across**2 + field.along**2) / sigma**2)
    distance = np.hypot(field.across + radius, field.along) - radius

    def draw(quarter: float) -> Parts:
        carrier = np.cos(2 * np.pi * distance / wavelength + phase - quarter)
        return [_no_mean(envelope * carrier, envelope)]

    return draw(0.0), draw(QUARTER)


def crossing(field: Field) -> tuple[Parts, Parts]:
    """Draw two bars that cross at an angle of 60 to 90 degrees."""
    rng = field.rng
    along = field.diameter_px / FIELD_SIGMAS
    across = along * rng.uniform(0.45, 0.6)
    angle, wavelength = np.deg2rad(rng.uniform(60, 90)), across * rng.uniform(3.2, 4.4)
    phase = rng.choice([0.0, np.pi]) + rng.normal(0, 0.4)
    how = {"sigma_px": (across, along), "wavelength_px": wavelength, "phase_rad": phase}

    def draw(quarter: float) -> Parts:
        return [field.patch(quarter, **how), field.patch(quarter, angle_rad=angle, **how)]

    return draw(0.0), draw(QUARTER)


def check(field: Field) -> tuple[Parts, Parts]:
    """Draw a checkerboard."""
    rng, sigma = field.rng, field.sigma_px
    wavelength = field.diameter_px / rng.uniform(1.1, 1.6)
    phases = rng.uniform(0, 2 * np.pi, 2)
    envelope = np.exp(-0.5 * (field.across**2 + field.along**2) / sigma**2)
    columns = np.cos(2 * np.pi * field.along / wavelength + phases[1])

    def draw(quarter: float) -> Parts:
        rows = np.cos(2 * np.pi * field.across / wavelength + phases[0] - quarter)
        return [_no_mean(envelope * rows * columns, envelope)]

    return draw(0.0), draw(QUARTER)


def surround(field: Field) -> tuple[Parts, Parts]:
    """Draw a center and the opposite around it; it has no other phase, but on and off."""
    rng = field.rng
    radius = np.hypot(field.across, field.along)
    center_px = field.diameter_px / rng.uniform(4.6, 5.6)
    ring_px, width_px = 0.36 * field.diameter_px, 0.1 * field.diameter_px
    center = np.exp(-0.5 * (radius / center_px) ** 2)
    ring = np.exp(-0.5 * ((radius - ring_px) / width_px) ** 2)
    form = rng.choice([-1.0, 1.0]) * (center - ring * (center.sum() / ring.sum()))
    return [form], [np.zeros_like(form)]


def texture(field: Field) -> tuple[Parts, Parts]:
    """Draw three to five patches of any angle, scattered over the field."""
    rng = field.rng
    n = int(rng.integers(3, 6))
    sigma, turn = field.diameter_px / 6.5, rng.uniform(0, 2 * np.pi)
    places = turn + 2 * np.pi * (np.arange(n) + rng.uniform(-0.2, 0.2, n)) / n
    reach = field.diameter_px * rng.uniform(0.2, 0.3, n)
    angles, phases = rng.uniform(0, np.pi, n), rng.uniform(0, 2 * np.pi, n)
    wavelengths = sigma * rng.uniform(2.6, 3.8, n)

    def draw(quarter: float) -> Parts:
        patches = [
            field.patch(
                quarter,
                sigma_px=(sigma, sigma),
                wavelength_px=wavelengths[i],
                phase_rad=phases[i],
                angle_rad=angles[i],
                at_px=(reach[i] * np.cos(places[i]), reach[i] * np.sin(places[i])),
            )
            for i in range(n)
        ]
        half = n // 2
        return [np.sum(patches[:half], 0), np.sum(patches[half:], 0)]

    return draw(0.0), draw(QUARTER)


FORMS: dict[str, Callable[[Field], tuple[Parts, Parts]]] = {
    "gabor": gabor,
    "corner": corner,
    "curve": curve,
    "crossing": crossing,
    "check": check,
    "surround": surround,
    "texture": texture,
}
"""Forms by name; each returns its parts, and the same a quarter of a cycle on."""
