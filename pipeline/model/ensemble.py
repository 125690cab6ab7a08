"""Ensembles: the mean of encoders that differ by their seed, or also by their kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pipeline.parameters import check_indices
from pipeline.stimulus.images import to_model

from .encoder import Encoder
from .frozen.model import FrozenModel


class Ensemble:
    """Mean prediction of several encoders of the same units.

    Parameters
    ----------
    encoders : sequence of Encoder
        The members, in order.
    shares : array, shape (members, units), optional
        Weight of every member in the prediction of every unit; they add up to 1 for each unit
        (`pipeline.model.combination` finds them). None: equal ones.

    Attributes
    ----------
    input_shape : (int, int)
        Height and width of the model's image.
    image_mean, image_sd : float
        Gray levels; ``(grey - image_mean) / image_sd`` is what the model sees.
    n_units : int
    unit_ids : int array, shape (units,)
    shares : array, shape (members, units), or None
    """

    def __init__(self, encoders: Sequence[Encoder], shares: ArrayLike | None = None) -> None:
        if not encoders:
            raise ValueError("an ensemble needs at least one member")
        first = encoders[0]
        for member in encoders[1:]:
            if member.input_shape != first.input_shape or not np.array_equal(
                member.unit_ids, first.unit_ids
            ):
                raise ValueError("members of an ensemble must share units and image shape")
            if not np.allclose(
                [member.image_mean, member.image_sd], [first.image_mean, first.image_sd], rtol=1e-5
            ):
                raise ValueError("members of an ensemble must be trained on the same images")
        self.encoders = list(encoders)
        self.input_shape, self.n_units = first.input_shape, first.n_units
        self.image_mean, self.image_sd = first.image_mean, first.image_sd
        self.unit_ids = first.unit_ids
        self.shares = None if shares is None else _checked(shares, (len(encoders), self.n_units))

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
            Gray levels, any size of the right aspect ratio.
        behavior, pupil_center : array, shape (n, columns) or (columns,), optional
            Raw values, as in the data set; None is the training mean.
        units : int array or mask, optional
            Which units (positions in `unit_ids`); default all.

        Raises
        ------
        ValueError
            If a unit does not exist.
        """
        small = self._small(images)
        each = (e.predict(small, behavior, pupil_center) for e in self.encoders)
        if self.shares is None:
            mean: NDArray = reduce(np.add, each) / len(self.encoders)
        else:
            pairs = zip(each, self.shares, strict=True)
            mean = reduce(np.add, (rates * share for rates, share in pairs))
        return mean if units is None else mean[:, check_indices(units, self.n_units)]

    def combine(self, predictions: NDArray, dtype: DTypeLike | None = None) -> NDArray:
        """Return the ensemble's prediction (n, units) of its members' (members, n, units).

        `dtype` is what is added up in, as in `numpy.mean`.
        """
        if self.shares is None:
            return predictions.mean(0, dtype=dtype)
        return (predictions * self.shares[:, None]).sum(0, dtype=dtype)

    def leave_out(self) -> tuple[Ensemble, Ensemble]:
        """Return the ensemble without one member, and that member alone.

        It is the last one or, with shares, the last of those that speak most: a network that the
        others' images can be judged by has to know every unit.

        Raises
        ------
        ValueError
            If there is no other member that speaks for a unit.
        """
        if len(self) < 2:
            raise ValueError("an ensemble of one member has none to leave out")
        out = len(self) - 1
        if self.shares is not None:
            total = self.shares.sum(1)
            out = int(np.flatnonzero(total >= total.max() * (1 - 1e-6))[-1])
        others = [encoder for i, encoder in enumerate(self.encoders) if i != out]
        if self.shares is None:
            return Ensemble(others), Ensemble([self.encoders[out]])
        shares = np.delete(self.shares, out, axis=0)
        if not shares.sum(0).all():
            raise ValueError(f"without member {out} of {len(self)}, no other speaks for some units")
        return Ensemble(others, shares / shares.sum(0)), Ensemble([self.encoders[out]])

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
        return FrozenModel(self.encoders, behavior, pupil_center, units, self.shares)


def _checked(shares: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return shares as an array of a shape (members, units)."""
    shares = np.asarray(shares, np.float32)
    if shares.shape != shape:
        raise ValueError(f"shares must be (members, units) {shape}, got {shares.shape}")
    if not (shares >= 0).all() or not np.allclose(shares.sum(0), 1, atol=1e-4):
        raise ValueError("shares must be 0 or more and add up to 1 for every unit")
    return shares
