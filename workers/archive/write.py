"""All rows of the loops on a scan as JSON, with the npy and npz files that they name."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.files import sha256_of
from schemas import closed_loop, dataset, experiment, stimulus
from schemas.stored.digests import damaged
from workers.archive.closure import CHUNK, Closure
from workers.archive.rows import RawTable
from workers.compute import environment
from workers.database import collect
from workers.database.backup import copy_out
from workers.database.schema_version import SCHEMA_VERSION
from workers.insight.ancestry import provenance, table_names
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder
from workers.version import code_version

FORMAT = "inception-archive/1"
COMPUTED = ("ended_at", "duration_s", "version", "attempt", "environment", "device")  # no host
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"


def write_archive(
    ledger: Ledger, plan: TaskOrder, scan: Mapping[str, int], folder: Path
) -> dict[str, Any]:
    """Write an archive: a folder that needs no database to be read, and that another can take in.

    Parameters
    ----------
    ledger : Ledger
        Job tables, which say what computed a row.
    plan : TaskOrder
        The active pipeline.
    scan : mapping
        `animal_id, session, scan_idx` of the scan that the loops were registered on.
    folder : path
        Must not exist; it appears when everything is in it.

    Returns
    -------
    dict
        The manifest: `tables` (rows of each), `files` (size and SHA-256), `scans`, versions.

    Raises
    ------
    DataError
        If there is no such scan, or the folder exists.
    """
    if folder.exists():
        raise DataError("exists already", file=folder, remedy="name a new folder")
    found, scans = rows_of(ledger, scan)
    names = table_names(plan, ledger.connection)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "tables").mkdir(parents=True)
    tables: dict[str, Any] = {}
    used: dict[str, str | None] = {}
    for node in found.ordered():
        raw, name = RawTable(ledger.connection, node), names[node]
        keys = [dict(zip(raw.primary, key, strict=True)) for key in found.keys[node]]
        rows = raw.rows(keys)
        used |= raw.paths(rows)
        _write_rows(part / "tables" / f"{name}.json", rows)
        made = provenance(ledger, name, keys) if name in plan.tasks else []
        if any(made):
            said = [
                {"key": key, **{name: computed[name] for name in COMPUTED}}
                for key, computed in zip(keys, made, strict=True)
                if computed
            ]
            _write_rows(part / "tables" / f"{name}.computed.json", said)
        tables[name] = {"rows": len(rows), "table": bare_name(node, plan.prefix)}
    for path, digest in sorted(used.items()):
        _, found_digest = copy_out(path, part / "store" / path)
        if digest not in (None, found_digest):
            shutil.rmtree(part)
            raise damaged(path, found_digest, str(digest))
    described = environment.describe()
    lines = [f"{name}=={version}\n" for name, version in described["packages"].items()]
    (part / "packages.txt").write_text("".join(lines), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": code_version(),
        "schema_version": SCHEMA_VERSION,
        "python": described["python"],
        "platform": described["platform"],
        "prefix": plan.prefix,
        "scan": dict(scan),
        "scans": scans,
        "tables": tables,
    }
    (part / "README.md").write_text(_readme(manifest), encoding="utf-8")
    manifest["files"] = {
        file.relative_to(part).as_posix(): {"size": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(part.rglob("*"))
        if file.is_file()
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (part / MANIFEST).write_text(text, encoding="utf-8")
    sums = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    sums[MANIFEST] = sha256_of(part / MANIFEST)
    (part / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    part.rename(folder)
    return manifest


def rows_of(ledger: Ledger, scan: Mapping[str, int]) -> tuple[Closure, list[dict[str, int]]]:
    """Return all rows of a scan, of the scans that show its plans, and of those in its data sets.

    Raises
    ------
    DataError
        If there is no such scan.
    """
    primary = list(experiment.Scan.primary_key)
    if not experiment.Scan & scan:
        slashed = experiment.scan_name(scan)
        raise DataError(
            "no such scan", field="SCAN", found=slashed, remedy="see `inception status`"
        )
    databases = collect.pipeline_databases(ledger.connection)
    found = Closure(ledger.connection, [n for n in databases if not n.endswith("_workers")])
    todo, scans = [{name: scan[name] for name in primary}], []
    while todo:
        scans += todo
        found.descend(experiment.Scan.full_table_name, todo)
        found.ascend()
        images = found.keys.get(stimulus.Image.full_table_name, {})
        found.add(
            stimulus.ImageSet.full_table_name,
            _sets_of(row["image_hash"] for row in images.values()),
        )
        found.ascend()
        todo = []
        for table in (closed_loop.Presentation, dataset.DatasetSpec.Scan):
            for row in found.keys.get(table.full_table_name, {}).values():
                named = {name: row[name] for name in primary}
                if named not in scans and named not in todo:
                    todo.append(named)
    return found, scans


def _sets_of(hashes: Iterable[str]) -> list[dict[str, Any]]:
    """Return the sets that hold the pixels of images: no foreign key leads from an image there."""
    wanted, sets = sorted(set(hashes)), set()
    for start in range(0, len(wanted), CHUNK):
        named = [{"image_hash": name} for name in wanted[start : start + CHUNK]]
        sets |= set((stimulus.ImageSet.Member & named).to_arrays("imageset_hash").tolist())
    return [{"imageset_hash": name} for name in sorted(sets)]


def bare_name(node: str, prefix: str) -> str:
    """Return the full name of a table without quotes and prefix: `imaging._motion`."""
    return node.replace('"', "").replace("`", "").removeprefix(f"{prefix}_")


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON list with a row a line."""
    lines = ",\n".join(json.dumps(row, default=str) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _readme(manifest: Mapping[str, Any]) -> str:
    scans = ", ".join(experiment.scan_name(scan) for scan in manifest["scans"])
    listed = "\n".join(f"| {name} | {t['rows']} |" for name, t in manifest["tables"].items())
    return f"""# Archive of the loops on scan {experiment.scan_name(manifest["scan"])}

Made {manifest["made"]} by inception {manifest["version"]}, Python {manifest["python"]}.
Scans in it: {scans}.

- `tables/*.json`: the rows of every table, one a line. Columns that hold arrays name a file by
  `path`: it lies below `store/` and is NumPy's npy or npz.
- `tables/*.computed.json`: which code computed a row, and when.
- `packages.txt`: the packages of the program that wrote this archive, as pip takes them.
- `SHA256SUMS`: `sha256sum --check SHA256SUMS` tells whether everything is as it was written.
- `manifest.json`: versions, and the size and SHA-256 of every file.

Raw recordings are not in it: `experiment.Scan.File` says where they lay, and
`inception export SCAN OUT.nwb` writes them.

To take it into another database of the same version: `inception import FOLDER`.

| table | rows |
|---|---|
{listed}
"""
