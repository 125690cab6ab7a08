"""Which image comes when on day 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.closed_loop.plan import plan_methods
from pipeline.errors import DataError
from schemas import dataset, experiment, mei, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.deadline import not_ready, overdue, showable, without_mei
from schemas.closed_loop.loop import Loop
from schemas.method import MethodTable
from schemas.store import number


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

    worker_settles = ("mei.Targets", "mei.MEI", "mei.Mask", "mei.Control", "mei.Display")

    @property
    def key_source(self):
        """Plans all of whose stimuli are displayed, or some at their deadline.

        The clock is the database server's. Nothing is planned before its deadline but in full;
        where nothing can be shown at the deadline, the plan is made as soon as something can.
        """
        whole = PlanTask - (PlanTask.Display - mei.Display.proj())
        late = PlanTask & overdue()
        late &= showable(PlanTask.Display & late.proj())
        return PlanTask & [whole.proj(), late.proj()]

    def _ready(self, key: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the displays that a plan is made from: those there when its making begins.

        `make_fetch` runs again in the transaction that inserts, and a display may have arrived
        meanwhile: the first choice holds. That of a plan that exists is `Plan.Source`.
        """
        displayed = mei.Display & (PlanTask.Display & key)
        if self & key:
            displayed = mei.Display & (self.Source & key)
        elif self.connection.in_transaction and self._chosen[0] == key["plan_id"]:
            return self._chosen[1]
        elif not self.key_source & key:
            raise dj.errors.IntegrityError("the plan is not due: was its deadline moved?")
        found = displayed.proj().to_dicts(order_by=mei.Display.primary_key)
        self._chosen = (key["plan_id"], found)
        return found

    _chosen: tuple[str, list[dict[str, Any]]] = ("", [])

    def make_fetch(self, key):
        task = (PlanTask & key).fetch1()
        ready = self._ready(key)
        displays = mei.Display & ready
        late = not_ready((PlanTask.Display & key).to_dicts(), ready)
        rows, arrays, sources = [], [], []
        for index, display in enumerate(displays.to_dicts(order_by=mei.Display.primary_key)):
            sources.append({name: display[name] for name in mei.Display.primary_key})
            shown = mei.Display.Image * mei.Targets.Unit.proj("target_rank")
            shown = shown * dataset.Dataset.Unit.proj("unit_id") & sources[-1]
            found = shown.to_dicts(order_by="image_row")
            rows += [{**row, "array": index} for row in found]
            arrays.append(display["images"])
        scan = {name: task[name] for name in experiment.Scan.primary_key}
        natural = self._natural(scan, task["n_natural"])
        minutes = (Loop & task).fetch1("minutes")
        wanted = ("dataset_hash", "unit_index", "unit_id", "target_rank", "kind", "image_hash",
                  "image_row", "array", "mean_cd_m2", "sd_cd_m2", "clipped_fraction", "ok",
                  "predicted")  # fmt: skip
        rows = [{name: row[name] for name in wanted} for row in rows]
        return rows, arrays, sources, natural, minutes, late, *PlanMethod.fetch_method(task)

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

    def make_compute(self, key, rows, arrays, sources, natural, minutes, late, method, params):
        good = [row for row in rows if row["ok"]]
        ranks = sorted({row["target_rank"] for row in good if row["kind"] == "mei"})
        if not ranks:
            raise DataError("no MEI can be shown", field="DisplayMethod",
                            found=f"{len(rows)} images, none within tolerance",
                            remedy="choose a lower contrast or another luminance")  # fmt: skip
        by_kind = {kind: [None] * len(ranks) for kind in kinds_of(good)}
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
                *late,
                *without_mei(good, ranks, late),
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


def kinds_of(rows: list[dict[str, Any]]) -> list[str]:
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
