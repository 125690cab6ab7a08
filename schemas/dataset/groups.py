"""Several data sets that train one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datajoint as dj

from pipeline.registry import config_hash
from schemas.dataset.binding import schema
from schemas.dataset.sets import Dataset, DatasetSpec


@schema
class DatasetGroup(dj.Manual):
    definition = """
    # Decision which data sets, of scans or prepared files, are one training set
    group_hash      : char(16)       # hash of the members' keys
    ---
    n_members       : int32          # data sets in the group
    group_notes=''  : varchar(512)   # free text
    """

    class Member(dj.Part):
        definition = """
        # Data set of the group
        -> master
        -> DatasetSpec
        """

    @classmethod
    def add(cls, keys: Sequence[Mapping[str, Any]], notes: str = "") -> dict:
        """Insert a group unless it is there, and return its key.

        Parameters
        ----------
        keys : sequence of mappings
            `dataset_hash` of every member, in any order; the order does not matter.
        notes : str
            Free text.

        Raises
        ------
        ValueError
            If there are no members, or their images differ in aspect ratio.
        """
        hashes = sorted({key["dataset_hash"] for key in keys})
        if not hashes:
            raise ValueError("a group needs at least one data set")
        specs = DatasetSpec & [{"dataset_hash": name} for name in hashes]
        sizes = {(row["height_px"], row["width_px"]) for row in specs.to_dicts()}
        ratios = [width / height for height, width in sizes]
        if len(specs) != len(hashes):
            raise ValueError(f"{len(hashes) - len(specs)} of {len(hashes)} data sets are not known")
        if max(ratios) > 1.01 * min(ratios):
            raise ValueError(f"images of a group need one aspect ratio, got {sorted(sizes)}")
        key = {"group_hash": config_hash({"members": hashes})}
        if not cls & key:
            cls.insert1({**key, "n_members": len(hashes), "group_notes": notes})
            cls.Member.insert({**key, "dataset_hash": name} for name in hashes)
        return key

    @classmethod
    def fetch_files(cls, key: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return (dataset_hash, reference to its file) of every member, in the order of hashes."""
        members = cls.Member & {"group_hash": key["group_hash"]}
        rows = (Dataset & members).to_dicts(order_by="dataset_hash")
        if len(rows) != len(members):
            raise ValueError(f"group {key['group_hash']}: {len(rows)} of {len(members)} computed")
        return [(row["dataset_hash"], row["dataset_file"]) for row in rows]
