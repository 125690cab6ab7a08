"""`inception report`: figures, numbers and statistics of every loop as one HTML page."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from pipeline import plotting
from pipeline.errors import DataError
from workers.version import code_version

GALLERY_ROWS = 10
TRACE_UNITS = 6
TRACE_S = 120.0
KINDS = ("mei", "rf", "gabor", "mni", "fni")


@dataclass
class Picture:
    """A figure of the report."""

    title: str
    file: str  # name of the PNG beside index.html
    caption: str = ""


@dataclass
class Section:
    """A chapter: pictures, tables of numbers, remarks."""

    title: str
    pictures: list[Picture] = field(default_factory=list)
    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def write_report(
    out: str | Path,
    *,
    extra: Sequence[Section] = (),
    headline: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `index.html`, PNG figures and CSV tables for all loops of the active database.

    Parameters
    ----------
    out : path
        Folder; files in it are replaced.
    extra : sequence of Section
        Further chapters (their pictures lie in `out` already).
    headline : dict, optional
        Figures shown at the top.

    Returns
    -------
    dict
        `folder`, `loops`, `figures` and, per loop, what was found.

    Raises
    ------
    DataError
        If there is no loop to report.
    """
    from schemas import closed_loop

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    loops = closed_loop.Loop.to_dicts(order_by=["registered", "recipe_hash"])
    if not loops:
        raise DataError("no loop is registered", remedy="run `inception loop SCAN` first")
    sections, found = [], []
    for number, loop in enumerate(loops, start=1):
        stem = f"loop{number}" if len(loops) > 1 else "loop"
        page = _Loop(loop, out, stem)
        sections += page.sections()
        found.append(page.summary)
    sections += [*extra, _timing(out)]
    environment = Environment(
        loader=PackageLoader("workers"), autoescape=select_autoescape(["html", "j2"])
    )
    html = environment.get_template("report.html.j2").render(
        sections=[_Rendered(section) for section in sections],
        headline={name: text_of(value) for name, value in (headline or {}).items()},
        version=code_version(),
        written=datetime.datetime.now().isoformat(" ", "seconds"),
    )
    (out / "index.html").write_text(html, encoding="utf-8")
    figures = [picture.file for section in sections for picture in section.pictures]
    return {"folder": str(out), "loops": found, "figures": figures}


class _Rendered:
    """A section with its tables as HTML."""

    def __init__(self, section: Section) -> None:
        self.title, self.pictures, self.remarks = section.title, section.pictures, section.remarks
        self.tables = [
            (title, frame.to_html(index=False, float_format=lambda v: f"{v:.4g}", border=0))
            for title, frame in section.tables
        ]


