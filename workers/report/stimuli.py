"""Stimuli as shown, what they are predicted to do, and analyses of them in the models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline import plotting
from pipeline.mei.controls import in_order
from pipeline.plotting.style import name_of
from pipeline.registry import canonical_json
from pipeline.stimulus.kinds import stimulus_name
from schemas import closed_loop, dataset, mei, stimulus
from workers.report.context import LoopPage
from workers.report.methods import settings_text
from workers.report.page import Section

GALLERY_ROWS = 10
SHEETS = {"mei": "S4", "rf": "S8"}
SHEETS_OF = {"linearised": plotting.linearised_sheets}
"""Analysis -> what draws all of its targets, sheet by sheet."""
FIGURES = {
    "stability": "Figures S1a, S5: MEIs of several starts",
    "gradient_spectrum": "Figure S3: spectra of the gradients",
    "spectrum_difference": "Figure S7: amplitude spectra, MEI against RF",
    "linear_filter": "Figure S9: MEI and RF as linear filters",
    "linearised": "Figure S10: the linearised CNN and the RF",
    "gabor_similarity": "Figure 2: MEIs and their best Gabors",
    "natural_patches": "Figure 2: MEI-like patches in natural images",
    "jitter_tuning": "Tolerance to shifts of the MEI",
    "contrast_tuning": "Contrast response to the MEI",
    "orientation_tuning": "Orientation tuning",
    "size_tuning": "Size tuning",
    "held_out": "MEIs under models that did not make them",
}


def stimuli(page: LoopPage) -> Section | None:
    """Return galleries (Figures 2, 4, S4, S8, S11) and predicted responses (Figure 3)."""
    plan = page.plan
    if plan is None:
        return None
    rows = mei.as_stimuli(pd.DataFrame((closed_loop.Plan.Target & plan).to_dicts()))
    page.csv(rows, "stimuli")
    kinds = in_order(rows["kind"])
    table = rows.pivot(index="target_rank", columns="kind", values="image_hash")
    predicted = rows.pivot(index="target_rank", columns="kind", values="predicted").astype(float)
    section = Section("Stimuli")
    caption = (
        "8-bit images exactly as shown, matched in mean luminance and contrast; below each the "
        "response that the ensemble predicts to it. An empty place: not in the plan."
    )
    figure = best(page, rows, GALLERY_ROWS)
    title = "Figures 2 and 4: stimuli of the best targets"
    section.pictures.append(page.picture(figure, "gallery", title, caption))
    for number, ranks, part in _pages(table.index, len(kinds)):
        figure = plotting.stimuli_sheet_figure(**_shown(page, rows, ranks))
        title = f"Figure S11: stimuli of all targets{part}"
        section.pictures.append(page.picture(figure, f"all_stimuli{number}", title, caption))
    names = _names(page, rows)
    for kind, figure_number in SHEETS.items():
        have = table[kind].dropna().index if kind in kinds else []
        for number, ranks, part in _pages(have, 1):
            images = _images(table.loc[ranks, kind])
            figure = plotting.sheet_figure(
                np.stack([images[table.at[rank, kind]] for rank in ranks]),
                [names[rank] for rank in ranks],
            )
            title = f"Figure {figure_number}: all {name_of(kind)}s as shown{part}"
            section.pictures.append(page.picture(figure, f"sheet_{kind}{number}", title))
    if len(kinds) > 1:
        figure = plotting.predicted_activation_figure(predicted[kinds])
        caption = "Responses of the ensemble to the images as shown, at matched luminance."
        title = "Figure 3: predicted responses to all kinds"
        section.pictures.append(page.picture(figure, "predicted", title, caption))
    planned = (closed_loop.Plan & plan).fetch1()
    page.summary["n_targets"] = planned["n_targets"]
    section.remarks.append(
        f"The plan shows {planned['n_images']} images for {planned['n_targets']} neurons, "
        f"{planned['n_repeats']} times each, in {planned['total_s'] / 60:.1f} minutes."
    )
    median = {
        "stimulus": [name_of(kind) for kind in kinds],
        "neurons": [int(table[kind].notna().sum()) for kind in kinds],
        "median predicted response": [predicted[kind].median() for kind in kinds],
    }
    differ = differences(page)
    if any(differ.get(kind) for kind in kinds):
        median["parameters"] = [differ.get(kind, "") for kind in kinds]
    section.tables.append(("", pd.DataFrame(median)))
    left = left_out(page, planned["dropped"])
    if len(left):
        page.csv(left, "left_out")
        section.tables.append(("Left out of the plan", left))
    return section


def differences(page: LoopPage) -> dict[str, str]:
    """Return by which parameters the images of one kind differ: `{"accentuated:1": "level 0.75"}`.

    Kinds with one image a neuron are not among them.
    """
    kinds: dict[str, dict[str, dict[str, Any]]] = {}
    for row in page.displays:
        kind, params = mei.ControlMethod.fetch_method({"control_hash": row["control_hash"]})
        kinds.setdefault(kind, {})[stimulus_name(kind, row.get("variant", 0))] = params
    return {
        name: settings_text({key: own[key] for key in own if _vary(key, several)})
        for several in kinds.values()
        if len(several) > 1
        for name, own in several.items()
    }


def _vary(parameter: str, several: dict[str, dict[str, Any]]) -> bool:
    return len({canonical_json(params.get(parameter)) for params in several.values()}) > 1


def left_out(page: LoopPage, dropped: list[dict[str, Any]]) -> pd.DataFrame:
    """Return what a plan leaves out, neurons and stimuli by their names.

    Parameters
    ----------
    page : LoopPage
    dropped : list of dict
        `Plan.dropped`; a stimulus is named by `kind` and `variant`, or by the keys of `images`.
    """
    rows = []
    for entry in dropped:
        unit = entry.get("unit_index")
        who = "" if unit is None else page.name_of_unit(unit)
        if entry.get("kind") is not None:
            names = [stimulus_name(entry["kind"], entry.get("variant") or 0)]
        else:
            names = list(entry.get("images", ()))
        rows += [(who, name, entry["reason"]) for name in names or [""]]
    frame = pd.DataFrame(rows, columns=["unit", "stimulus", "reason"])
    groups = frame.groupby(["unit", "reason"], sort=False)["stimulus"]
    counted = [
        {"unit": unit, "stimuli": _counted(names), "images": len(names), "reason": reason}
        for (unit, reason), names in groups
    ]
    return pd.DataFrame(counted, columns=["unit", "stimuli", "images", "reason"])


def _counted(names: pd.Series) -> str:
    return ", ".join(name_of(name) for name in in_order(names))


def best(page: LoopPage, rows: pd.DataFrame, most: int) -> Figure:
    """Draw the images of the best targets of a plan.

    Parameters
    ----------
    page : LoopPage
    rows : DataFrame
        `Plan.Target` of the plan, by `schemas.mei.as_stimuli`.
    most : int
        Targets.
    """
    ranks = pd.Index(sorted(set(rows["target_rank"])))[:most]
    return plotting.gallery_figure(**_shown(page, rows, ranks))


def _names(page: LoopPage, rows: pd.DataFrame) -> dict[int, str]:
    """Return the name of every planned target by its rank."""
    units = rows.drop_duplicates("target_rank").set_index("target_rank")["unit_index"]
    return {rank: page.name_of_unit(unit) for rank, unit in units.items()}


def _shown(page: LoopPage, rows: pd.DataFrame, ranks: pd.Index) -> dict[str, Any]:
    """Return images, names and predicted responses of some targets, as the figures take them."""
    kinds = in_order(rows["kind"])
    table = rows.pivot(index="target_rank", columns="kind", values="image_hash")
    predicted = rows.pivot(index="target_rank", columns="kind", values="predicted").astype(float)
    names = _names(page, rows)
    images = _images(table.loc[ranks, kinds].to_numpy().ravel())
    return {
        "images": {kind: [images.get(table.at[r, kind]) for r in ranks] for kind in kinds},
        "labels": [names[rank] for rank in ranks],
        "predicted": {kind: predicted.loc[ranks, kind].to_numpy() for kind in kinds},
    }


def other_days(page: LoopPage) -> list[Section]:
    """Return, for every other day with a model of its own, the MEIs of both (Figure S1c)."""
    display = page.display
    if display is None:
        return []
    batch = {n: display[n] for n in mei.MaskTask.primary_key if n != "batch"}
    made = closed_loop.MEIDayStability & batch & "n_pairs > 0"
    sections = []
    for other in sorted(set(made.to_arrays("other_ensemble_hash").tolist())):
        parts = (made & {"other_ensemble_hash": other}).to_dicts(order_by="batch")
        rows = [
            row
            for part in parts
            for row in (
                closed_loop.MEIDayStability.Unit
                & {n: part[n] for n in closed_loop.MEIDayStability.primary_key}
            ).to_dicts(order_by="pair")
        ]
        units = pd.DataFrame(rows)
        data = {"dataset_hash": units["other_dataset_hash"].iloc[0]}
        scan = (dataset.DatasetSpec.Scan & data).fetch1()
        day = f"{scan['session']}/{scan['scan_idx']}"
        names = [page.name_of_unit(unit) for unit in units["unit_index"]]
        tag = f"other_day{scan['session']}_{scan['scan_idx']}"
        page.csv(units.drop(columns=list(batch)), tag)
        correlation, others, rank, transfer = (
            units[name].astype(float).to_numpy()
            for name in ("image_correlation", "others_correlation", "image_rank", "transfer")
        )
        figure = plotting.day_stability_figure(
            np.concatenate([part["images"].load() for part in parts]),
            names,
            correlation,
            others,
            days=(f"session {page.scan['session']}", f"session {scan['session']}"),
        )
        caption = (
            "Models of natural images of two days, trained apart; cells matched by their place. "
            "Correlation inside of the first day's mask; near 0 or below it for a cell that does "
            "not care for phase: either of two opposite images excites it most, and the "
            "responses to the other day's MEI tell whether both models want the same."
        )
        title = "Figure S1c: MEIs of matched cells from two days' models"
        remark = (
            f"{len(units)} targets were found in {day}; medians: correlation of the MEIs "
            f"{np.nanmedian(correlation):.2f}, with other cells' {np.nanmedian(others):.2f}; rank "
            f"{np.nanmedian(rank):.2f}; this day's model answers the other day's MEI with "
            f"{np.nanmedian(transfer):.2f} of the response to its own."
        )
        picture = page.picture(figure, tag, title, caption)
        sections.append(Section(f"The MEIs of another day, {day}", [picture], remarks=[remark]))
    return sections


def _pages(ranks: pd.Index, columns: int) -> Iterator[tuple[int, pd.Index, str]]:
    """Yield number, ranks and what the title says of every sheet that holds some of the targets."""
    size = plotting.neurons_a_sheet(columns)
    sheets = -(-len(ranks) // size)
    for number in range(sheets):
        part = f", sheet {number + 1} of {sheets}" if sheets > 1 else ""
        yield number, ranks[number * size : (number + 1) * size], part


def _images(hashes: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the images of some hashes; what is missing (NaN) is left out."""
    wanted = [name for name in hashes if isinstance(name, str)]
    found = stimulus.load_images(stimulus.ImageSet.locate(wanted))
    return {name: np.asarray(image) for name, image in found.items()}


def analyses(page: LoopPage) -> Section | None:
    """Return every in-silico analysis of the targets that is computed."""
    display = page.display
    if display is None:
        return None
    batch = {n: display[n] for n in mei.MaskTask.primary_key if n != "batch"}
    section = Section("Analyses in the models")
    for name in FIGURES:
        units = mei.Analysis.frame(name, batch).astype(float)
        if units.empty:
            continue
        page.csv(units.reset_index(), f"analysis_{name}")
        arrays = mei.Analysis.arrays(name, batch)
        figure = plotting.ANALYSIS_FIGURES[name](units, arrays)
        section.pictures.append(page.picture(figure, f"analysis_{name}", FIGURES[name]))
        sheets = SHEETS_OF[name](units, arrays) if name in SHEETS_OF else ()
        for number, sheet in enumerate(sheets):
            title = f"{FIGURES[name]}, all targets, sheet {number + 1}"
            section.pictures.append(page.picture(sheet, f"analysis_{name}{number}", title))
        median = units.median(numeric_only=True)
        values = ", ".join(f"{key} {value:.3g}" for key, value in median.items())
        section.remarks.append(f"{FIGURES[name]}: {len(units)} neurons; medians {values}.")
    return section if section.pictures else None
