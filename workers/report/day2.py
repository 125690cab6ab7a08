"""Day 2: the same cells, what was shown, and the verdict with its checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline import plotting
from pipeline.closed_loop.verdict.confusion import confusion, pool_matrices
from pipeline.closed_loop.verdict.direction import tested
from pipeline.mei.controls import in_order
from pipeline.plotting.style import name_of
from pipeline.stimulus.kinds import stimulus_name
from schemas import closed_loop, imaging, mei
from workers.report.context import LoopPage
from workers.report.naming import readable, shown_order, source_names, with_direction
from workers.report.page import Picture, Section

VERDICT = [
    "kind",
    "n_neurons",
    "fraction",
    "fraction_low",
    "fraction_high",
    "fraction_significant",
    "fraction_opposite",
    "median_ratio",
    "wilcoxon_p",
    "bootstrap_p",
    "above",
]
THROUGH = {
    "field": "Pairs of the verdict are made field to field",
    "stack": "Pairs of the verdict are made through the structural stacks",
    "combined": "Pairs of the verdict are those of the fields and of the structural stacks joined",
}
STATUSES = ("ok", "dropped", "late", "short", "long", "unseen", "repeated", "wrong", "extra")


def presentation(page: LoopPage, match: dict[str, Any]) -> list[Section]:
    """Return matching, presentation and verdict of one recording."""
    day = f"{match['animal_id']}/{match['session']}/{match['scan_idx']}"
    tag = f"day{match['session']}_{match['scan_idx']}"
    sections = [_matching(page, match, tag, f"The same cells on {day}")]
    audit = (closed_loop.Audit & match).to_dicts()
    if audit:
        sections.append(_audit(page, audit[0], tag, f"What was shown on {day}"))
    outcomes = (closed_loop.Outcome & match).keys(order_by=closed_loop.Outcome.primary_key)
    for outcome in outcomes:
        if len(outcomes) > 1:  # scored by several methods
            method = outcome["outcome_hash"]
            sections += _verdict(page, outcome, f"{tag}_{method}", f"{day}, scored by {method}")
        else:
            sections += _verdict(page, outcome, tag, day)
    return sections


def _matching(page: LoopPage, match: dict[str, Any], tag: str, title: str) -> Section:
    section = Section(title)
    fields = (closed_loop.UnitMatch.Field & match).to_dicts(order_by="field")
    through = (closed_loop.MatchMethod & match).fetch1("match_through")
    if closed_loop.without_pairs() & match:
        section.remarks.append(f"The verdict ({through}) waits for the match through a stack.")
        return section
    pairs = closed_loop.matched_pairs(match)
    names = source_names(match)
    for pair in pairs:
        pair["unit"] = names[pair["source_unit_id"]]
    page.csv(pd.DataFrame(pairs), f"{tag}_matches")
    page.summary["n_pairs"] = len(pairs)
    section.remarks.append(f"{THROUGH[through]}: {len(pairs)} pairs.")
    for field in fields:
        section.pictures.append(_field_match(page, match, field, pairs, tag))
        section.remarks.append(
            f"Field {field['source_field']} of day 1 is field {field['field']}: images correlate "
            f"{_text(field['registration_score'])} after registration; same place with "
            f"probability {_text(field['same_field'])}."
        )
        if field["finding"]:
            section.remarks.append(f"No cell is found again there: {field['finding']}.")
    through = (closed_loop.StackMatch & match).to_dicts()
    if through:
        both = (closed_loop.CombinedMatch.Pair & match).to_dicts()
        made = ", ".join(str(row["n_pairs"]) for row in through)
        section.remarks.append(
            f"{len(through)} structural stack{'s' * (len(through) > 1)} gave {made} pairs; "
            f"{sum(row['n_agree'] > 1 for row in both)} of {len(both)} pairs have more "
            "than one way."
        )
    for row in (closed_loop.CellMatchOracleCorrelation & match).to_dicts():
        section.remarks.append(
            f"{row['n_images'] or 'Too few'} natural images are repeated often enough on both days "
            f"to correlate them; day 2 responds {_text(row['median_gain'])} times as strongly to "
            "the same images (median)."
        )
        key = {name: row[name] for name in closed_loop.CellMatchOracleCorrelation.primary_key}
        units = (closed_loop.CellMatchOracleCorrelation.Unit & key).to_dicts(order_by="pair")
        found = pd.DataFrame([{**unit, "unit": names[unit["source_unit_id"]]} for unit in units])
        page.csv(found, f"{tag}_confirmation")
        if row["n_images"]:
            rank = found["pair_rank"].astype(float)
            figure = plotting.confirmation_figure(
                row["correlation"].load(), rank, labels=found["unit"].tolist()
            )
            caption = (
                "A check of the matches, never their criterion; z-scored, repeats averaged. Both "
                "axes name the neurons of day 1."
            )
            name = "Figure S2: matched cells like the same images"
            section.pictures.append(page.picture(figure, f"{tag}_confirmation", name, caption))
    return section


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _field_match(
    page: LoopPage, match: dict[str, Any], field: dict[str, Any], pairs: list[dict], tag: str
) -> Picture:
    task = (closed_loop.MatchTask & match).fetch1()
    source = {
        "animal_id": match["animal_id"],
        "session": task["source_session"],
        "scan_idx": task["source_scan_idx"],
        "imaging_hash": task["source_imaging_hash"],
        "field": field["source_field"],
    }
    views, units = [], []
    for key in (source, {**match, "field": field["field"]}):
        recipe = imaging.ImagingRecipe & {"imaging_hash": key["imaging_hash"]}
        place = {n: key[n] for n in ("animal_id", "session", "scan_idx", "field")}
        full = (imaging.Segmentation & place & recipe).fetch1("KEY")
        masks, _ = imaging.load_masks(imaging.Segmentation.fetch_masks(full))
        views.append(((imaging.SummaryImages & full).fetch1("mean_image").load(), masks))
        ids = (imaging.Segmentation.Unit & full).to_arrays("unit_id", order_by="unit_id")
        units.append({int(u): row for row, u in enumerate(ids)})
    here = [p for p in pairs if p["source_unit_id"] in units[0] and p["unit_id"] in units[1]]
    rows = [(units[0][p["source_unit_id"]], units[1][p["unit_id"]]) for p in here]
    size = (imaging.ScanInfo.Field & source).fetch1("um_per_px_x")
    figure = plotting.matches_figure(
        views[0],
        views[1],
        np.array(rows, int).reshape(-1, 2),
        um_per_px=size,
        labels=[str(p["source_unit_id"]) for p in here],
    )
    name = f"{tag}_matches" if field["field"] == 0 else f"{tag}_matches{field['field']}"
    caption = "A pair has one color; the number is the unit_id of day 1."
    return page.picture(figure, name, "Figure S1b: the same cells on both days", caption)


def _audit(page: LoopPage, row: dict[str, Any], tag: str, title: str) -> Section:
    summary = row["audit_summary"]
    counts = {name: int(summary.get(name, 0)) for name in STATUSES}
    figure = plotting.audit_figure(counts, summary["duration_histogram"])
    remark = "{n_planned} trials planned, {n_shown} shown, {n_usable} scored.".format(**row)
    if summary.get("clock_ratio") is not None:
        drift = 1e6 * (summary["clock_ratio"] - 1)
        remark += f" Trials took {drift:+.0f} ppm of the planned time."
    if summary.get("photodiode_delay_s") is not None:
        remark += (
            f" Photodiode {1e3 * summary['photodiode_delay_s']:.1f} ms after the logged onset."
        )
    remark += "".join(f" Photodiode: {note}." for note in summary.get("photodiode_notes", ()))
    numbers = {k: v for k, v in summary.items() if not isinstance(v, dict | list)}
    page.csv(pd.DataFrame([numbers]), f"{tag}_audit")
    picture = page.picture(figure, f"{tag}_audit", "Presentation audit")
    return Section(title, [picture], remarks=[remark])


def _verdict(page: LoopPage, outcome: dict[str, Any], tag: str, day: str) -> list[Section]:
    rows, tests, population, reference = _scored(outcome)
    if rows.empty or tests.empty:
        return []
    for frame, name in ((rows, "responses"), (tests, "tests"), (population, "population")):
        page.csv(frame, f"{tag}_{name}")
    comparison = _comparison(page, rows, tests, population, reference, tag)
    section = Section(f"Verdict of {day}", [comparison])
    section.pictures += _confusions(page, outcome, tag)
    if not population.empty:
        title = (
            f"{name_of(reference)} against its controls (fraction: neurons with larger responses "
            f"to the {name_of(reference)}; p two-sided, of the effect in the last column)"
        )
        section.tables.append((title, readable(population[VERDICT])))
    found = int(rows["unit_index"].nunique())
    section.remarks.append(f"{found} targets were found again and scored.")
    section.remarks.append(_frozen(outcome))
    page.summary["n_scored"] = found
    return [section, _checks(page, outcome, rows, population, reference, tag, day)]


def _scored(outcome: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return responses, tests and populations of an outcome, and what the others stand against."""
    rows, tests, population = (
        mei.as_stimuli(pd.DataFrame((part & outcome).to_dicts()))
        for part in (
            closed_loop.Outcome.Unit,
            closed_loop.Comparison.Unit,
            closed_loop.Population.Kind,
        )
    )
    compared = (closed_loop.Comparison & outcome).to_arrays("reference")
    reference = str(compared[0]) if len(compared) else ""
    tests = with_direction(tests, reference)
    return rows, tests, with_direction(shown_order(population), reference), reference


