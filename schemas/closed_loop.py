"""Back to the same cells: recipe, loop, plan, presentation, matching, audit and verdict."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np
import pandas as pd

from pipeline.closed_loop.audit import audit_presentation
from pipeline.closed_loop.matching import FieldView, match_methods
from pipeline.closed_loop.outcome import outcome_methods
from pipeline.closed_loop.plan import plan_methods
from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import behavior, dataset, experiment, imaging, mei, stimulus
from schemas.method import MethodTable
from schemas.recipe import RECIPES, complete_recipe, default_recipe
from schemas.store import number

__all__ = ["RECIPES", "default_recipe", "register_loop"]

schema = dj.Schema()

SOURCE = ", ".join(f"source_{name}='{name}'" for name in ("session", "scan_idx", "imaging_hash"))


@schema
class Recipe(dj.Lookup):
    definition = """
    # Every method and parameter of a loop
    recipe_hash     : char(16)       # hash of the complete recipe
    ---
    recipe_name=''  : varchar(64)    # short name
    recipe          : json           # see schemas.recipe
    """

    @classmethod
    def add(cls, recipe: str | Mapping[str, Any] | None = None, name: str = "") -> dict:
        """Insert a recipe unless it is there, and return its key.

        Parameters
        ----------
        recipe : str or mapping, optional
            Name in `RECIPES`, hash of a recipe in the table, or what differs from the default.
        name : str
            Short name of a new one.
        """
        if isinstance(recipe, str) and recipe not in RECIPES:
            known = (cls & {"recipe_hash": recipe}) or (cls & {"recipe_name": recipe})
            if len(known) != 1:
                names = sorted({*RECIPES, *cls.to_arrays("recipe_name")} - {""})
                raise ValueError(f"no recipe {recipe!r}; there are {names}, or give its hash")
            return known.fetch1("KEY")
        if recipe is None or isinstance(recipe, str):
            name = recipe or "default"
            recipe = RECIPES[name]()
        full = complete_recipe(recipe)
        key = {"recipe_hash": config_hash(full)}
        if not cls & key:
            cls.insert1({**key, "recipe_name": name, "recipe": full}, skip_duplicates=True)
        return key


@schema
class Loop(dj.Manual):
    definition = """
    # Decision to close the loop on the cells of a scan; all tasks follow from it
    -> experiment.Scan
    -> Recipe
    ---
    targets         : int32          # most neurons to make stimuli for
    minutes         : float64        # time for the presentation on day 2 (min)
    deadline=null   : datetime       # when the package is needed (local time)
    registered      : datetime       # when this was decided (UTC)
    """


@schema
class PlanMethod(MethodTable, dj.Lookup):
    definition = """
    # Order of presentation with its complete parameters
    plan_hash       : char(16)       # hash of method and parameters
    ---
    plan_method     : varchar(64)    # name in pipeline.closed_loop.plan
    plan_params     : json           # every keyword parameter, defaults filled in
    """
    registry = plan_methods


@schema
class PlanTask(dj.Manual):
    definition = """
    # Decision which displayed stimuli to plan
    plan_id         : char(16)       # hash of everything decided here
    ---
    -> Loop
    -> PlanMethod
    n_natural       : int32          # most natural images of the source scan to show again
    """

    class Display(dj.Part):
        definition = """
        # Stimuli to plan
        -> master
        -> mei.DisplayTask
        """


@schema
class Plan(dj.Computed):
    definition = """
    # Which image comes when on day 2
    -> PlanTask
    ---
    n_trials        : int32          # presentations
    n_images        : int32          # different images
    n_targets       : int32          # units whose images are shown
    n_repeats       : int32          # presentations of every image
    total_s         : float64        # length of the presentation (s)
    dropped         : json           # what is left out, and why
    """

    class Source(dj.Part):
        definition = """
        # Displayed stimuli that the plan was made from
        -> master
        -> mei.Display
        """

    class Image(dj.Part):
        definition = """
        # Image of the plan
        -> master
        -> stimulus.Image
        ---
        kind        : varchar(16)    # first kind that asked for it: mei rf gabor mni fni natural
        mean_cd_m2=null : float64    # mean luminance (cd/m2)
        sd_cd_m2=null : float64      # standard deviation of the luminance (cd/m2)
        clipped_fraction=null : float64  # (1) share of pixels that wanted to leave the range
        """

    class Target(dj.Part):
        definition = """
        # Image of one kind for one unit
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(16)    # mei rf gabor mni fni ...
        ---
        -> stimulus.Image
        target_rank : int32          # 0 is the best target
        predicted   : float64        # predicted response to exactly this image (a.u.)
        """

    class Trial(dj.Part):
        definition = """
        # One presentation
        -> master
        trial_idx   : int32          # in order of presentation, from 0
        ---
        -> stimulus.Image
        duration_s  : float64        # image on (s)
        blank_before_s : float64     # grey screen before it (s)
        """

    @property
    def key_source(self):
        """Plans all of whose stimuli are displayed."""
        return PlanTask - (PlanTask.Display - mei.Display.proj())

    def make_fetch(self, key):
        task = (PlanTask & key).fetch1()
        displays = mei.Display & (PlanTask.Display & key)
        rows, arrays, sources = [], [], []
        for index, display in enumerate(displays.to_dicts(order_by=mei.Display.primary_key)):
            sources.append({name: display[name] for name in mei.Display.primary_key})
            shown = mei.Display.Image * mei.Targets.Unit.proj("target_rank") & sources[-1]
            found = shown.to_dicts(order_by="image_row")
            rows += [{**row, "array": index} for row in found]
            arrays.append(display["images"])
        scan = {name: task[name] for name in experiment.Scan.primary_key}
        natural = self._natural(scan, task["n_natural"])
        minutes = (Loop & task).fetch1("minutes")
        wanted = ("dataset_hash", "unit_index", "target_rank", "kind", "image_hash", "image_row",
                  "array", "mean_cd_m2", "sd_cd_m2", "clipped_fraction", "ok",
                  "predicted")  # fmt: skip
        rows = [{name: row[name] for name in wanted} for row in rows]
        return rows, arrays, sources, natural, minutes, *PlanMethod.fetch_method(task)

    @staticmethod
    def _natural(scan: Mapping[str, Any], most: int) -> dict[str, Any]:
        """Return images that the scan repeated, most often shown first: they tell cells apart."""
        shown = dj.U("image_hash").aggr(stimulus.Trial & scan, n_shown="count(*)")
        rows = sorted(
            (shown & "n_shown > 1").to_dicts(), key=lambda row: (-row["n_shown"], row["image_hash"])
        )
        hashes = [row["image_hash"] for row in rows[:most]]
        curve = (experiment.MonitorCalibration & scan).fetch1("pixel_value", "luminance_cd_m2")
        return {"hashes": hashes, "images": stimulus.ImageSet.locate(hashes), "curve": curve}

    def make_compute(self, key, rows, arrays, sources, natural, minutes, method, params):
        good = [row for row in rows if row["ok"]]
        ranks = sorted({row["target_rank"] for row in good if row["kind"] == "mei"})
        if not ranks:
            raise DataError("no MEI can be shown", field="DisplayMethod",
                            found=f"{len(rows)} images, none within tolerance",
                            remedy="choose a lower contrast or another luminance")  # fmt: skip
        by_kind = {kind: [None] * len(ranks) for kind in _kinds(good)}
        for row in good:
            if row["target_rank"] in ranks:
                by_kind[row["kind"]][ranks.index(row["target_rank"])] = row["image_hash"]
        lists = {**by_kind, "natural": natural["hashes"]}
        result = plan_methods[method](lists, **{**params, "minutes": minutes})
        used = dict(zip(result.trials["image"], result.trials["kind"], strict=True))
        out = {entry["target"] for entry in result.dropped}  # an image of theirs may stay: shared
        shown = {rank for row, rank in enumerate(ranks) if row not in out}
        targets = [
            {name: row[name] for name in ("dataset_hash", "unit_index", "kind", "image_hash",
                                          "target_rank", "predicted")}
            for row in good
            if row["image_hash"] in used and row["target_rank"] in shown
        ]  # fmt: skip
        pixels = {row["image_hash"]: arrays[row["array"]].load(mmap_mode="r")[row["image_row"]]
                  for row in good if row["image_hash"] in used}  # fmt: skip
        statistics = {row["image_hash"]: row for row in good}
        shown_again = stimulus.load_images(natural["images"])
        luminance = _luminance(shown_again, natural["curve"])
        images = [
            {
                "image_hash": image,
                "kind": kind,
                **{
                    name: number(statistics.get(image, luminance.get(image, {})).get(name))
                    for name in ("mean_cd_m2", "sd_cd_m2", "clipped_fraction")
                },
            }
            for image, kind in sorted(used.items())
        ]
        trials = [
            {
                "trial_idx": int(trial.trial_idx),
                "image_hash": trial.image,
                "duration_s": float(trial.duration_s),
                "blank_before_s": float(trial.blank_before_s),
            }
            for trial in result.trials.itertuples()
        ]
        row = {
            "n_trials": len(trials),
            "n_images": len(images),
            "n_targets": len({target["unit_index"] for target in targets}),
            "n_repeats": int(result.repeats),
            "total_s": float(result.total_s),
            "dropped": [
                *mei.as_json(result.dropped),
                *(
                    {"unit_index": r["unit_index"], "kind": r["kind"], "reason": "not displayable"}
                    for r in rows
                    if not r["ok"]
                ),
            ],
        }
        return row, sources, images, targets, trials, pixels

    def make_insert(self, key, row, sources, images, targets, trials, pixels):
        hashes = sorted(pixels)  # the back edge: a planned image becomes an image like any other
        stacked = np.stack([np.asarray(pixels[name]) for name in hashes])
        stimulus.ImageSet.add(hashes, stacked, name=f"plan {key['plan_id']}")
        self.insert1({**key, **row})
        self.Source.insert({**key, **source} for source in sources)
        self.Image.insert({**key, **image} for image in images)
        self.Target.insert({**key, **target} for target in targets)
        self.Trial.insert({**key, **trial} for trial in trials)


def _kinds(rows: list[dict[str, Any]]) -> list[str]:
    """Return the kinds, the MEI first: an image that two kinds share is named by the first."""
    return sorted({row["kind"] for row in rows}, key=lambda kind: (kind != "mei", kind))


def _luminance(images: Mapping[str, np.ndarray], curve: tuple) -> dict[str, dict[str, float]]:
    table = experiment.monitor_curve(*curve).table
    return {
        name: {
            "mean_cd_m2": float(table[image].mean()),
            "sd_cd_m2": float(table[image].std()),
            "clipped_fraction": 0.0,
        }
        for name, image in images.items()
    }


@schema
class Presentation(dj.Manual):
    definition = """
    # Recording in which a plan was shown
    -> experiment.Scan
    ---
    -> Plan
    """


@schema
class MatchMethod(MethodTable, dj.Lookup):
    definition = """
    # Matching of cells across days with its complete parameters
    match_hash      : char(16)       # hash of method and parameters
    ---
    match_method    : varchar(64)    # name in pipeline.closed_loop.matching
    match_params    : json           # every keyword parameter, defaults filled in
    """
    registry = match_methods


@schema
class MatchTask(dj.Manual):
    definition = f"""
    # Decision to find the cells of the source scan in a presentation
    -> Presentation
    -> imaging.ImagingTask
    -> MatchMethod
    ---
    -> imaging.ImagingTask.proj({SOURCE})
    min_match_probability=0.5 : float64  # (1) less likely pairs are not scored
    """


@schema
class UnitMatch(dj.Computed):
    definition = """
    # Cells of the source scan found again
    -> MatchTask
    ---
    n_pairs         : int32          # pairs found
    n_source        : int32          # units of the source scan
    n_target        : int32          # units of the presentation
    """

    class Field(dj.Part):
        definition = """
        # Registration of one field of the presentation
        -> master
        -> imaging.Segmentation
        -> imaging.SummaryImages
        ---
        source_field : int16         # field of the source scan that is the same place
        registration_score=null : float64  # (1) correlation of both days' images after registration
        same_field=null : float64    # (1) probability that both show one place
        transform   : json           # 2 x 3: (y, x, 1) of the source to (y, x) of this field (px)
        """

    class Pair(dj.Part):
        definition = """
        # One cell in both scans
        -> master
        unit_id     : int32          # unit of the presentation
        ---
        -> imaging.Segmentation.Unit
        source_unit_id : int32       # unit of the source scan
        probability : float64        # (1) that they are one cell
        distance_um=null : float64   # between the centres after registration (um)
        ambiguity=null : float64     # (1) best rival's probability over this one's
        """

    @property
    def key_source(self):
        """Presentations with units and images in every field."""
        fields = MatchTask.proj() * imaging.ImagingRecipe * imaging.ScanInfo.Field.proj()
        segmented, imaged = imaging.Segmentation.proj(), imaging.SummaryImages.proj()
        waiting = [fields - segmented, fields - imaged]
        return (MatchTask & imaging.ScanInfo.proj()) - waiting

    def make_fetch(self, key):
        task = (MatchTask & key).fetch1()
        source = {
            "animal_id": task["animal_id"],
            "session": task["source_session"],
            "scan_idx": task["source_scan_idx"],
            "imaging_hash": task["source_imaging_hash"],
        }
        return _views(source), _views(key), *MatchMethod.fetch_method(key)

    def make_compute(self, key, sources, targets, method, params):
        match = match_methods[method]
        found = {}
        same_count = len(sources) == len(targets)
        for target in targets:
            for source in sources:
                if same_count and source["key"]["field"] != target["key"]["field"]:
                    continue  # the same protocol on both days: fields correspond by number
                result = match(_field_view(source), _field_view(target), **params)
                old = found.get(target["key"]["field"])
                if old is None or result.registration_score > old[0].registration_score:
                    found[target["key"]["field"]] = (result, source, target)
        fields, pairs = [], {}
        for result, source, target in found.values():
            fields.append(
                {
                    **target["key"],
                    "source_field": source["key"]["field"],
                    "registration_score": number(result.registration_score),
                    "same_field": number(result.same_field),
                    "transform": np.asarray(result.transform, float).tolist(),
                }
            )
            for row, (a, b) in enumerate(result.pairs):
                pair = {
                    **target["key"],
                    "unit_id": target["units"][b],
                    "source_unit_id": source["units"][a],
                    "probability": float(result.probability[row]),
                    "distance_um": number(result.distance_um[row]),
                    "ambiguity": number(result.ambiguity[row]),
                }
                best = pairs.get(pair["source_unit_id"])  # two fields may show one place
                if best is None or pair["probability"] > best["probability"]:
                    pairs[pair["source_unit_id"]] = pair
        counts = [sum(len(view["units"]) for view in views) for views in (sources, targets)]
        return fields, list(pairs.values()), *counts

    def make_insert(self, key, fields, pairs, n_source, n_target):
        row = {"n_pairs": len(pairs), "n_source": n_source, "n_target": n_target}
        self.insert1({**key, **row})
        self.Field.insert({**key, **field} for field in fields)
        self.Pair.insert({**key, **pair} for pair in pairs)


def _views(key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return references to the images and masks of every field of a scan and recipe."""
    recipe = imaging.ImagingRecipe & key
    views = []
    for segmentation in (imaging.Segmentation & key & recipe).keys(order_by="field"):
        mean, correlation = (imaging.SummaryImages & segmentation).fetch1(
            "mean_image", "correlation_image"
        )
        size = (imaging.ScanInfo.Field & segmentation).fetch1("um_per_px_y", "um_per_px_x")
        units = (imaging.Segmentation.Unit & segmentation).to_arrays("unit_id", order_by="unit_id")
        views.append(
            {
                "key": segmentation,
                "mean": mean,
                "correlation": correlation,
                "masks": imaging.Segmentation.fetch_masks(segmentation),
                "um_per_px": (1.0, 1.0) if None in size else size,
                "units": units.tolist(),
            }
        )
    if not views:
        raise DataError("scan has no segmented field", field="MatchTask",
                        remedy="register the scan's ImagingTask")  # fmt: skip
    return views


