"""What the methods of all registries returned: a few numbers a result, kept in `digests.json`.

    python tests/pipeline/digests/digest_store.py                     # new methods and revisions
    python tests/pipeline/digests/digest_store.py --overwrite KIND/NAME ...

The first adds methods whose hash is not kept yet. It never replaces numbers of a hash that is kept:
a result that changed needs a higher `revision` where its method is registered. The second command
is for numbers that nobody has in a table, as when the input of a case is changed (`analysis/*`).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pkgutil
import sys
import tempfile
import zlib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.registry import Registry

FILE = Path(__file__).with_name("digests.json")
DIGITS = 7  # that are kept; tolerances are wider
SIGNS = 3  # weighted sums of every array


def registries():
    """Return every registry of the package by its kind."""
    import pipeline

    found = {}
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Registry):
                assert found.setdefault(value.kind, value) is value, f"two of kind {value.kind!r}"
    return found


def arrays(value, label=""):
    """Yield (label, float64 array) of all numbers and texts in a result."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, PixelStack):
        value = np.asarray(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a table
        value = {str(name): value[name].to_numpy() for name in value.columns}
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if value is None:
        yield label, np.zeros(0)
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            yield from arrays(value[name], f"{label}.{name}" if label else str(name))
    elif isinstance(value, str):
        yield label, np.array([zlib.crc32(value.encode()) / 2**32])
    elif isinstance(value, (bool, int, float, np.number, np.bool_)):
        yield label, np.array([float(value)])
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        yield label, value.astype(np.float64).ravel()
    elif isinstance(value, (list, tuple, np.ndarray)):
        parts = [part for item in value for _, part in arrays(item)]
        yield label, np.concatenate([np.array([float(len(parts))]), *parts])
    else:
        raise TypeError(f"{label}: no numbers in {type(value).__name__}")


def digest(result):
    """Return label -> [size, NaN, rms, mean, weighted sums]: the result in a few numbers."""
    found = {}
    for label, array in arrays(result):
        known = np.isfinite(array)
        values = np.where(known, array, 0.0)
        rms = float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
        sums = [rms, float(values.mean()) if len(values) else 0.0]
        index = np.arange(1, len(values) + 1)
        for sign in range(SIGNS):  # as good as random: sensitive to order, of the size of the rms
            weight = np.sqrt(2) * np.cos(2 * np.pi * ((index * (0.6180339887 + 0.1 * sign)) % 1))
            sums.append(float(values @ weight) / max(np.sqrt(len(values)), 1.0))
        numbers = [float(f"{number:.{DIGITS}g}") for number in sums]
        found[label] = [len(values), int((~known).sum()), *numbers]
    return found


def difference(kept, now, tolerance):
    """Return what differs between two digests in a line, or None.

    Numbers may differ by a share of the rms of their array: rounding differs between processors.
    """
    if sorted(kept) != sorted(now):
        return f"parts {sorted(now)}; kept {sorted(kept)}"
    for label, old in kept.items():
        new, scale = now[label], max(abs(old[2]), 1e-12)
        if old[:2] != new[:2]:
            return f"{label}: {new[0]} numbers, {new[1]} not finite; kept {old[0]}, {old[1]}"
        share = max(abs(a - b) for a, b in zip(old[2:], new[2:], strict=True)) / scale
        if share > tolerance:
            return f"{label} differs by {share:.2g} of its rms; expected {tolerance:.0e} at most"
    return None


def load(file=None):
    file = file or FILE
    return json.loads(file.read_text()) if file.exists() else {}


def verdict(kept, name, hash_, now, tolerance):
    """Return why a method's result is not the one that is kept, or None if it is."""
    renew = "run python tests/pipeline/digests/digest_store.py"
    if name not in kept:
        return f"{name} has no digest: {renew}"
    if kept[name]["hash"] != hash_:
        return f"{name} has another hash than its digest: {renew}"
    why = difference(kept[name]["values"], now, tolerance)
    if why is None:
        return None
    return f"{name} has other values under its hash ({why}): raise its revision, then {renew}"


def renewed(kept, found):
    """Return the digests that are kept, and in their place or beside them those that are found."""
    new = {name: {"hash": hash_, "values": values} for name, (hash_, values) in found.items()}
    return dict(sorted({**kept, **new}.items()))


def save(kept, file=None):
    """Write one line a part, so that a change is easy to read."""
    lines = []
    for name, entry in kept.items():
        parts = [f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in entry["values"].items()]
        body = ",\n".join(parts)
        head = f' {json.dumps(name)}: {{"hash": {json.dumps(entry["hash"])}, "values": {{'
        lines.append(f"{head}\n{body}\n }}}}")
    (file or FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main(arguments=None):
    import digest_cases

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", nargs="+", default=[], metavar="KIND/NAME")
    options = parser.parse_args(arguments)
    found, kept, names = {}, load(), []
    with tempfile.TemporaryDirectory() as folder:
        for name, registry, method in digest_cases.methods():
            names.append(name)
            told = any(fnmatch(name, pattern) for pattern in options.overwrite)
            same = kept.get(name, {}).get("hash") == digest_cases.hash_of(registry, method)
            if same and not told:
                continue
            values = digest(digest_cases.result(registry, method, Path(folder)))
            found[name] = (digest_cases.hash_of(registry, method), values)
    save({name: entry for name, entry in renewed(kept, found).items() if name in names})
    print(f"written: {sorted(found)}; kept under the hash that they had: {len(names) - len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