def _comparison(
    page: LoopPage,
    rows: pd.DataFrame,
    tests: pd.DataFrame,
    population: pd.DataFrame,
    reference: str,
    tag: str,
) -> Picture:
    mean = rows.pivot(index="unit_index", columns="kind", values="mean_response").astype(float)
    sem = rows.pivot(index="unit_index", columns="kind", values="sem_response").astype(float)
    kinds = [kind for kind in in_order(mean.columns) if kind != reference]
    significant = tests.pivot(index="unit_index", columns="kind", values="significant")
    significant = significant.reindex(index=mean.index)
    notes = {}
    if not population.empty:
        by_kind = population.set_index("kind")
        known = [kind for kind in kinds if kind in by_kind.index]
        notes = {
            kind: "Wilcoxon "
            + tested(
                by_kind.loc[kind, "wilcoxon_p"],
                by_kind.loc[kind, "median_difference"],
                name_of(reference),
                name_of(kind),
            ).replace(": ", ":\n")
            for kind in known
        }
        page.summary["mei_wins"] = {kind: float(by_kind.loc[kind, "fraction"]) for kind in known}
        page.summary["above"] = {kind: by_kind.loc[kind, "above"] for kind in known}
    figure = plotting.comparison_figure(
        mean[reference].to_numpy(),
        {kind: mean[kind].to_numpy() for kind in kinds},
        reference=reference,
        mei_sem=sem[reference].to_numpy(),
        control_sem={kind: sem[kind].to_numpy() for kind in kinds},
        significant={kind: significant[kind].fillna(False).to_numpy(bool) for kind in kinds},
        notes=notes,
    )
    caption = (
        "Mean response over repeats, in units of the neuron's sd over the scan; bars: standard "
        "error; filled: two-sided Welch test, Benjamini-Hochberg over neurons."
    )
    title = "Figure 4: MEIs against their controls"
    return page.picture(figure, f"{tag}_comparison", title, caption)


