"""Day 1: what was decided, the field, its traces, which units were chosen, and the models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline import plotting
from pipeline.dataset.moments import correlate
from pipeline.dataset.names import unit_name
from pipeline.model.evaluate import mean_responses
from schemas import behavior, closed_loop, dataset, experiment, imaging, mei, model
from schemas.clock import written
from workers.report.context import LoopPage
from workers.report.page import Picture, Section

TRACE_UNITS = 6
TRACE_S = 120.0
EXAMPLES = 6  # neurons whose predicted and measured responses are drawn
MEASURES = (
    "n_members",
    "single_trial",
    "single_trial_frozen",
    "to_average",
    "oracle",
    "fraction_oracle",
    "fraction_oracle_frozen",
    "feve",
    "cc_norm",
)

SIMULATED = "sim"  # rig of the simulator's recordings
SHORT = {"cnn": "CNN", "ln": "LN"}  # kinds of ensembles that are abbreviations


def overview(page: LoopPage) -> Section:
    """Return what was decided."""
    scan = (experiment.Scan & page.scan).fetch1()
    rig = (experiment.Session & page.scan).fetch1("rig")
    rows = {
        "scan": page.name,
        "recorded": scan["scan_ts"],
        "rig": rig,
        "area": scan["brain_area"],
        "depth (µm)": "unknown" if scan["depth_um"] is None else scan["depth_um"],
        "indicator": scan["indicator"],
        "recipe": page.loop["recipe_hash"],
        "targets asked for": page.loop["targets"],
        "minutes of day 2": page.loop["minutes"],
        "plan": ", ".join(plan["plan_id"] for plan in page.plans),
    }
    frame = pd.DataFrame({"": list(rows), "value": [str(value) for value in rows.values()]})
    remarks = ["These data are simulated; no animal was recorded."] if rig == SIMULATED else []
    remarks.append(
        f"The recipe that was asked for: {page.write_recipe()}. What was computed, with every "
        "parameter, is in the methods."
    )
    scheme = page.picture(plotting.scheme_figure(_counts(page)), "scheme", "Figure 1: the loop")
    title = f"{page.label or 'Loop'} on {page.name}"
    return Section(title, [scheme], tables=[("", frame)], remarks=remarks)


def _counts(page: LoopPage) -> dict[str, str]:
    """Return what each step of the scheme was made of, as far as it is known."""
    notes = {"scan": page.name}
    if page.display is not None:
        maker = {"ensemble_hash": page.display["ensemble_hash"]}
        members = len(model.EnsembleSpec.Member & maker)
        notes["models"] = f"{members} network{'s' * (members != 1)}"
        for row in (dataset.Dataset & {"dataset_hash": page.dataset_hash}).to_dicts():
            notes["images"] = f"{row['n_images']:,} images"
            notes["responses"] = f"{row['n_units']:,} neurons"
    if page.plan is not None:
        plan = (closed_loop.Plan & page.plan).fetch1()
        kinds = set((closed_loop.Plan.Target & page.plan).to_arrays("kind").tolist())
        notes["stimuli"] = f"{plan['n_targets']} neurons, {len(kinds)} kinds"
        notes["display"] = f"{plan['n_images']} images, {plan['n_repeats']} times each"
    for match in page.presentations():
        if not closed_loop.without_pairs() & match:
            notes["match"] = f"{len(closed_loop.matched_pairs(match))} matched"
        for row in (closed_loop.Outcome & match).to_dicts(order_by="outcome_hash"):
            notes["verdict"] = f"{row['n_scored']} neurons scored"
    return notes


def field(page: LoopPage) -> Section | None:
    """Return the fields with their masks, and traces of the best targets."""
    if page.imaging is None:
        return None
    section = Section("Cells")
    recipe = imaging.ImagingRecipe & page.imaging
    found = imaging.Segmentation & page.scan & recipe
    for key in found.keys(order_by="field"):
        images = (imaging.SummaryImages & key).to_dicts()
        if not images:
            continue
        masks, _ = imaging.load_masks(imaging.Segmentation.fetch_masks(key))
        units = (imaging.Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id")
        size = (imaging.ScanInfo.Field & key).fetch1("um_per_px_x")
        correlation = images[0]["correlation_image"].load()
        figure = plotting.field_figure(
            images[0]["mean_image"].load(),
            masks,
            correlation_image=correlation if np.ptp(correlation) > 0 else None,  # none: extracted
            highlighted=np.isin(units, page.targets["unit_id"].dropna().to_numpy(int)),
            um_per_px=size,
        )
        name = f"field{key['field']}"
        section.pictures.append(
            page.picture(
                figure,
                name,
                f"Field {key['field']} with masks",
                "Motion-corrected; targets in red.",
            )
        )
        section.remarks.append(f"Field {key['field']}: {len(units)} units{_motion(key)}.")
    traces = _traces(page)
    if traces is not None:
        section.pictures.append(traces)
    return section if section.pictures else None


def _motion(key: dict[str, Any]) -> str:
    """Say how the field moved and drifted, or that it was not measured."""
    motion = (imaging.Motion & key).fetch1()
    if motion["motion_rms_px"] is None:
        return "; motion not measured"
    if motion["correlation_before"] is None or motion["correlation_after"] is None:
        return ""
    text = (
        f"; moved {motion['motion_rms_px']:.2f} px rms; correlation with the template "
        f"{motion['correlation_before']:.3f} before correction, "
        f"{motion['correlation_after']:.3f} after"
    )
    for row in (closed_loop.Drift & key).to_dicts():
        if row["drift_y_um_h"] is None:
            text += "; drift not measured"
            continue
        rate = np.hypot(row["drift_y_um_h"], row["drift_x_um_h"])
        text += f"; drifted {rate:.2f} um/h, at most {row['drift_range_um']:.2f} um away"
    return text


def _traces(page: LoopPage) -> Picture | None:
    recipe = imaging.ImagingRecipe & page.imaging
    keys = (imaging.Activity & page.scan & recipe).keys(order_by="field")
    times = (behavior.Sync & page.scan).to_dicts()
    wanted = page.targets.dropna(subset="unit_id").head(TRACE_UNITS)
    if not keys or not times or wanted.empty:
        return None
    time_s = times[0]["frame_times"].load()
    rows_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of a unit, in whatever field it is
    for key in keys:
        units = (imaging.Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id")
        fluorescence = (imaging.Fluorescence & key).fetch1("corrected").load(mmap_mode="r")
        activity = (imaging.Activity & key).fetch1("activity").load(mmap_mode="r")
        for row, unit in enumerate(units):
            if unit in set(wanted["unit_id"]):
                rows_of[int(unit)] = np.asarray(fluorescence[row]), np.asarray(activity[row])
    traces = {
        name: np.stack([rows_of[unit][place] for unit in wanted["unit_id"]])
        for place, name in enumerate(("fluorescence", "activity"))
    }
    count = min(len(time_s), traces["activity"].shape[1])
    start = count // 3
    stop = min(count, start + int(TRACE_S / np.median(np.diff(time_s))))
    traces = {name: rows[:, start:stop] for name, rows in traces.items()}
    figure = plotting.traces_figure(time_s[start:stop], traces, labels=wanted["unit"].tolist())
    return page.picture(figure, "traces", "Traces of the best targets")


def selection(page: LoopPage) -> Section | None:
    """Return which units became targets, and why others did not."""
    display = page.display
    if display is None:
        return None
    task = {n: display[n] for n in mei.Targets.primary_key}
    rows = pd.DataFrame((mei.Targets.Unit & task).to_dicts(order_by="unit_index"))
    if rows.empty:
        return None
    scores = {}
    for kind, name in (("cnn", "ensemble_hash"), ("ln", "ln_ensemble_hash")):
        found = model.Evaluation.Unit & {"ensemble_hash": display[name]}
        scores[kind] = found.to_arrays("validation", order_by="unit_index").astype(float)
    rows = rows.assign(cnn_validation=scores["cnn"], ln_validation=scores["ln"])
    page.csv(rows, "selection")
    left = rows.reason[~rows.kept.astype(bool)]
    left = left.str.replace(r"better (unit|output) .*", "a better unit", regex=True)
    left = left.str.replace(r"^excluded by hand: .*", "excluded by hand", regex=True)
    figure = plotting.selection_figure(
        rows.cnn_validation, rows.ln_validation, rows.kept, left.value_counts().to_dict()
    )
    rule, params = mei.TargetRule.stored_method(task)
    settings = ", ".join(f"{name} {value}" for name, value in sorted(params.items()))
    chosen = rows[rows.kept.astype(bool)]
    remark = f"Rule {rule} ({settings}): {len(chosen)} of {len(rows)} units were chosen."
    held = chosen.oracle_held.astype(float)
    if held.notna().any():
        remark += (
            f" Their oracle is {chosen.oracle.astype(float).median():.3f} on the half of the "
            f"repeats that selection saw and {held.median():.3f} on the other half (medians)."
        )
    if chosen.expected.notna().any():
        was, will = (chosen[n].astype(float).mean() for n in ("measured", "expected"))
        remark += (
            f" Their validation correlation at mean behavior is {was:.3f}; {will:.3f} is expected "
            "without the luck of being chosen (means)."
        )
    caption = "Scores on validation images; test images took no part but for half of the repeats."
    picture = page.picture(figure, "selection", "Selection of target neurons", caption)
    return Section("Targets", [picture], _decided(page.scan, task), [remark])


def _decided(scan: dict[str, Any], task: dict[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    """Return the table of the decisions by hand that a selection followed; none without any."""
    sets = mei.DecisionSet.Member & (mei.TargetRule.Decided & {"target_hash": task["target_hash"]})
    rows = (mei.TargetDecision & sets).to_dicts(order_by="KEY")
    if not rows:
        return []
    several = max((imaging.ScanInfo & scan).to_arrays("n_fields"), default=1) > 1
    shown = [
        {
            "unit": unit_name(row["unit_id"], row["field"] if several else None),
            "decision": "included" if row["included"] else "excluded",
            "why": row["why"],
            "who": row["who"],
            "when": written(row["decided_at"]),
        }
        for row in rows
    ]
    return [("Decided by hand, before the rule", pd.DataFrame(shown))]


def models(page: LoopPage) -> Section | None:
    """Return how well the models predict test images, against what is reproducible (Figure 1)."""
    display = page.display
    if display is None:
        return None
    maker = {"ensemble_hash": display["ensemble_hash"]}
    ensembles = {"cnn": maker, "ln": {"ensemble_hash": display["ln_ensemble_hash"]}}
    remarks = []
    shares = (model.MemberShares.Member * model.ModelConfig.proj("model_kind") & maker).to_dicts()
    if shares:
        ensembles = {"combined": maker, **ensembles}
        ensembles["cnn"] = model.EnsembleSpec.of_kind(maker, "cnn")
        linear = [row["n_units"] for row in shares if row["model_kind"] == "ln"]
        every = max(row["n_units"] for row in shares)
        remarks.append(
            "MEIs are made from both kinds combined: the LN model takes part in the prediction of "
            f"{max(linear, default=0)} of {every} units, those whose validation images it "
            "predicts about as well."
        )
    units, scans = {}, []
    for kind, key in ensembles.items():
        if key is None or not model.Evaluation & key:
            continue
        rows = (model.Evaluation.Unit & key).to_dicts(order_by="unit_index")
        units[kind] = pd.DataFrame(rows).astype({"oracle": float, "single_trial_frozen": float})
        whole = (model.Evaluation & key).fetch1()
        scans.append({"model": SHORT.get(kind, kind), **{k: whole[k] for k in MEASURES}})
        page.summary[f"{kind}_fraction_oracle"] = whole["fraction_oracle_frozen"]
        page.csv(units[kind], f"evaluation_{kind}")
    if not units:
        return None
    first = next(iter(units.values()))
    figure = plotting.oracle_figure(
        first["oracle"].to_numpy(),
        {SHORT.get(kind, kind): f["single_trial_frozen"].to_numpy() for kind, f in units.items()},
    )
    caption = "Test images, single trials; behavior and gaze frozen at their means."
    pictures = [page.picture(figure, "oracle", "Figure 1: oracle against model", caption)]
    examples = _held_out(page, next(iter(ensembles.values())), first)
    if examples is not None:
        pictures.insert(0, examples)
    return Section("Models", pictures, [("Means over units", pd.DataFrame(scans))], remarks)


def _held_out(page: LoopPage, key: dict[str, Any], units: pd.DataFrame) -> Picture | None:
    """Draw measured and predicted responses of some targets to the images of the test tier."""
    targets = page.targets["unit_index"].to_numpy(int)
    spec = (model.EnsembleSpec & key).to_dicts()
    if not spec or not units["to_average"].notna().any():  # without test images there is none
        return None
    file = dataset.Dataset.fetch_file({"dataset_hash": spec[0]["dataset_hash"]})
    ensemble = model.load_ensemble(model.EnsembleSpec.fetch_weights(key))
    found = mean_responses(ensemble, dataset.load_dataset(file), targets)
    r = correlate(found.measured, found.predicted)
    known = np.argsort(-r)[: int(np.isfinite(r).sum())]  # NaN is last
    if not len(known):
        return None
    rank = np.linspace(0, len(known) - 1, min(EXAMPLES, len(known))).round().astype(int)
    chosen = known[rank]
    figure = plotting.held_out_responses_figure(
        found.measured[:, chosen],
        found.predicted[:, chosen],
        sem=found.sem[:, chosen],
        labels=page.targets["unit"].iloc[chosen].tolist(),
    )
    caption = (
        f"Images of the test tier, which no model was fitted to or chosen by; {len(chosen)} of "
        f"{len(known)} targets, evenly in rank from the best predicted to the worst. Black: mean "
        "over repeats, standard error shaded; red: the ensemble at mean behavior and gaze; r is "
        "over the images."
    )
    title = "Figure 1: predicted and measured responses to held-out images"
    return page.picture(figure, "held_out", title, caption)
