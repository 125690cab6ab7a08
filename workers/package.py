"""Write the stimulus package of a loop from its tables."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.closed_loop.package.files import (
    IMAGE_COLUMNS,
    UNIT_COLUMNS,
    verify_package,
    write_package,
)
from pipeline.closed_loop.package.manifest import opened, read_manifest
from pipeline.errors import DataError
from schemas import dataset, experiment, imaging, stimulus
from schemas.closed_loop import AnalysisPlan, Loop, Package, Plan, PlanMethod, PlanTask, Recipe
from workers.queue import tables
from workers.version import code_version

_RENAMED = {"image_hash": "image"}


def write(
    scan: Mapping[str, int],
    folder: str | PathLike,
    plan_id: str | None = None,
    *,
    replace: bool = False,
) -> str:
    """Write the package of a plan of a scan; the same once more changes nothing.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`; the schemas are active.
    folder : path
        Must not exist, or hold an earlier package of the same plan; a zip file if the name ends
        in ``.zip``.
    plan_id : str, optional
        Which plan; needed if the scan has several.
    replace : bool
        Take the place of another plan's package, too.

    Returns
    -------
    str
        The plan's id.

    Raises
    ------
    DataError
        If there is no loop on the scan, its plan is not computed yet, it has several, or the folder
        holds something else.
    """
    task = _task(scan, plan_id)
    plan = {"plan_id": task["plan_id"]}
    source = {name: task[name] for name in ("session", "scan_idx")}
    calibration = (experiment.MonitorCalibration & scan).fetch1()
    params = (PlanMethod & task).fetch1("plan_params")
    shown = (Plan.Image & plan).to_dicts(order_by="image_hash")
    images = stimulus.load_images(stimulus.ImageSet.locate([row["image_hash"] for row in shown]))
    targets, units = _targets(plan)
    trials = pd.DataFrame((Plan.Trial & plan).to_dicts(order_by="trial_idx"))
    AnalysisPlan.populate(plan)  # a package leaves only with its analysis frozen
    frozen = (AnalysisPlan & plan).fetch1("analysis_hash", "analysis_plan")
    written = write_package(
        Path(folder),
        plan_id=task["plan_id"],
        animal_id=scan["animal_id"],
        source=[source],
        monitor={
            "width_px": calibration["width_px"],
            "height_px": calibration["height_px"],
        },
        curve=experiment.MonitorCalibration.curve(scan),
        seed=int(params.get("seed", 0)),
        trials=trials.rename(columns=_RENAMED).drop(columns="plan_id"),
        images=images,
        images_table=_images_table(shown, targets),
        units_table=units,
        extra={
            "dropped": (Plan & plan).fetch1("dropped"),
            "software": code_version(),
            "analysis": {"hash": frozen[0], **frozen[1]},
        },
        replace=replace,
    )
    with opened(written) as root:
        digest = read_manifest(root, name=str(written))["digest"]
    Package.record(plan, digest, str(Path(folder).resolve()))
    return task["plan_id"]


def choices(scan: Mapping[str, int]) -> list[dict[str, Any]]:
    """List the plans of a scan, of the newest loop first: see `size`, and `recipe`, name or hash.

    As long as the newest loop has no plan, those of earlier ones are taken by name only.

    Raises
    ------
    DataError
        If there is no loop on the scan, or the plan of the newest one is not computed yet.
    """
    name = experiment.scan_name(scan)
    loops = (Loop & scan).to_dicts(order_by="registered DESC")
    if not loops:
        raise DataError(f"no loop is registered on {name}", remedy=f"run `inception loop {name}`")
    _refuse_uncomputed(PlanTask & loops[0], name)
    every = (Plan.proj() * PlanTask * Loop.proj("registered") * Recipe.proj("recipe_name")) & scan
    return [
        {"recipe": row["recipe_name"] or row["recipe_hash"], **size(row["plan_id"])}
        for row in every.to_dicts(order_by=("registered DESC", "plan_id"))
    ]


def size(plan_id: str) -> dict[str, Any]:
    """Return `plan`, its id, and what it shows.

    Returns
    -------
    dict
        `plan, images, units, repeats, trials, minutes`; `left_out`, stimuli in `Plan.dropped`.
    """
    row = (Plan & {"plan_id": plan_id}).fetch1()
    return {
        "plan": plan_id,
        "images": row["n_images"],
        "units": row["n_targets"],
        "repeats": row["n_repeats"],
        "trials": row["n_trials"],
        "minutes": round(row["total_s"] / 60, 1),
        "left_out": len(row["dropped"]),
    }


def sentence(shown: Mapping[str, Any]) -> str:
    """Say what a plan shows, of `size`: images, units, repeats, minutes and what is left out."""
    text = (
        f"{shown['images']} images for {shown['units']} units, {shown['repeats']} times each: "
        f"{shown['trials']} trials, {shown['minutes']:g} min"
    )
    left = shown["left_out"]
    return f"{text}; {left} stimuli left out, see `dropped` in manifest.json" if left else text


def verify(scan: Mapping[str, int], folder: str | PathLike, plan_id: str | None = None) -> str:
    """Check that a package is one that was written of a plan of the scan, and unchanged.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`; the schemas are active.
    folder : path
        Folder or zip file.
    plan_id : str, optional
        Which plan it must be of; any of the scan's if there are several.

    Returns
    -------
    str
        The plan's id.

    Raises
    ------
    DataError
        One line: what was edited or is missing, or of which plan, animal or monitor it is.
    """
    if plan_id is None and len(PlanTask & scan) > 1:
        with opened(folder) as root:
            named = read_manifest(root, name=str(folder))["plan"]
        plan_id = named if PlanTask & scan & {"plan_id": named} else None
    task = _task(scan, plan_id)
    manifest = verify_package(
        Path(folder),
        plan_id=task["plan_id"],
        animal_id=int(scan["animal_id"]),
        calibration_digest=experiment.MonitorCalibration.curve(scan).digest(),
    )
    known = (Package & {"plan_id": task["plan_id"]}).to_arrays("package_digest").tolist()
    if manifest["digest"] not in known:
        raise DataError(
            "package of this plan that this database did not write",
            file=folder,
            found=manifest["digest"],
            expected=" or ".join(known) or "none was written",
            remedy=f"run `inception package {'/'.join(map(str, scan.values()))} OUT`",
        )
    return task["plan_id"]


def _task(scan: Mapping[str, int], plan_id: str | None) -> dict[str, Any]:
    """Return the plan task, with a computed plan, that is named or the only one on a scan."""
    name = experiment.scan_name(scan)
    tasks = {task["plan_id"]: task for task in (PlanTask & scan).to_dicts(order_by="plan_id")}
    if plan_id is not None and tasks:
        if plan_id not in tasks:
            raise DataError(
                f"no loop on {name} has that plan",
                field="plan",
                found=plan_id,
                expected=" or ".join(tasks),
            )
        _refuse_uncomputed(PlanTask & {"plan_id": plan_id}, name)
        return tasks[plan_id]
    known = choices(scan)
    if len(known) > 1:
        listed = (f"{plan['plan']} ({line(plan)})" for plan in known)
        raise DataError(
            f"several plans on {name}",
            field="plan",
            found="; ".join(listed),
            expected="one",
            remedy="name it with --plan",
        )
    return tasks[known[0]["plan"]]


def _refuse_uncomputed(asked: Any, name: str) -> None:
    if Plan & asked:
        return
    failed = _set_aside()
    raise DataError(
        f"the plan of the loop on {name} is not computed yet",
        found=f"{failed} jobs set aside" if failed else None,
        remedy="see `inception errors`" if failed else "run `inception worker --exit-when-idle`",
    )


def line(plan: Mapping[str, Any]) -> str:
    """Tell one plan of a scan from the others: recipe, images, units, minutes."""
    return (
        f"recipe {plan['recipe']}, {plan['images']} images, {plan['units']} units, "
        f"{plan['minutes']:g} min"
    )


def _set_aside() -> int:
    return len(tables.Job & "status='error'") if tables.schema.database else 0


def _targets(plan: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return image, kind, variant, unit and prediction of every target, and where the units are."""
    order = ("unit_index", "kind", "variant")
    targets = pd.DataFrame((Plan.Target & plan).to_dicts(order_by=order))
    units = dataset.Dataset.Unit & (Plan.Target & plan)
    known = [row for row in units.to_dicts() if row["unit_id"] is not None]
    members = dataset.Responses.Unit & [
        {name: row[name] for name in dataset.Responses.Unit.primary_key} for row in known
    ]
    placed = (members * imaging.Segmentation.Unit.proj("y_px", "x_px")).to_dicts(order_by="unit_id")
    index = {row["unit_id"]: row["unit_index"] for row in known}
    places = pd.DataFrame(placed).assign(unit_index=lambda frame: frame["unit_id"].map(index))
    keys = ["session", "scan_idx", "field", "unit_id", "unit_index"]
    return targets.merge(places[keys], on="unit_index", validate="many_to_one"), places[
        UNIT_COLUMNS
    ]


def _images_table(shown: list[dict[str, Any]], targets: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every use of an image: by a unit, or by nobody in particular."""
    light = ["image_hash", "mean_cd_m2", "sd_cd_m2", "clipped_fraction"]
    images = pd.DataFrame(shown)
    used = targets.merge(images[light], on="image_hash", validate="many_to_one")
    others = images[~images["image_hash"].isin(targets["image_hash"])]
    whole = pd.concat([used, others[[*light, "kind", "variant"]]], ignore_index=True)
    whole = whole.rename(columns=_RENAMED)[IMAGE_COLUMNS]
    return whole.sort_values(["kind", "variant", "unit_id", "image"], ignore_index=True)