def comparison(page: LoopPage, outcome: dict[str, Any], tag: str) -> Picture:
    """Draw the MEIs of one outcome against their controls (Figure 4)."""
    return _comparison(page, *_scored(outcome), tag)


def _confusions(page: LoopPage, outcome: dict[str, Any], tag: str) -> list[Picture]:
    pictures = []
    rows = (closed_loop.Confusion.Kind & outcome).to_dicts(order_by=["kind", "variant"])
    frame = mei.as_stimuli(pd.DataFrame(rows))
    if len(frame):
        names = ["kind", "dominance", "mean_row_rank", "mean_column_rank"]
        page.csv(frame[names], f"{tag}_confusion")
    for row in rows:
        if row["kind"] == "mei":
            units, matrix, days = _pooled(outcome, row["variant"])
            found = confusion(matrix)
            names = [page.name_of_unit(unit) for unit in units]
            figure = plotting.confusion_figure(matrix.T, labels=names)
            shown = name_of(stimulus_name(row["kind"], row["variant"]))
            over = f"{len(days)} recordings pooled" if len(days) > 1 else "one recording"
            caption = (
                "A row is a neuron, a column an image; mean responses over repeats, each neuron's "
                f"divided by its largest ({over}). A neuron's own {shown} exceeds "
                f"{_text(_known(found.mean_column_rank))} of the others', and it responds "
                f"more to it than {_text(_known(found.mean_row_rank))} of the other neurons do "
                "(mean ranks; chance 0.5)."
            )
            title = f"Figure S6: every neuron's response to every {shown}"
            name = f"{tag}_confusion{row['variant'] or ''}"
            pictures.append(page.picture(figure, name, title, caption))
    return pictures


