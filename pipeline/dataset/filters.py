"""Which units enter a training set: by area, layer, depth, shape and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.registry import Registry

unit_filters = Registry("unit filter")

LAYER_BORDERS_UM = {
    "L1": (0.0, 100.0),
    "L2/3": (100.0, 310.0),
    "L4": (310.0, 440.0),
    "L5": (440.0, 640.0),
    "L6": (640.0, 900.0),
}
"""Depth of the layers of mouse V1 below the surface (um); each begins where the last one ends."""


@dataclass(frozen=True)
class UnitTable:
    """What is known of every unit; arrays of shape (units,), NaN or '' where it is not known.

    Parameters
    ----------
    area : array of str
        Brain area.
    depth_um : array
        Below the surface of the cortex (um).
    soma_probability : array
        Of the mask to be a cell body.
    snr : array
        Signal to noise of the trace.
    """

    area: NDArray[np.str_]
    depth_um: NDArray[np.float64]
    soma_probability: NDArray[np.float64]
    snr: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(lengths) != 1:
            raise ValueError(f"columns of a unit table must be of one length, got {lengths}")

    def __len__(self) -> int:
        return len(self.area)

    @classmethod
    def unknown(cls, n_units: int, um_xyz: NDArray | None = None) -> UnitTable:
        """Return the table of a prepared data set: depth is its z where it has positions."""
        nothing = np.full(n_units, np.nan)
        depth = nothing if um_xyz is None else np.abs(um_xyz[:, 2])
        return cls(np.full(n_units, ""), depth, nothing, nothing)


@unit_filters.register("criteria", default=True)
def criteria(
    units: UnitTable,
    *,
    areas: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    layer_borders_um: Mapping[str, Sequence[float]] = LAYER_BORDERS_UM,
    min_depth_um: float | None = None,
    max_depth_um: float | None = None,
    min_soma_probability: float | None = None,
    min_snr: float | None = None,
) -> NDArray[np.bool_]:
    """Keep the units that meet every criterion that is given.

    A unit of which a criterion's quantity is not known fails it, except that a mask without soma
    probability passes: whoever drew it vouches for it.

    Parameters
    ----------
    units : UnitTable
    areas : list of str, optional
        Brain areas, as `experiment.Scan` names them.
    layers : list of str, optional
        Names in `layer_borders_um`.
    layer_borders_um : dict
        Depth (um) at which each layer begins and, exclusive, ends.
    min_depth_um, max_depth_um : float, optional
        Bounds of the depth, both inclusive (um).
    min_soma_probability, min_snr : float, optional
        Lowest values.

    Returns
    -------
    bool array, shape (units,)

    Raises
    ------
    ValueError
        If a layer has no borders.
    """
    unknown = sorted(set(layers or ()) - set(layer_borders_um))
    if unknown:
        raise ValueError(f"no borders of layers {unknown}; there are {sorted(layer_borders_um)}")
    keep = np.ones(len(units), bool)
    depth = np.where(np.isnan(units.depth_um), -1.0, units.depth_um)  # above every layer
    if areas is not None:
        keep &= np.isin(units.area, list(areas))
    if layers is not None:
        borders = [layer_borders_um[layer] for layer in layers]
        keep &= np.any([(low <= depth) & (depth < high) for low, high in borders], axis=0)
    if min_depth_um is not None:
        keep &= depth >= min_depth_um
    if max_depth_um is not None:
        keep &= (depth >= 0) & (depth <= max_depth_um)
    if min_soma_probability is not None:
        soma = units.soma_probability
        keep &= np.isnan(soma) | (soma >= min_soma_probability)
    if min_snr is not None:
        keep &= np.nan_to_num(units.snr, nan=-np.inf) >= min_snr
    return keep


def apply_filter(units: UnitTable, method: str, params: Mapping) -> NDArray[np.int64]:
    """Return the positions of the units that a registered filter keeps.

    Raises
    ------
    DataError
        If it keeps none.
    """
    keep = np.flatnonzero(unit_filters[method](units, **params))
    if not len(keep):
        raise DataError(
            "no unit passes the filter",
            field=f"unit filter {method}",
            found=f"0 of {len(units)} units",
            remedy="loosen its criteria",
        )
    return keep