def _field_view(view: Mapping[str, Any]) -> FieldView:
    return FieldView(
        mean_image=view["mean"].load(),
        correlation_image=view["correlation"].load(),
        masks=imaging.load_masks(view["masks"])[0],
        um_per_px=tuple(view["um_per_px"]),
    )


@schema
class Audit(dj.Computed):
    definition = """
    # What was really on the monitor, against the plan
    -> Presentation
    -> behavior.Sync
    ---
    n_planned       : int32          # trials of the plan
    n_shown         : int32          # trials of the recording
    n_usable        : int32          # trials that are scored
    audit_summary   : json           # counts of every status, delays
    """

    class Trial(dj.Part):
        definition = """
        # One planned trial, or one presentation that nobody planned
        -> master
        audit_idx   : int32          # row of the comparison, from 0
        ---
        planned_idx=null : int32     # trial of the plan; null if it was not planned
        -> [nullable] stimulus.Trial
        status      : varchar(16)    # ok dropped late short long repeated wrong extra
        usable      : bool           # it is scored
        lateness_s=null : float64    # blank beyond the planned one and the scan's median (s)
        excess_s=null : float64      # time on beyond the planned (s)
        """

    def make_fetch(self, key):
        plan = (Presentation & key).fetch1("plan_id")
        planned = (Plan.Trial & {"plan_id": plan}).to_dicts(order_by="trial_idx")
        shown = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
        names = ("trial_idx", "image_hash", "duration_s", "blank_before_s")
        columns = {name: [row[name] for row in planned] for name in names}
        log = {name: [row[name] for row in shown] for name in ("trial_idx", "image_hash")}
        return columns, log, (behavior.Sync & key).fetch1("trial_times")

    def make_compute(self, key, columns, log, times):
        times = times.load()
        order = np.argsort(times[:, 0], kind="stable")  # by time, whatever the rig's numbering
        shown = pd.DataFrame({**log, "onset_s": times[:, 0], "offset_s": times[:, 1]})
        shown = shown.iloc[order].reset_index(drop=True)
        planned, shown = (
            frame.rename(columns={"image_hash": "image"})
            for frame in (pd.DataFrame(columns), shown)
        )
        result = audit_presentation(planned, shown)
        rows = []
        for index, row in enumerate(result.per_trial.to_dict("records")):
            seen = int(row["shown_row"])
            rows.append(
                {
                    "audit_idx": index,
                    "planned_idx": None if row["trial_idx"] < 0 else int(row["trial_idx"]),
                    "trial_idx": None if seen < 0 else int(shown["trial_idx"][seen]),
                    "status": row["status"],
                    "usable": bool(row["usable"]),
                    "lateness_s": number(row["lateness_s"]),
                    "excess_s": number(row["excess_s"]),
                }
            )
        return rows, mei.as_json(result.summary)

    def make_insert(self, key, rows, summary):
        counts = {name: int(summary[name]) for name in ("n_planned", "n_shown", "n_usable")}
        self.insert1({**key, **counts, "audit_summary": summary})
        self.Trial.insert({**key, **row} for row in rows)