def text_of(value: Any) -> str:
    """Return a figure as people read it: three decimals, small ones as powers of ten."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
    return str(value)


class _Loop:
    """All that the tables say about one loop."""

    def __init__(self, loop: dict[str, Any], out: Path, stem: str) -> None:
        from schemas import closed_loop, imaging

        self.loop, self.out, self.stem = loop, out, stem
        self.scan = {name: loop[name] for name in ("animal_id", "session", "scan_idx")}
        self.name = "/".join(str(value) for value in self.scan.values())
        self.recipe = (closed_loop.Recipe & loop).fetch1("recipe")
        self.plans = (closed_loop.PlanTask & loop).to_dicts(order_by="plan_id")
        self.summary: dict[str, Any] = {"scan": self.name, "recipe": loop["recipe_hash"]}
        tasks = (imaging.ImagingTask & self.scan).keys(order_by="imaging_hash")
        self.imaging = tasks[0] if tasks else None
        self.targets = self._targets()

    def sections(self) -> list[Section]:
        """Return the chapters for which there are results."""
        chapters = [self._overview(), self._field(), self._model(), self._stimuli()]
        chapters += [self._day2(presentation) for presentation in self._presentations()]
        return [chapter for chapter in chapters if chapter is not None]

    def _picture(self, figure: Any, name: str, title: str, caption: str = "") -> Picture:
        file = f"{self.stem}_{name}.png"
        plotting.save(figure, self.out / file)
        return Picture(title, file, caption)

    def _csv(self, frame: pd.DataFrame, name: str) -> None:
        frame.to_csv(self.out / f"{self.stem}_{name}.csv", index=False)

    # ---- what was decided

    def _overview(self) -> Section:
        from schemas import experiment

        scan = (experiment.Scan & self.scan).fetch1()
        rows = {
            "scan": self.name,
            "recorded": scan["scan_ts"],
            "area, depth": f"{scan['brain_area']}, {scan['depth_um']} µm",
            "indicator": scan["indicator"],
            "recipe": self.loop["recipe_hash"],
            "targets asked for": self.loop["targets"],
            "minutes of day 2": self.loop["minutes"],
            "plan": ", ".join(plan["plan_id"] for plan in self.plans),
        }
        frame = pd.DataFrame({"": list(rows), "value": [str(value) for value in rows.values()]})
        (self.out / f"{self.stem}_recipe.json").write_text(
            json.dumps(self.recipe, indent=2) + "\n", encoding="utf-8"
        )
        remark = f"Every method and parameter: {self.stem}_recipe.json."
        return Section(f"Loop on {self.name}", tables=[("", frame)], remarks=[remark])

    # ---- the field

    def _targets(self) -> pd.DataFrame:
        """Return the planned targets: unit_index, target_rank, unit_id (NaN if prepared)."""
        from schemas import closed_loop, dataset

        if not self.plans:
            return pd.DataFrame(columns=["unit_index", "target_rank", "unit_id"])
        planned = closed_loop.Plan.Target & {"plan_id": self.plans[-1]["plan_id"]} & {"kind": "mei"}
        joined = planned.proj("target_rank") * dataset.Dataset.Unit
        rows = joined.to_dicts(order_by="target_rank")
        names = ["unit_index", "target_rank", "unit_id"]
        return pd.DataFrame([{name: row[name] for name in names} for row in rows], columns=names)

    def _field(self) -> Section | None:
        from schemas import imaging

        if self.imaging is None:
            return None
        section = Section("Cells")
        recipe = imaging.ImagingRecipe & self.imaging
        found = imaging.Segmentation & self.scan & recipe
        for key in found.keys(order_by="field"):
            images = (imaging.SummaryImages & key).to_dicts()
            if not images:
                continue
            masks, _ = imaging.load_masks(imaging.Segmentation.fetch_masks(key))
            units = (imaging.Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id")
            size = (imaging.ScanInfo.Field & key).fetch1("um_per_px_x")
            figure = plotting.field_figure(
                images[0]["mean_image"].load(),
                masks,
                correlation_image=images[0]["correlation_image"].load(),
                highlighted=np.isin(units, self.targets["unit_id"].to_numpy()),
                um_per_px=size,
            )
            name = f"field{key['field']}"
            section.pictures.append(
                self._picture(figure, name, f"Field {key['field']} with masks",
                              "Motion-corrected; targets in red.")
            )  # fmt: skip
            motion = (imaging.Motion & key).fetch1()
            section.remarks.append(
                f"Field {key['field']}: {len(units)} units; "
                f"moved {motion['motion_rms_px']:.2f} px rms; correlation with the template "
                f"{motion['correlation_before']:.3f} before correction, "
                f"{motion['correlation_after']:.3f} after."
            )
        traces = self._traces()
        if traces is not None:
            section.pictures.append(traces)
        return section if section.pictures else None

    def _traces(self) -> Picture | None:
        from schemas import behavior, imaging

        recipe = imaging.ImagingRecipe & self.imaging
        keys = (imaging.Activity & self.scan & recipe).keys(order_by="field")
        times = (behavior.Sync & self.scan).to_dicts()
        wanted = [int(u) for u in self.targets["unit_id"].dropna()][:TRACE_UNITS]
        if not keys or not times or not wanted:
            return None
        time_s = times[0]["frame_times"].load()
        fluorescence, activity = [], []
        for key in keys:
            units = (imaging.Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id")
            rows = [int(np.flatnonzero(units == u)[0]) for u in wanted if u in units]
            fluorescence.append((imaging.Fluorescence & key).fetch1("corrected").load()[rows])
            activity.append((imaging.Activity & key).fetch1("activity").load()[rows])
        traces = {
            "fluorescence": np.concatenate(fluorescence),
            "activity": np.concatenate(activity),
        }
        count = min(len(time_s), traces["activity"].shape[1])
        start = count // 3
        stop = min(count, start + int(TRACE_S / np.median(np.diff(time_s))))
        traces = {name: rows[:, start:stop] for name, rows in traces.items()}
        figure = plotting.traces_figure(
            time_s[start:stop], traces, labels=[f"unit {u}" for u in wanted]
        )
        return self._picture(figure, "traces", "Traces of the best targets")

    # ---- models

    def _ensembles(self) -> dict[str, str]:
        """Return the ensembles that the targets were chosen with: kind -> ensemble_hash."""
        from schemas import closed_loop

        if not self.plans:
            return {}
        display = closed_loop.PlanTask.Display & {"plan_id": self.plans[-1]["plan_id"]}
        rows = display.to_dicts(limit=1)
        if not rows:
            return {}
        return {"cnn": rows[0]["ensemble_hash"], "ln": rows[0]["ln_ensemble_hash"]}

    def _model(self) -> Section | None:
        from schemas import model

        ensembles = self._ensembles()
        units, scans = {}, []
        for kind, ensemble in ensembles.items():
            key = {"ensemble_hash": ensemble}
            if not model.Evaluation & key:
                continue
            rows = (model.Evaluation.Unit & key).to_dicts(order_by="unit_index")
            units[kind] = pd.DataFrame(rows).astype({"oracle": float, "single_trial_frozen": float})
            whole = (model.Evaluation & key).fetch1()
            scans.append({"model": kind.upper(), **{k: whole[k] for k in _MEASURES}})
            self.summary[f"{kind}_fraction_oracle"] = whole["fraction_oracle_frozen"]
            self._csv(units[kind], f"evaluation_{kind}")
        if not units:
            return None
        first = next(iter(units.values()))
        figure = plotting.oracle_figure(
            first["oracle"].to_numpy(),
            {kind.upper(): f["single_trial_frozen"].to_numpy() for kind, f in units.items()},
        )
        caption = "Test images, single trials; behaviour and gaze frozen at their means."
        picture = self._picture(figure, "oracle", "Oracle against model", caption)
        return Section("Models", [picture], [("Means over units", pd.DataFrame(scans))])

    # ---- stimuli

    def _stimuli(self) -> Section | None:
        from schemas import closed_loop, mei

        if not self.plans:
            return None
        plan = {"plan_id": self.plans[-1]["plan_id"]}
        if not closed_loop.Plan & plan:
            return None
        rows = pd.DataFrame((closed_loop.Plan.Target & plan).to_dicts())
        self._csv(rows, "stimuli")
        displays = mei.Display & (closed_loop.PlanTask.Display & plan)
        arrays, where = {}, {}
        for display in displays.to_dicts(order_by=mei.Display.primary_key):
            key = {name: display[name] for name in mei.Display.primary_key}
            for image in (mei.Display.Image & key).to_dicts():
                where[image["image_hash"]] = (len(arrays), image["image_row"])
            arrays[len(arrays)] = display["images"]
        kinds = [kind for kind in KINDS if (rows["kind"] == kind).any()]
        table = rows.pivot(index="target_rank", columns="kind", values="image_hash")
        predicted = rows.pivot(index="target_rank", columns="kind", values="predicted")
        shown = table.dropna(subset=kinds).index[:GALLERY_ROWS]
        if not len(shown):
            return None
        images = {
            kind: np.stack(
                [
                    arrays[a].load(mmap_mode="r")[r]
                    for a, r in map(where.get, table.loc[shown, kind])
                ]
            )
            for kind in kinds
        }
        ids = self.targets.set_index("target_rank")["unit_id"]
        figure = plotting.gallery_figure(
            images,
            labels=[f"unit {ids.get(rank)}" for rank in shown],
            predicted={kind: predicted.loc[shown, kind].to_numpy() for kind in kinds},
        )
        caption = (
            "8-bit images exactly as shown, matched in mean luminance and contrast; below each the "
            "response that the ensemble predicts to it."
        )
        pictures = [self._picture(figure, "gallery", "Stimuli of the best targets", caption)]
        planned = (closed_loop.Plan & plan).fetch1()
        self.summary["n_targets"] = planned["n_targets"]
        remark = (
            f"The plan shows {planned['n_images']} images for {planned['n_targets']} neurons, "
            f"{planned['n_repeats']} times each, in {planned['total_s'] / 60:.1f} minutes."
        )
        median = pd.DataFrame(
            {"kind": kinds, "median predicted response": [predicted[k].median() for k in kinds]}
        )
        return Section("Stimuli", pictures, [("", median)], [remark])

    # ---- day 2

    def _presentations(self) -> list[dict[str, Any]]:
        from schemas import closed_loop

        plans = [{"plan_id": plan["plan_id"]} for plan in self.plans]
        shown = closed_loop.Presentation & plans
        return (closed_loop.UnitMatch * shown.proj()).keys() if plans else []

    def _day2(self, match: dict[str, Any]) -> Section | None:
        from schemas import closed_loop

        day = f"{match['animal_id']}/{match['session']}/{match['scan_idx']}"
        tag = f"day{match['session']}_{match['scan_idx']}"
        section = Section(f"Presentation {day}", [self._match_picture(match, tag)])
        audit = (closed_loop.Audit & match).to_dicts()
        if audit:
            row = audit[0]
            section.remarks.append(
                "{n_planned} trials planned, {n_shown} shown, {n_usable} scored.".format(**row)
            )
        for outcome in (closed_loop.Outcome & match).keys(order_by="outcome_hash"):
            self._verdict(outcome, tag, section)
        return section

    def _match_picture(self, match: dict[str, Any], tag: str) -> Picture:
        from schemas import closed_loop, imaging

        task = (closed_loop.MatchTask & match).fetch1()
        field = (closed_loop.UnitMatch.Field & match).to_dicts(order_by="field")[0]
        source = {
            "animal_id": match["animal_id"],
            "session": task["source_session"],
            "scan_idx": task["source_scan_idx"],
            "imaging_hash": task["source_imaging_hash"],
            "field": field["source_field"],
        }
        target = {**match, "field": field["field"]}
        views, units = [], []
        for key in (source, target):
            recipe = imaging.ImagingRecipe & {"imaging_hash": key["imaging_hash"]}
            place = {n: key[n] for n in ("animal_id", "session", "scan_idx", "field")}
            full = (imaging.Segmentation & place & recipe).fetch1("KEY")
            masks, _ = imaging.load_masks(imaging.Segmentation.fetch_masks(full))
            views.append(((imaging.SummaryImages & full).fetch1("mean_image").load(), masks))
            ids = (imaging.Segmentation.Unit & full).to_arrays("unit_id", order_by="unit_id")
            units.append({int(u): row for row, u in enumerate(ids)})
        pairs = (closed_loop.UnitMatch.Pair & match).to_dicts(order_by="unit_id")
        rows = [
            (units[0][p["source_unit_id"]], units[1][p["unit_id"]])
            for p in pairs
            if p["source_unit_id"] in units[0] and p["unit_id"] in units[1]
        ]
        figure = plotting.matches_figure(views[0], views[1], np.array(rows, int).reshape(-1, 2))
        self.summary["n_pairs"] = len(pairs)
        return self._picture(figure, f"{tag}_matches", "The same cells on both days")

    def _verdict(self, outcome: dict[str, Any], tag: str, section: Section) -> None:
        from schemas import closed_loop

        rows = pd.DataFrame((closed_loop.Outcome.Unit & outcome).to_dicts())
        tests = pd.DataFrame((closed_loop.Comparison.Unit & outcome).to_dicts())
        population = pd.DataFrame((closed_loop.Population.Kind & outcome).to_dicts())
        if rows.empty or tests.empty:
            return
        for frame, name in ((rows, "responses"), (tests, "tests"), (population, "population")):
            self._csv(frame, f"{tag}_{name}")
        mean = rows.pivot(index="unit_index", columns="kind", values="mean_response").astype(float)
        sem = rows.pivot(index="unit_index", columns="kind", values="sem_response").astype(float)
        kinds = [kind for kind in KINDS[1:] if kind in mean]
        significant = tests.pivot(index="unit_index", columns="kind", values="significant")
        significant = significant.reindex(index=mean.index)
        notes = {}
        if not population.empty:
            by_kind = population.set_index("kind")
            notes = {
                kind: f"Wilcoxon p = {by_kind.loc[kind, 'wilcoxon_p']:.1e}"
                for kind in kinds
                if kind in by_kind.index and by_kind.loc[kind, "wilcoxon_p"] is not None
            }
            self.summary["mei_wins"] = {
                kind: float(by_kind.loc[kind, "fraction"])
                for kind in kinds
                if kind in by_kind.index
            }
        figure = plotting.comparison_figure(
            mean["mei"].to_numpy(),
            {kind: mean[kind].to_numpy() for kind in kinds},
            mei_sem=sem["mei"].to_numpy(),
            control_sem={kind: sem[kind].to_numpy() for kind in kinds},
            significant={kind: significant[kind].fillna(False).to_numpy(bool) for kind in kinds},
            notes=notes,
        )
        caption = (
            "Mean response over repeats, in units of the neuron's sd over the scan; bars: standard "
            "error; filled: two-sided Welch test, Benjamini-Hochberg over neurons."
        )
        section.pictures.append(
            self._picture(figure, f"{tag}_comparison", "MEIs against their controls", caption)
        )
        confusion = (closed_loop.Confusion.Kind & outcome & {"kind": "mei"}).to_dicts()
        if confusion:
            figure = plotting.confusion_figure(confusion[0]["matrix"].load())
            section.pictures.append(
                self._picture(figure, f"{tag}_confusion", "Every neuron's response to every MEI")
            )
        if not population.empty:
            section.tables.append(("MEI above its control", population[_VERDICT]))
        section.remarks.append(
            f"{rows['unit_index'].nunique()} targets were found again and scored."
        )
        self.summary["n_scored"] = int(rows["unit_index"].nunique())


_MEASURES = (
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
_VERDICT = [
    "kind",
    "n_neurons",
    "fraction",
    "fraction_low",
    "fraction_high",
    "fraction_significant",
    "median_ratio",
    "wilcoxon_p",
    "bootstrap_p",
]


def _timing(out: Path) -> Section:
    """Draw how long every table took, from the workers' log of attempts."""
    from schemas import MODULES
    from workers import health

    done, _, _ = health.tally()
    order = {name: rank for rank, name in enumerate(MODULES)}
    stages = sorted(
        ((name, count, seconds) for name, (count, seconds) in done.items()),
        key=lambda row: (order.get(row[0].split(".")[0], len(order)), row[0]),
    )
    plotting.save(plotting.timing_figure(stages), out / "timing.png")
    frame = pd.DataFrame(stages, columns=["table", "jobs", "seconds"])
    frame.to_csv(out / "timing.csv", index=False)
    return Section("Time", [Picture("Work per table", "timing.png")])
