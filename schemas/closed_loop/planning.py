"""Which image comes when on day 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.errors import DataError
from pipeline.stimulus.kinds import NATURAL, kind_and_variant, name_of, stimulus_columns
from schemas import dataset, experiment, mei, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.deadline import NOT_READY, NOT_SHOWABLE, WITHOUT_MEI, overdue, showable
from schemas.closed_loop.loop import Loop
from schemas.method import MethodTable
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
        minutes = (Loop & task).fetch1("minutes")
        wanted = (
            "dataset_hash",
            "unit_index",
            "target_rank",
            "kind",
            "variant",
            "image_hash",
            "image_row",
            "array",
            "display",
            "mean_cd_m2",
            "sd_cd_m2",
            "clipped_fraction",
            "ok",
            "reason",
            "predicted",
        )
        rows = [{name: row[name] for name in wanted} for row in rows]
        asked = self._asked(key)
        return rows, arrays, sources, asked, natural, minutes, *PlanMethod.fetch_method(task)

    @staticmethod
    def _asked(key: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return every stimulus that a plan asks for: one for each target of each display task.

        A batch whose targets are not selected yet has one row a kind, and so has a kind without
        any target: `unit_index` is None there, and `reason` says which of both it is.
        """
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
    def _natural(scan: Mapping[str, Any], most: int) -> dict[str, Any]:
        """Return images that the scan repeated, most often shown first: they tell cells apart."""
        shown = dj.U("image_hash").aggr(stimulus.Trial & scan, n_shown="count(*)")
        rows = sorted(
            (shown & "n_shown > 1").to_dicts(), key=lambda row: (-row["n_shown"], row["image_hash"])
        )
        hashes = [row["image_hash"] for row in rows[:most]]
        curve = (experiment.MonitorCalibration & scan).fetch1("pixel_value", "luminance_cd_m2")
        return {"hashes": hashes, "images": stimulus.ImageSet.locate(hashes), "curve": curve}

    def make_compute(self, key, rows, arrays, sources, asked, natural, minutes, method, params):
        good = [row for row in rows if row["ok"]]
        best = {_unit(row): row["target_rank"] for row in good if name_of(row) == "mei"}
        units = sorted(best, key=lambda unit: (best[unit], unit))
        if not units:
            raise DataError(
                "no MEI can be shown",
                field="DisplayMethod",
                found=f"{len(rows)} images, none within tolerance",
                remedy="choose a lower contrast or another luminance",
            )
        by_kind = {kind: [None] * len(units) for kind in kinds_of(good)}
        chosen = {}  # of several displays of one stimulus of a unit, the last
        for row in good:
            if _unit(row) in best:
                by_kind[name_of(row)][units.index(_unit(row))] = row["image_hash"]
                chosen[_unit(row), name_of(row)] = row
        lists = {**by_kind, NATURAL: natural["hashes"]}
        result = plan_methods[method](lists, **{**params, "minutes": minutes})
        used = dict(zip(result.trials["image"], result.trials["kind"], strict=True))
        late = {
            (units[entry["target"]], name): entry["reason"]
            for entry in result.dropped
            if entry["target"] is not None
            for name in entry["images"]
        }
        planned = [  # an image of a target that is left out may be shown: another target shares it
            row
            for stimulus_of, row in chosen.items()
            if row["image_hash"] in used and stimulus_of not in late
        ]
        targets = [
            {
                name: row[name]
                for name in (
                    "dataset_hash",
                    "unit_index",
                    "kind",
                    "variant",
                    "image_hash",
                    "target_rank",
                    "predicted",
                )
            }
            for row in planned
        ]
        pixels = {
            row["image_hash"]: arrays[row["array"]].load(mmap_mode="r")[row["image_row"]]
            for row in good
            if row["image_hash"] in used
        }
        statistics = {row["image_hash"]: row for row in good}
        shown_again = stimulus.load_images(natural["images"])
        luminance = _luminance(shown_again, natural["curve"])
        images = [
            {
                "image_hash": image,
                **stimulus_columns(label),
                **{
                    name: number(statistics.get(image, luminance.get(image, {})).get(name))
                    for name in ("mean_cd_m2", "sd_cd_m2", "clipped_fraction")
                },
            }
            for image, label in sorted(used.items())
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
        otherwise = f"left out by the plan method {method!r}"
        row = {
            "n_trials": len(trials),
            "n_images": len(images),
            "n_targets": len({target["unit_index"] for target in targets}),
            "n_repeats": int(result.repeats),
            "total_s": float(result.total_s),
            "dropped": [
                *_left_out(asked, rows, planned, chosen, late, otherwise),
                *_natural_left_out(natural["hashes"], used, result.dropped, otherwise),
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
    """Return the names of the stimuli, the MEI first: the first names an image that two share."""
    names = {name_of(row): kind_and_variant(name_of(row)) for row in rows}
    return sorted(names, key=lambda name: (names[name][0] != "mei", names[name]))


def _unit(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["dataset_hash"], row["unit_index"]


def _left_out(
    asked: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    planned: list[dict[str, Any]],
    chosen: Mapping[tuple[tuple[str, int], str], Mapping[str, Any]],
    late: Mapping[tuple[tuple[str, int], str], str],
    otherwise: str,
) -> list[dict[str, Any]]:
    """Return every stimulus of a target that is not planned, and why.

    Parameters
    ----------
    asked, rows, planned : list of dict
        What the plan asks for, what of it is displayed, and what of that is planned.
    chosen : mapping
        Displayed row of a unit and a name of a stimulus.
    late : mapping
        Reason why the plan method leaves a unit's stimulus out.
    otherwise : str
        Reason of what the plan method left out without giving one.

    Returns
    -------
    list of dict
        `unit_index, unit_id, kind, variant, image_hash, reason`; what is not known is None.
    """
    displayed = {(*row["display"], row["unit_index"]): row for row in rows}
    taken = {(_unit(row), name_of(row), row["image_hash"]) for row in planned}
    with_mei = {unit for unit, name in chosen if name == "mei"}
    waiting = {  # units whose MEI is not displayed
        wanted["unit_index"]
        for wanted in asked
        if wanted["display"] is not None
        and name_of(wanted) == "mei"
        and (*wanted["display"], wanted["unit_index"]) not in displayed
    }
    found = []
    for wanted in asked:
        row = displayed.get((*(wanted["display"] or ()), wanted["unit_index"]))
        if row is not None and (_unit(row), name_of(row), row["image_hash"]) in taken:
            continue
        if wanted["display"] is None:
            reason = wanted["reason"]
        elif row is None:
            reason = NOT_READY
        elif not row["ok"]:
            reason = f"not displayable: {row['reason']}" if row["reason"] else "not displayable"
        elif _unit(row) not in with_mei:
            reason = WITHOUT_MEI if wanted["unit_index"] in waiting else NOT_SHOWABLE
        elif chosen[_unit(row), name_of(row)] is not row:
            reason = "another image of this kind and variant is planned"
        else:
            reason = late.get((_unit(row), name_of(row)), otherwise)
        entry = {name: wanted[name] for name in ("unit_index", "unit_id", "kind", "variant")}
        image = None if row is None else row["image_hash"]
        found.append({**entry, "image_hash": image, "reason": reason})
    return found


def _natural_left_out(
    wanted: list[str], used: Mapping[str, str], dropped: list[dict[str, Any]], otherwise: str
) -> list[dict[str, Any]]:
    """Return the natural images that are not shown again, as `_left_out` does."""
    why = {image: entry["reason"] for entry in dropped for image in entry["images"].values()}
    nobody = {"unit_index": None, "unit_id": None, "kind": NATURAL, "variant": 0}
    return [
        {**nobody, "image_hash": image, "reason": why.get(image, otherwise)}
        for image in wanted
        if image not in used
    ]


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
