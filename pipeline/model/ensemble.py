"""Ensembles: the mean of encoders that differ by their seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.stimulus.images import to_model

from .encoder import Encoder
from .frozen import FrozenModel


class Ensemble:
    """Mean prediction of several encoders of the same units.

    Parameters
    ----------
    members : sequence of Encoder

    Attributes
    ----------
    input_shape : (int, int)
        Height and width of the model's image.
    image_mean, image_sd : float
        Grey levels; ``(grey - image_mean) / image_sd`` is what the model sees.
    n_units : int
    unit_ids : int array, shape (units,)
    """

    def __init__(self, members: Sequence[Encoder]) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one member")
        first = members[0]
        for member in members[1:]:
            if member.input_shape != first.input_shape or not np.array_equal(
                member.unit_ids, first.unit_ids
            ):
                raise ValueError("members of an ensemble must share units and image shape")
            if not np.allclose(
                [member.image_mean, member.image_sd], [first.image_mean, first.image_sd], rtol=1e-5
            ):
                raise ValueError("members of an ensemble must be trained on the same images")
        self.encoders = list(members)
        self.input_shape, self.n_units = first.input_shape, first.n_units
        self.image_mean, self.image_sd = first.image_mean, first.image_sd
        self.unit_ids = first.unit_ids

    def __len__(self) -> int:
        return len(self.encoders)

    def predict_members(
        self,
        images: NDArray,
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
    ) -> NDArray[np.float32]:
        """Return the prediction of every member, shape (members, n, units); see `predict`."""
        small = self._small(images)
        return np.stack([e.predict(small, behavior, pupil_center) for e in self.encoders])

    def _small(self, images: NDArray) -> NDArray[np.float32]:
        """Bring images to the model's size once for all members."""
        images = np.asarray(images)
        return to_model(images[None] if images.ndim == 2 else images, self.input_shape)

    def predict(
        self,
        images: NDArray,
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
        units: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Return the expected response, shape (n, units), in the units of the data set.

        Parameters
        ----------
        images : array, shape (n, H, W)
            Grey levels, any size of the right aspect ratio.
        behavior, pupil_center : array, shape (n, columns) or (columns,), optional
            Raw values, as in the data set; None is the training mean.
        units : int array, optional
            Which units (positions in `unit_ids`); default all.
        """
        small = self._small(images)
        total = sum(e.predict(small, behavior, pupil_center) for e in self.encoders)
        mean = total / len(self.encoders)
        return mean if units is None else mean[:, np.asarray(units)]

    def frozen(
        self,
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
        units: ArrayLike | None = None,
    ) -> FrozenModel:
        """Return the ensemble at one state of the animal, as a module of the image alone.

        Parameters
        ----------
        behavior : array, shape (columns,), optional
            Raw values; None is the training mean.
        pupil_center : array, shape (2,), optional
            Raw values; None is the training mean.
        units : int array, optional
            Units that the module has, in that order; default all.
        """
        return FrozenModel(self.encoders, behavior, pupil_center, units)
