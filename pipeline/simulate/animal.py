"""The simulated animal and the rig around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.rng import generator

from .brain.calcium import indicator as named_indicator
from .brain.population import Population, TrueResponse
from .microscope.movie import Detector
from .microscope.tissue import Placement, Tissue


class Animal:
    """An animal whose cortex is known, under a simulated microscope.

    Parameters
    ----------
    seed : int
        Everything about the animal follows from it.
    n_cells : int
        Responsive cells inside the field of the first day. The population is larger, since cells
        around the field and those seen on the second day only respond too.
    field_px : (int, int)
        Height and width of the field.
    um_per_px : float or (float, float)
        Size of a pixel, y and x.
    fps : float
        Frames per second.
    model_shape : (int, int)
        Model pixels, in which the receptive fields are drawn.
    monitor_px : (int, int)
        Height and width of the monitor.
    indicator : str
        Name in `pipeline.simulate.brain.calcium.INDICATORS`.
    animal_id : int
    raster_px : float
        Displacement of odd lines relative to even ones, right positive.
    detector : Detector, optional
        Photons and electronics.
    nonrigid_px : float
        Standard deviation of motion between the lines of a frame.
    silent_fraction, lost_fraction : float
        Cells that never fire, relative to `n_cells`; share of cells that a day does not see.
    eye_px : (int, int)
        Height and width of the eye video.
    kinds : dict, optional
        Fractions of simple, complex, mixed and normalized cells.
    like : str
        What the cells look for and how noisy they are; see `Population`.
    oracle : float, optional
        Median oracle correlation of *v1* cells; see `Population`.

    Attributes
    ----------
    population : Population
        The responsive cells; their indices are the `cell_id` in truth files, on all days.
    tissue : Tissue
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        n_cells: int = 60,
        field_px: tuple[int, int] = (144, 144),
        um_per_px: float | tuple[float, float] = 1.5,
        fps: float = 12.0,
        model_shape: tuple[int, int] = (36, 64),
        monitor_px: tuple[int, int] = (144, 256),
        indicator: str = "GCaMP6s",
        animal_id: int = 1,
        raster_px: float = 1.7,
        detector: Detector | None = None,
        nonrigid_px: float = 0.0,
        silent_fraction: float = 0.35,
        lost_fraction: float = 0.12,
        eye_px: tuple[int, int] = (120, 160),
        kinds: dict[str, float] | None = None,
        like: str = "bends",
        oracle: float | None = None,
    ) -> None:
        if fps <= 0 or min(field_px) < 32:
            raise ValueError(f"fps {fps} and field {field_px} px; need fps > 0 and 32 px or more")
        self.seed, self.animal_id = int(seed), int(animal_id)
        self.field_px, self.fps = (int(field_px[0]), int(field_px[1])), float(fps)
        along_y, along_x = np.broadcast_to(um_per_px, 2).tolist()
        self.um_per_px = (float(along_y), float(along_x))
        self.monitor_px = (monitor_px[0], monitor_px[1])
        self.eye_px = (eye_px[0], eye_px[1])
        self.indicator, self.kinetics = indicator, named_indicator(indicator)
        self.raster_px, self.nonrigid_px = float(raster_px), float(nonrigid_px)
        self.detector = detector or Detector()
        self.line_period_s = 0.92 / (self.fps * self.field_px[0])
        field_um = (
            self.field_px[0] * self.um_per_px[0],
            self.field_px[1] * self.um_per_px[1],
        )
        self.tissue = Tissue(
            seed,
            n_cells,
            field_um,
            silent_fraction=silent_fraction,
            lost_fraction=lost_fraction,
        )
        self.population = Population(
            seed, self.tissue.n_responsive, model_shape, kinds, like=like, oracle=oracle
        )
        # the eye camera looks at the middle of the eye, whatever its size
        self.population.pupil_mean_px += np.array(self.eye_px[::-1]) / 2 - [80.0, 60.0]
        n = len(self.tissue.somata.yx_um)
        rng = generator(seed, "expression")
        self.amplitude = self.kinetics.amplitude * np.clip(rng.lognormal(0, 0.25, n), 0.5, 2.0)

    @property
    def n_cells(self) -> int:
        """Responsive cells of the population, inside and around the field."""
        return self.population.n_cells

    @property
    def image_mean(self) -> float:
        """Gray level that the population takes for 0."""
        return self.population.image_mean

    @property
    def image_sd(self) -> float:
        """Gray levels of one z-scored unit."""
        return self.population.image_sd

    def placement(self, day: int) -> Placement:
        """Return where the field of a day lies: day 1 centered, later ones shifted and rotated."""
        if day == 1:
            return Placement()
        rng = generator(self.seed, "view", day)
        length, angle = rng.uniform(5, 14), rng.uniform(0, 2 * np.pi)
        turn = rng.uniform(0.8, 2.0) * rng.choice([-1, 1])
        return Placement((length * np.sin(angle), length * np.cos(angle)), float(turn))

    def drive(
        self,
        images: NDArray,
        units: NDArray | None = None,
        behavior: NDArray | None = None,
        gaze: NDArray | None = None,
    ) -> NDArray[np.float32]:
        """Return the true noiseless response (Hz) of cells; see `Population.drive`."""
        return self.population.drive(images, units, behavior, gaze)

    def torch_module(self) -> TrueResponse:
        """Return the truth as a differentiable module: z-scored (n, 1, h, w) to (n, cells)."""
        return self.population.torch_module()

    def optimal_images(
        self, norm: float | NDArray, units: NDArray | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the best images of a norm and the response to them; see `Population`."""
        return self.population.optimal_images(norm, units)

    def best_drive(self, norm: float | NDArray, units: NDArray | None = None) -> NDArray:
        """Return the largest response (Hz) of every cell to images of a norm (z-scored pixels)."""
        return self.population.best_drive(norm, units)

    def relative_drive(
        self, images: NDArray, units: NDArray, norm: float | NDArray | None = None
    ) -> NDArray[np.float64]:
        """Return the drive of image i on cell i relative to the best; see `Population`."""
        return self.population.relative_drive(images, units, norm)