@schema
class OutcomeMethod(MethodTable, dj.Lookup):
    definition = """
    # Scoring of a presentation with its complete parameters
    outcome_hash    : char(16)       # hash of method and parameters
    ---
    outcome_method  : varchar(64)    # name in pipeline.closed_loop.outcome
    outcome_params  : json           # every keyword parameter, defaults filled in
    """
    registry = outcome_methods


def fetch_scored(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a presentation is scored from: matched targets, usable trials, references."""
    plan = (Presentation & key).fetch1("plan_id")
    targets = (Plan.Target & {"plan_id": plan}).to_dicts(order_by=["target_rank", "kind"])
    least = (MatchTask & key).fetch1("min_match_probability")
    pairs = (UnitMatch.Pair & key & f"probability >= {least}").to_dicts(order_by="unit_id")
    columns = {
        row["unit_id"]: row["response_column"] for row in (dataset.Responses.Unit & key).to_dicts()
    }
    partner = {row["source_unit_id"]: row["unit_id"] for row in pairs if row["unit_id"] in columns}
    data = {"dataset_hash": targets[0]["dataset_hash"]}
    labels = {r["unit_index"]: r["label"] for r in (dataset.Dataset.Unit & data).to_dicts()}
    neurons: dict[int, dict[str, Any]] = {}
    for target in targets:
        unit_id = partner.get(labels[target["unit_index"]])
        if unit_id is None:
            continue
        neuron = neurons.setdefault(
            target["unit_index"],
            {"unit_id": unit_id, "column": columns[unit_id], "images": {}, "predicted": {}},
        )
        neuron["images"][target["kind"]] = target["image_hash"]
        neuron["predicted"][target["kind"]] = target["predicted"]
    audit = (Audit.Trial & key & {"usable": True}).to_dicts(order_by="trial_idx")
    trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
    rows = {trial["trial_idx"]: row for row, trial in enumerate(trials)}
    if not neurons or not audit:
        raise DataError("nothing can be scored", field="UnitMatch, Audit",
                        found=f"{len(neurons)} targets, {len(audit)} trials")  # fmt: skip
    return {
        "dataset_hash": data["dataset_hash"],
        "kinds": _kinds(targets),
        "neurons": neurons,
        "rows": [rows[row["trial_idx"]] for row in audit],
        "images": [trials[rows[row["trial_idx"]]]["image_hash"] for row in audit],
        "responses": (dataset.Responses & key).fetch1("responses"),
    }


class Scored:
    """Mixin of the tables that hold parts of a verdict; each computes it anew within a second."""

    def make_fetch(self, key):
        """Return references and keys."""
        return fetch_scored(key), *OutcomeMethod.fetch_method(key)

    def make_compute(self, key, scored, method, params):
        """Run the outcome method."""
        neurons = scored["neurons"]
        columns = [neuron["column"] for neuron in neurons.values()]
        responses = scored["responses"].load()[np.ix_(scored["rows"], columns)]
        own = {
            kind: [neuron["images"].get(kind) for neuron in neurons.values()]
            for kind in scored["kinds"]
        }
        result = outcome_methods[method](responses, np.array(scored["images"]), own, **params)
        return scored, list(neurons), result


@schema
class Outcome(Scored, dj.Computed):
    definition = """
    # Responses of the matched targets to their own images, usable trials only
    -> UnitMatch
    -> Audit
    -> dataset.Responses
    -> OutcomeMethod
    ---
    n_scored        : int32          # targets that were found again
    n_trials        : int32          # trials that count
    """

    class Unit(dj.Part):
        definition = """
        # Mean response of one target to its image of one kind
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(16)    # mei rf gabor mni fni ...
        ---
        -> stimulus.Image
        matched_unit_id : int32      # unit of the presentation
        n_repeats   : int32          # trials
        mean_response=null : float64  # mean (sd of the scan, or as the method says)
        sem_response=null : float64  # standard error (same unit)
        raw_mean=null : float64      # mean response (a.u.)
        raw_sem=null : float64       # standard error (a.u.)
        predicted   : float64        # predicted response to this image (a.u. of the source scan)
        """

    def make_insert(self, key, scored, units, result):
        self.insert1({**key, "n_scored": len(units), "n_trials": len(scored["rows"])})
        rows = []
        for row in result.responses.to_dict("records"):
            unit = units[row["neuron"]]
            neuron = scored["neurons"][unit]
            rows.append(
                {
                    **key,
                    "dataset_hash": scored["dataset_hash"],
                    "unit_index": unit,
                    "kind": row["kind"],
                    "image_hash": row["image"],
                    "matched_unit_id": neuron["unit_id"],
                    "n_repeats": int(row["n"]),
                    "mean_response": number(row["mean"]),
                    "sem_response": number(row["sem"]),
                    "raw_mean": number(row["raw_mean"]),
                    "raw_sem": number(row["raw_sem"]),
                    "predicted": neuron["predicted"][row["kind"]],
                }
            )
        self.Unit.insert(rows)


@schema
class Confusion(Scored, dj.Computed):
    definition = """
    # Responses of every matched target to every matched target's images
    -> Outcome
    ---
    unit_index_list : json           # unit_index of rows and columns
    """

    class Kind(dj.Part):
        definition = """
        # One kind of image
        -> master
        kind        : varchar(16)    # mei rf gabor mni fni ...
        ---
        matrix      : <npy@main>     # float64 (image of, response of): normalised mean or NaN
        dominance=null : float64     # (1) share of images whose own neuron responds most
        mean_row_rank=null : float64  # (1) share of other neurons below the own; chance 0.5
        mean_column_rank=null : float64  # (1) share of others' images below the own; chance 0.5
        """

    def make_insert(self, key, scored, units, result):
        self.insert1({**key, "unit_index_list": units})
        for kind, found in result.confusions.items():
            self.Kind.insert1(
                {
                    **key,
                    "kind": kind,
                    "matrix": np.asarray(found.matrix, np.float64),
                    "dominance": number(found.dominance),
                    "mean_row_rank": number(found.mean_row_rank),
                    "mean_column_rank": number(found.mean_column_rank),
                }
            )


@schema
class Comparison(Scored, dj.Computed):
    definition = """
    # MEI against every control, per neuron
    -> Outcome
    ---
    reference       : varchar(16)    # kind that the others are compared with
    """

    class Unit(dj.Part):
        definition = """
        # One neuron, one control; the difference is reference minus control
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(16)    # rf gabor mni fni ...
        ---
        difference=null : float64    # of mean responses (unit of the method)
        ratio=null  : float64        # (1) of mean responses
        t=null      : float64        # (1) Welch
        df=null     : float64        # (1) degrees of freedom
        p=null      : float64        # (1) two-sided
        p_adjusted=null : float64    # (1) Benjamini-Hochberg over neurons
        significant : bool           # either way; the sign of the difference says which
        scored      : bool           # enough trials of both
        """

    def make_insert(self, key, scored, units, result):
        self.insert1({**key, "reference": result.kinds[0]})
        numbers = ("difference", "ratio", "t", "df", "p", "p_adjusted")
        self.Unit.insert(
            {
                **key,
                "dataset_hash": scored["dataset_hash"],
                "unit_index": units[row["neuron"]],
                "kind": row["kind"],
                **{name: number(row[name]) for name in numbers},
                "significant": bool(row["significant"]),
                "scored": bool(row["scored"]),
            }
            for row in result.comparisons.to_dict("records")
        )


@schema
class Population(Scored, dj.Computed):
    definition = """
    # MEI against every control, over the population
    -> Comparison
    """

    class Kind(dj.Part):
        definition = """
        # One control
        -> master
        kind        : varchar(16)    # rf gabor mni fni ...
        ---
        n_neurons   : int32          # neurons scored
        fraction=null : float64      # (1) share that responds more to the reference
        fraction_low=null : float64  # (1) lower end of its interval
        fraction_high=null : float64  # (1) upper end of its interval
        fraction_significant=null : float64  # (1) share significantly above
        fraction_opposite=null : float64  # (1) share significantly below
        median_difference=null : float64  # median over neurons (unit of the method)
        difference_low=null : float64  # lower end of its interval (same unit)
        difference_high=null : float64  # upper end of its interval (same unit)
        median_ratio=null : float64  # (1) median ratio of mean responses
        wilcoxon_w=null : float64    # (1) signed-rank statistic
        wilcoxon_p=null : float64    # (1) two-sided
        bootstrap_p=null : float64   # (1) two-sided, hierarchical bootstrap
        """

    def make_insert(self, key, scored, units, result):
        self.insert1(key)
        columns = [name for name in self.Kind.heading.secondary_attributes if name != "n_neurons"]
        self.Kind.insert(
            {
                **key,
                "kind": row["kind"],
                "n_neurons": int(row["n"]),
                **{name: number(row[name]) for name in columns},
            }
            for row in result.populations.to_dict("records")
        )


def register_loop(
    scan_key: Mapping[str, Any],
    recipe: str | Mapping[str, Any] | None = None,
    *,
    targets: int = 150,
    minutes: float = 60.0,
    deadline: datetime.datetime | str | None = None,
) -> dict[str, Any]:
    """Decide to close the loop on a scan: insert every task up to the plan, in one transaction.

    Parameters
    ----------
    scan_key : mapping
        `animal_id, session, scan_idx`.
    recipe : str or mapping, optional
        Name in `RECIPES`, hash or name of a recipe in the table, or what differs from the default.
    targets : int
        Most neurons to make stimuli for.
    minutes : float
        Time for the presentation on day 2 (min).
    deadline : datetime or ISO text, optional
        When the package is needed.

    Returns
    -------
    dict
        Key of the loop and its `plan_id`. Registering the same loop again changes nothing; every
        task is a row that can be edited before its result is computed.

    Raises
    ------
    DataError
        If there is no such scan.
    ValueError
        If the recipe, or a method or parameter in it, does not exist.
    """
    from schemas.registration import register  # it imports this module

    return register(scan_key, recipe, targets=targets, minutes=minutes, deadline=deadline)
