"""From what the tables point to, to a training set in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from schemas import experiment, stimulus

if TYPE_CHECKING:
    from pipeline.dataset import Dataset as TrainingSet
    from pipeline.dataset import UnitTable


def position(unit: dict[str, Any], field: dict[str, Any]) -> list[float | None]:
    """Return x, y, z (um) of a unit in the coordinates of its microscope, None if unknown."""
    if field["um_per_px_y"] is None:
        return [None, None, None]
    down = (unit["y_px"] - (field["height_px"] - 1) / 2) * field["um_per_px_y"]
    right = (unit["x_px"] - (field["width_px"] - 1) / 2) * field["um_per_px_x"]
    return [(field["x_um"] or 0.0) + right, (field["y_um"] or 0.0) + down, field["z_um"] or 0.0]


def known(
    unit: dict[str, Any], scan: dict[str, Any], fields: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Return what filters may ask of a unit: area, depth (um), soma probability and SNR."""
    depth = scan["depth_um"]
    if depth is not None:  # of the first field; z counts downwards
        depth += (fields[unit["field"]]["z_um"] or 0.0) - (fields[min(fields)]["z_um"] or 0.0)
    return {
        "area": scan["brain_area"],
        "depth_um": depth,
        "soma_probability": unit["soma_probability"],
        "snr": unit["snr"],
    }


def unit_table(rows: list[dict[str, Any]]) -> UnitTable:
    """Return `known` of all units as arrays; None becomes NaN."""
    from pipeline.dataset import UnitTable

    numbers = ("depth_um", "soma_probability", "snr")
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in numbers}
    return UnitTable(area=np.array([row["area"] or "" for row in rows]), **columns)


def prepared(path: str, fingerprint: str, digest: str | None = None) -> TrainingSet:
    """Read a prepared data set, which must be what was ingested."""
    from pipeline.dataset import load

    if not Path(path).exists():
        raise experiment.gone(Path(path))
    found = experiment.fingerprint(Path(path))
    if digest is not None:  # of all content; older rows have none
        fingerprint, found = digest, experiment.raw_digest(Path(path))
    if found != fingerprint:
        raise DataError(
            "prepared data set changed after ingest",
            file=path,
            found=found,
            expected=fingerprint,
            remedy="ingest it again under another name",
        )
    return load(path)


def assemble(
    content: dict[str, Any], shape: tuple[int, int], tier_params: dict[str, Any]
) -> TrainingSet:
    """Make the training set of one scan."""
    from pipeline.dataset import Dataset as TrainingSet
    from pipeline.dataset import assign_tiers
    from pipeline.stimulus.images import to_model

    pixels = stimulus.load_images(content["images"])
    names = sorted(pixels)
    sizes: dict[tuple[int, int], list[str]] = {}
    for name in names:
        sizes.setdefault(pixels[name].shape, []).append(name)
    small = {}
    for group in sizes.values():
        scaled = to_model(np.stack([pixels[name] for name in group]), shape)
        small.update(zip(group, scaled, strict=True))
    position = {name: index for index, name in enumerate(names)}
    hashes = np.array(content["hashes"])
    um = np.array(content["um_xyz"], np.float64)
    state, center = (reference.load() for reference in content["state"])
    return TrainingSet(
        images=np.stack([small[name] for name in names]),
        image_index=np.array([position[name] for name in hashes]),
        image_id=hashes,
        responses=content["responses"].load(),
        tiers=assign_tiers(hashes, **tier_params),
        behavior=state,
        pupil_center=center,
        unit_ids=np.array(content["unit_ids"]),
        um_xyz=um if np.isfinite(um).all() else None,
    )
