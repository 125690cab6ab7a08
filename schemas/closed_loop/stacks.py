"""Structural stacks: a second way to the same cells, and what all ways agree on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from schemas import experiment, imaging  # noqa: F401  imaging: a foreign key
from schemas.closed_loop.binding import schema
from schemas.closed_loop.matching import (
    MatchMethod,
    MatchTask,
    UnitMatch,
    field_view,
    source_of,
    views,
)
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.recording.stack import StackFolder

log = logging.getLogger("inception.ingest")
SHARED = ("max_distance_um", "min_probability", "smooth_um")  # parameters of both routes


@schema
class Stack(dj.Manual):
    definition = """
    # Structural z-stack of an animal
    -> experiment.Session.proj(stack_session='session')
    stack_idx       : int16          # number of the stack within the session
    ---
    volume          : <npy@main>     # float32 (slices, H, W)
    um_per_voxel    : json           # z, y, x (um)
    stack_path      : varchar(1024)  # file that it came from
    """

    @classmethod
    def ingest(cls, folder: str | Path) -> dict[str, int]:
        """Insert the stack of a folder that holds `stack.json`.

        ``{"format": "inception-stack/1", "animal_id", "session", "stack_idx", "file": name of a
        TIFF or npy (slices, H, W), "um_per_voxel": [z, y, x]}``, optionally "channel"; the session
        must be known. Pages that a TIFF holds of one slice are averaged.
        """
        from pipeline.recording.stack import read_stack_folder

        stack = read_stack_folder(folder)
        for finding in stack.findings:
            log.warning("%s", finding)
        return cls.insert_stack(stack)

    @classmethod
    def insert_stack(cls, stack: StackFolder) -> dict[str, int]:
        """Insert a stack that was read; the same once more changes nothing.

        Raises
        ------
        DataError
            If its session is not known.
        """
        if not experiment.Session & {"animal_id": stack.animal_id, "session": stack.session}:
            raise DataError(
                "no such session",
                file=stack.file.parent / "stack.json",
                found=f"{stack.animal_id}/{stack.session}",
                remedy="ingest a recording of the session first",
            )
        key = {
            "animal_id": stack.animal_id,
            "stack_session": stack.session,
            "stack_idx": stack.stack_idx,
        }
        row = {"volume": stack.volume, "um_per_voxel": stack.um_per_voxel}
        cls.insert1({**key, **row, "stack_path": str(stack.file)}, skip_duplicates=True)
        return key


class StackInputs(NamedTuple):
    """What cells are found again by through a stack."""

    volume: Any  # reference, (slices, height, width)
    um_per_voxel: list[float]
    sources: list[dict[str, Any]]  # of views: fields of the source scan
    targets: list[dict[str, Any]]  # of views: fields of this scan
    same: dict[int, int]  # field of this scan to the field of the source
    params: dict[str, Any]


@schema
class StackMatch(dj.Computed):
    definition = """
    # Cells of the source scan found again through a structural stack
    -> UnitMatch
    -> Stack
    ---
    n_pairs         : int32          # pairs found
    """

    class Field(dj.Part):
        definition = """
        # Where the same field of both scans lies in the stack
        -> master
        -> imaging.Segmentation
        ---
        source_field : int16         # field of the source scan
        source_score=null : float64  # (1) correlation of the source field with its plane
        target_score=null : float64  # (1) the same of the presentation's field
        source_transform : json      # 3 x 3: (y, x, 1) of the source (px) to z, y, x (um)
        target_transform : json      # 3 x 3: the same of the presentation's field
        depth_gap_um=null : float64  # median depth of source units above the target's plane (um)
        """

    class Pair(dj.Part):
        definition = """
        # One cell in both scans
        -> master
        unit_id     : int32          # unit of the presentation
        ---
        source_unit_id : int32       # unit of the source scan
        probability : float64        # (1) that they are one cell
        distance_um=null : float64   # between the centers in the stack (um)
        """

    def make_fetch(self, key):
        stack = (Stack & key).fetch1("volume", "um_per_voxel")
        fields = (UnitMatch.Field & key).to_dicts(order_by="field")
        same = {row["field"]: row["source_field"] for row in fields}
        params = MatchMethod.fetch_method(key)[1]
        return (StackInputs(*stack, views(source_of(key)), views(key), same, params),)

    def make_compute(self, key, given):
        from pipeline.closed_loop.matching.stack import (
            StackView,
            match_through_stack,
            register_to_stack,
        )

        view = StackView(given.volume.load(), tuple(given.um_per_voxel))
        shared = {name: given.params[name] for name in SHARED if name in given.params}
        by_field = {source["key"]["field"]: source for source in given.sources}
        placed: dict[int, tuple] = {}
        fields, pairs = [], {}
        for target in given.targets:
            source = by_field[given.same[target["key"]["field"]]]
            one, two = field_view(source), field_view(target)
            if source["key"]["field"] not in placed:
                placed[source["key"]["field"]] = register_to_stack(one, view)
            there = placed[source["key"]["field"]], register_to_stack(two, view)
            result = match_through_stack(one, two, there, **shared)
            middle = np.array([[size / 2 for size in one.shape]])
            gap = there[0].place(middle)[0, 0] - there[1].place(middle)[0, 0]
            fields.append(
                {
                    **target["key"],
                    "source_field": source["key"]["field"],
                    "source_score": number(there[0].score),
                    "target_score": number(there[1].score),
                    "source_transform": there[0].transform.tolist(),
                    "target_transform": there[1].transform.tolist(),
                    "depth_gap_um": number(gap),
                }
            )
            for row, (a, b) in enumerate(result.pairs):
                found = {
                    "unit_id": target["units"][b],
                    "source_unit_id": source["units"][a],
                    "probability": float(result.probability[row]),
                    "distance_um": number(result.distance_um[row]),
                }
                best = pairs.get(found["source_unit_id"])
                if best is None or found["probability"] > best["probability"]:
                    pairs[found["source_unit_id"]] = found
        return fields, list(pairs.values())

    def make_insert(self, key, fields, pairs):
        self.insert1({**key, "n_pairs": len(pairs)})
        self.Field.insert({**key, **field} for field in fields)
        self.Pair.insert({**key, **pair} for pair in pairs)


@schema
class CombinedMatch(dj.Computed):
    definition = """
    # Pairs of the direct match and of the match through every stack, joined one to one
    -> UnitMatch
    ---
    n_routes        : int32          # the direct one (not where only stacks count), one a stack
    n_pairs         : int32          # pairs
    """

    class Route(dj.Part):
        definition = """
        # Stack that is one of the routes
        -> master
        -> StackMatch
        """

    class Pair(dj.Part):
        definition = """
        # One cell in both scans
        -> master
        unit_id     : int32          # unit of the presentation
        ---
        source_unit_id : int32       # unit of the source scan
        probability : float64        # (1) mean over routes, 0 where a route has another pair
        n_agree     : int32          # routes that made this pair
        """

    @property
    def key_source(self):
        """Matches that are done through every stack of the animal there is by now.

        One whose verdict reads the stacks' pairs waits for the first stack.
        """
        done = UnitMatch.proj() - (UnitMatch.proj() * Stack.proj() - StackMatch.proj())
        return done - (asks_for_stack() - StackMatch.proj())

    def make(self, key):
        from pipeline.closed_loop.matching import combine

        through = (MatchMethod & key).fetch1("match_through")
        stacks = (StackMatch & key).keys(order_by=["stack_session", "stack_idx"])
        routes = [(StackMatch.Pair & stack).to_dicts(order_by="unit_id") for stack in stacks]
        if through != "stack":
            routes.insert(0, (UnitMatch.Pair & key).to_dicts(order_by="unit_id"))
        found = combine.combine(
            [
                (
                    [(row["source_unit_id"], row["unit_id"]) for row in rows],
                    [row["probability"] for row in rows],
                )
                for rows in routes
            ],
            min_probability=(MatchTask & key).fetch1("min_match_probability"),
        )
        self.insert1({**key, "n_routes": len(routes), "n_pairs": len(found.pairs)})
        self.Route.insert({**key, **stack} for stack in stacks)
        self.Pair.insert(
            {
                **key,
                "unit_id": int(target),
                "source_unit_id": int(source),
                "probability": float(found.probability[row]),
                "n_agree": int(found.n_routes[row]),
            }
            for row, (source, target) in enumerate(found.pairs)
        )


def asks_for_stack() -> Any:
    """Return the matches whose verdict reads pairs that were made through stacks."""
    return UnitMatch.proj() * (MatchMethod & "match_through <> 'field'").proj()


def without_pairs() -> Any:
    """Return the matches whose verdict waits for a stack, or for the match through it."""
    return asks_for_stack() - CombinedMatch.proj()


def matched_pairs(key: Mapping[str, Any], least: float = 0.0) -> list[dict[str, Any]]:
    """Return the pairs that the verdict of one match reads, as its method's `match_through` says.

    Parameters
    ----------
    key : mapping
        Names one `UnitMatch`.
    least : float
        Pairs that are less probable are left out.

    Returns
    -------
    list of dict
        Rows of `UnitMatch.Pair` or `CombinedMatch.Pair` in the order of `unit_id`; both have
        `unit_id`, `source_unit_id` and `probability`.

    Raises
    ------
    DataError
        If the pairs are those of a stack and no match through a stack is there.
    """
    match = (UnitMatch & key).fetch1("KEY")
    through = (MatchMethod & match).fetch1("match_through")
    if through != "field" and not CombinedMatch & match:
        raise DataError(
            "no match through a structural stack",
            field="match_through",
            found=through,
            expected="a stack of the animal",
            remedy="`inception ingest FOLDER` of a folder with stack.json, then `inception worker`",
        )
    pairs = (UnitMatch.Pair if through == "field" else CombinedMatch.Pair) & match
    return [row for row in pairs.to_dicts(order_by="unit_id") if row["probability"] >= least]