def _pooled(
    outcome: dict[str, Any], variant: int = 0
) -> tuple[list[int], np.ndarray, list[dict[str, Any]]]:
    """Return units and matrix of MEIs, over this and all earlier recordings, and which those are.

    The recordings are those of `PooledOutcome`, as far as they showed these MEIs; without its row,
    this one alone.
    """
    names = ("animal_id", "match_hash", "response_hash", "outcome_hash")
    days = [outcome]
    for row in (closed_loop.PooledOutcome & outcome).to_dicts():
        same = [
            {**{name: outcome[name] for name in names}, "session": session, "scan_idx": scan}
            for session, scan in row["days"]
        ]
        days = (closed_loop.Outcome & same).keys(order_by=["session", "scan_idx"])
    images = {"kind": "mei", "variant": variant}
    days = [day for day in days if closed_loop.Confusion.Kind & day & images]
    matrices, neurons, repeats = [], [], []
    for day in days:
        found = closed_loop.Confusion.Kind & day & images
        units = (closed_loop.Confusion & day).fetch1("unit_index_list")
        rows = (closed_loop.Outcome.Unit & day & images).to_dicts()
        shown = {row["unit_index"]: row["n_repeats"] for row in rows}
        matrices.append(found.fetch1("matrix").load())
        neurons.append(units)
        repeats.append([shown.get(unit, 0) for unit in units])
    return *pool_matrices(matrices, neurons, repeats), days


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _shown(outcome: dict[str, Any]) -> dict[str, str]:
    """Return the key of the plan that a recording showed, which need not be the loop's newest."""
    return {"plan_id": (closed_loop.Presentation & outcome).fetch1("plan_id")}


def _frozen(outcome: dict[str, Any]) -> str:
    frozen = (closed_loop.AnalysisPlan & _shown(outcome)).to_dicts()
    if not frozen:
        return "No analysis plan was frozen before this recording."
    used = (closed_loop.OutcomeMethod & outcome).fetch1("outcome_method", "outcome_params")
    asked = frozen[0]["analysis_plan"]["method"], frozen[0]["analysis_plan"]["params"]
    as_planned = "is" if used == asked else "IS NOT"
    return f"This {as_planned} the analysis frozen with the plan ({frozen[0]['analysis_hash']})."


def _checks(
    page: LoopPage,
    outcome: dict[str, Any],
    rows: pd.DataFrame,
    population: pd.DataFrame,
    reference: str,
    tag: str,
    day: str,
) -> Section:
    section = Section(f"Checks of the verdict of {day}")
    table = mei.as_stimuli(pd.DataFrame((closed_loop.Sensitivity.Threshold & outcome).to_dicts()))
    if len(table):
        table = with_direction(shown_order(table), reference)
        page.csv(table, f"{tag}_sensitivity")
        figure = plotting.sensitivity_figure(table, reference=reference)
        title = "With surer and surer matches"
        section.pictures.append(page.picture(figure, f"{tag}_sensitivity", title))
    plan = _shown(outcome)
    power = (closed_loop.PlanPower & plan).to_dicts()
    designs = pd.DataFrame((closed_loop.PlanPower.Design & plan).to_dicts())
    if power and power[0]["power_curve"] and len(designs):
        page.csv(designs, f"{tag}_power")
        ratio = population.set_index("kind")["median_ratio"].astype(float).to_dict()
        figure = plotting.power_figure(power[0]["power_curve"], designs, ratio)
        title = "Power planned from day 1, and the ratios found"
        section.pictures.append(page.picture(figure, f"{tag}_power", title))
    raw = rows.pivot(index="unit_index", columns="kind", values="raw_mean").astype(float)
    predicted = rows.pivot(index="unit_index", columns="kind", values="predicted").astype(float)
    kinds = in_order(predicted.columns)
    figure = plotting.prediction_figure(predicted[kinds].to_dict("series"), raw.to_dict("series"))
    title = "Predicted and measured responses"
    section.pictures.append(page.picture(figure, f"{tag}_prediction", title))
    for name, part, label in (
        ("prediction", closed_loop.Prediction.Kind, "Predicted against measured"),
        ("arousal", closed_loop.ArousalControl.Kind, "Trials matched in arousal"),
        ("pooled", closed_loop.PooledOutcome.Kind, "This and all earlier presentations"),
    ):
        frame = mei.as_stimuli(pd.DataFrame((part & outcome).to_dicts()))
        if len(frame):
            frame = with_direction(shown_order(frame), reference)
            page.csv(frame, f"{tag}_{name}")
            keys = set(part.primary_key) - {"kind"}
            shown = frame.drop(columns=[c for c in frame if c in keys])
            section.tables.append((label, readable(shown)))
    return section
