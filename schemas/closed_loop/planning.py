"""Which image comes when on day 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.closed_loop.names import LUMINANCE
from schemas import dataset, experiment, mei, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.deadline import overdue, showable
from schemas.closed_loop.loop import Loop
from schemas.method import Methods, MethodTable
from schemas.store import number


@schema
class PlanMethod(MethodTable, dj.Lookup):
    definition = """
    # Order of presentation with its complete parameters
    plan_hash       : char(16)       # hash of method and parameters
    ---
    plan_method     : varchar(64)    # name in pipeline.closed_loop.planning.plan
    plan_params     : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.closed_loop.planning.plan", "plan_methods")


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


DISPLAYED = (
    "dataset_hash",
    "unit_index",
    "target_rank",
    "kind",
    "variant",
    "image_hash",
    "image_row",
    "array",
    "display",
    *LUMINANCE,
    "ok",
    "reason",
    "predicted",
)


class PlanInputs(NamedTuple):
    """What is read for a plan: rows and references; `Request` says what the rows hold."""

    displayed: list[dict[str, Any]]  # columns `DISPLAYED`
    arrays: list[Any]  # references, each (images, height, width); column `array` counts them
    sources: list[dict[str, Any]]  # keys of mei.Display
    asked: list[dict[str, Any]]
    natural: list[str]  # image hashes
    natural_files: list[tuple]  # of stimulus.ImageSet.locate
    curve: tuple  # of experiment.monitor_curve
    method: str
    params: dict[str, Any]


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
    dropped         : json           # every stimulus that is asked for and left out, and why
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
        kind        : varchar(64)    # first kind that asked for it: mei rf gabor mni fni natural
        variant=0   : int16          # which of the unit's images of that kind, from 0
        mean_cd_m2=null : float64    # mean luminance (cd/m2)
        sd_cd_m2=null : float64      # standard deviation of the luminance (cd/m2)
        clipped_fraction=null : float64  # (1) share of pixels that wanted to leave the range
        """

    class Target(dj.Part):
        definition = """
        # Image of one kind for one unit
        -> master
        -> dataset.Dataset.Unit
        kind        : varchar(64)    # mei rf gabor mni fni ...
        variant     : int16          # which of the unit's images of this kind, from 0
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
        blank_before_s : float64     # gray screen before it (s)
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
        rows, arrays, sources = [], [], []
        for index, display in enumerate(displays.to_dicts(order_by=mei.Display.primary_key)):
            sources.append({name: display[name] for name in mei.Display.primary_key})
            shown = mei.Display.Image * mei.Targets.Unit.proj("target_rank") & sources[-1]
            found = shown.to_dicts(order_by="image_row")
            place = [display[name] for name in mei.DisplayTask.primary_key]
            rows += [{**row, "array": index, "display": place} for row in found]
            arrays.append(display["images"])
        scan = {name: task[name] for name in experiment.Scan.primary_key}
        natural = self._natural(scan, task["n_natural"])
        method, params = PlanMethod.fetch_method(task)
        given = PlanInputs(
            displayed=[{name: row[name] for name in DISPLAYED} for row in rows],
            arrays=arrays,
            sources=sources,
            asked=self._asked(key),
            natural=natural,
            natural_files=stimulus.ImageSet.locate(natural),
            curve=(experiment.MonitorCalibration & scan).fetch1("pixel_value", "luminance_cd_m2"),
            method=method,
            params={**params, "minutes": (Loop & task).fetch1("minutes")},
        )
        return (given,)

    @staticmethod
    def _asked(key: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return every stimulus that a plan asks for: one for each target of each display task.

        A batch whose targets are not selected yet has one row a kind, and so has a kind without
        any target: `unit_index` is None there, and `reason` says which of both it is.
        """
        from pipeline.closed_loop.planning.request import NOT_READY
        from pipeline.stimulus.kinds import name_of

        kinds = (PlanTask.Display & key) * mei.ControlMethod.proj(kind="control_method")
        batches = kinds * mei.MEITask.proj("first_rank", "last_rank")
        targets = batches * mei.Targets.Unit.proj("target_rank")
        inside = targets & "target_rank >= first_rank" & "target_rank <= last_rank"
        known = {
            (unit["dataset_hash"], unit["unit_index"]): unit["unit_id"]
            for unit in (dataset.Dataset.Unit & inside.proj()).to_dicts()
        }
        order = ("target_rank", "kind", "variant", *mei.DisplayTask.primary_key)
        rows = [
            {
                "display": [row[name] for name in mei.DisplayTask.primary_key],
                "unit_index": row["unit_index"],
                "unit_id": known[row["dataset_hash"], row["unit_index"]],
                "kind": row["kind"],
                "variant": row["variant"],
                "target_rank": row["target_rank"],
            }
            for row in inside.to_dicts(order_by=order)
        ]
        nobody = dict.fromkeys(("display", "unit_index", "unit_id", "target_rank"))
        for row in (batches - mei.Targets.proj()).to_dicts(order_by=mei.DisplayTask.primary_key):
            ranks = f"the targets of ranks {row['first_rank']} to {row['last_rank']}"
            reason = f"{NOT_READY}: {ranks} (batch {row['batch']}) are not selected"
            stimulus_of = {"kind": row["kind"], "variant": row["variant"]}
            rows.append({**nobody, **stimulus_of, "reason": reason})
        seen = {name_of(row) for row in rows}
        for row in kinds.to_dicts(order_by=("kind", "variant")):
            if name_of(row) not in seen:
                seen.add(name_of(row))
                stimulus_of = {"kind": row["kind"], "variant": row["variant"]}
                reason = "no target has an image of this kind"
                rows.append({**nobody, **stimulus_of, "reason": reason})
        return rows

    @staticmethod
    def _natural(scan: Mapping[str, Any], most: int) -> list[str]:
        """Return images that the scan repeated, most often shown first: they tell cells apart."""
        shown = dj.U("image_hash").aggr(stimulus.Trial & scan, n_shown="count(*)")
        rows = sorted(
            (shown & "n_shown > 1").to_dicts(), key=lambda row: (-row["n_shown"], row["image_hash"])
        )
        return [row["image_hash"] for row in rows[:most]]

    def make_compute(self, key, given):
        from pipeline.closed_loop.planning.request import Request, make_plan

        natural = stimulus.load_images(given.natural_files)
        plan = make_plan(
            Request(
                asked=given.asked,
                displayed=given.displayed,
                natural={image: natural[image] for image in given.natural},
                curve=experiment.monitor_curve(*given.curve),
                method=given.method,
                params=given.params,
            )
        )
        shown = {image["image_hash"] for image in plan.images}
        pixels = {
            row["image_hash"]: given.arrays[row["array"]].load(mmap_mode="r")[row["image_row"]]
            for row in given.displayed
            if row["ok"] and row["image_hash"] in shown
        }
        return plan, given.sources, pixels

    def make_insert(self, key, plan, sources, pixels):
        hashes = sorted(pixels)  # the back edge: a planned image becomes an image like any other
        stacked = np.stack([np.asarray(pixels[name]) for name in hashes])
        stimulus.ImageSet.add(hashes, stacked, name=f"plan {key['plan_id']}")
        self.insert1({**key, **plan.totals})
        self.Source.insert({**key, **source} for source in sources)
        self.Image.insert(
            {**key, **image, **{name: number(image[name]) for name in LUMINANCE}}
            for image in plan.images
        )
        self.Target.insert({**key, **target} for target in plan.targets)
        self.Trial.insert({**key, **trial} for trial in plan.trials)
