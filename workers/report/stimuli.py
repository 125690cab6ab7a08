"""Stimuli as shown, what they are predicted to do, and analyses of them in the models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import plotting
from workers.report.context import KINDS, Loop
from workers.report.page import Section

GALLERY_ROWS = 10
SHEETS = {"mei": "S4", "rf": "S8"}
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


def stimuli(page: Loop) -> Section | None:
    """Return galleries (Figures 2, 4, S4, S8, S11) and predicted responses (Figure 3)."""
    from schemas import closed_loop

    plan = page.plan
    if plan is None:
        return None
    rows = pd.DataFrame((closed_loop.Plan.Target & plan).to_dicts())
    page.csv(rows, "stimuli")
    kinds = [kind for kind in KINDS if (rows["kind"] == kind).any()]
    table = rows.pivot(index="target_rank", columns="kind", values="image_hash")
    predicted = rows.pivot(index="target_rank", columns="kind", values="predicted").astype(float)
    images = _images(plan)
    ids = page.targets.set_index("target_rank")["unit_id"]
    section = Section("Stimuli")
    whole = table.dropna(subset=kinds).index
    caption = (
        "8-bit images exactly as shown, matched in mean luminance and contrast; below each the "
        "response that the ensemble predicts to it."
    )
    for first, name, title in ((0, "gallery", "Figures 2 and 4: stimuli of the best targets"),
                               (GALLERY_ROWS, "gallery_rest", "Figure S11: stimuli of the next "
                                "targets")):  # fmt: skip
        shown = whole[first : first + GALLERY_ROWS]
        if not len(shown):
            continue
        figure = plotting.gallery_figure(
            {kind: np.stack([images[table.at[r, kind]] for r in shown]) for kind in kinds},
            labels=[_label(ids, rank) for rank in shown],
            predicted={kind: predicted.loc[shown, kind].to_numpy() for kind in kinds},
        )
        section.pictures.append(page.picture(figure, name, title, caption))
    for kind, number in SHEETS.items():
        if kind in kinds:
            have = table[kind].dropna()
            figure = plotting.sheet_figure(
                np.stack([images[name] for name in have]),
                [_label(ids, rank) for rank in have.index],
            )
            title = f"Figure {number}: all {kind.upper()}s as shown"
            section.pictures.append(page.picture(figure, f"sheet_{kind}", title))
    if len(kinds) > 1:
        figure = plotting.predicted_activation_figure(predicted[kinds])
        caption = "Responses of the ensemble to the images as shown, at matched luminance."
        title = "Figure 3: predicted responses to all kinds"
        section.pictures.append(page.picture(figure, "predicted", title, caption))
    planned = (closed_loop.Plan & plan).fetch1()
    page.summary["n_targets"] = planned["n_targets"]
    section.remarks.append(
        f"The plan shows {planned['n_images']} images for {planned['n_targets']} neurons, "
        f"{planned['n_repeats']} times each, in {planned['total_s'] / 60:.1f} minutes; "
        f"{len(planned['dropped'])} images were left out"
        + (f" ({planned['dropped'][0]['reason']} ...)." if planned["dropped"] else ".")
    )
    median = {"kind": kinds, "median predicted response": [predicted[k].median() for k in kinds]}
    section.tables.append(("", pd.DataFrame(median)))
    return section


def _label(ids: pd.Series, rank: int) -> str:
    unit = ids.get(rank)
    return f"target {rank}" if unit is None or pd.isna(unit) else f"unit {int(unit)}"


def _images(plan: dict[str, str]) -> dict[str, np.ndarray]:
    from schemas import closed_loop, stimulus

    hashes = sorted(set((closed_loop.Plan.Image & plan).to_arrays("image_hash").tolist()))
    found = stimulus.load_images(stimulus.ImageSet.locate(hashes))
    return {name: np.asarray(image) for name, image in found.items()}


def analyses(page: Loop) -> Section | None:
    """Return every in-silico analysis of the targets that is computed."""
    from schemas import mei

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
        figure = plotting.ANALYSIS_FIGURES[name](units, mei.Analysis.arrays(name, batch))
        section.pictures.append(page.picture(figure, f"analysis_{name}", FIGURES[name]))
        median = units.median(numeric_only=True)
        values = ", ".join(f"{key} {value:.3g}" for key, value in median.items())
        section.remarks.append(f"{FIGURES[name]}: {len(units)} neurons; medians {values}.")
    return section if section.pictures else None
