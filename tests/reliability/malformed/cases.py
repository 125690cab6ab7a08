"""The malformed inputs of the reliability suite: who writes them, who reads them, what is said.

A case is written below a folder by a function of `damage` and read by the function of `readers`
that the pipeline reads it with.
"""

import datetime
import json
from dataclasses import dataclass

import numpy as np
import tiff_files as tiff
from malformed.damage import (
    colour,
    cut_encoder,
    edit_json,
    floats,
    frame_times,
    late,
    nan_encoder,
    other_encoder,
    overlapping,
    pickle_encoder,
    prepared_all_validation,
    scanimage,
    traces,
    twice,
    unreadable,
)

from pipeline.stimulus.images import write_png


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Parameters
    ----------
    reader : str
        Name in `readers.READERS`.
    write : callable
        Called with the path to write to; for bundles with a whole bundle to damage.
    words : tuple of str
        What the message must name: file and field, or the offending value.
    options : dict
        How the whole bundle is made.
    """

    reader: str
    write: object
    words: tuple
    options: dict


def step(**given):
    return lambda path: (path / "call.json").write_text(json.dumps(given))


def settings(**given):
    return lambda path: (path / "settings.json").write_text(json.dumps(given))


FUTURE = (datetime.datetime.now() + datetime.timedelta(days=3650)).isoformat(timespec="seconds")
MOVIE = {"tiff": True}


def _cases():
    """Yield (name, reader, write, words, options)."""
    for kind, words in tiff.BROKEN.items():
        if kind not in ("missing", "float pixels"):
            yield (
                f"tiff: {kind}",
                "movie",
                lambda path, kind=kind: tiff.break_file(kind, path / "broken.tif"),
                ("broken.tif", words),
                {},
            )
    yield "tiff: unreadable", "bundle", unreadable, ("scan.tif",), MOVIE
    bundles = {
        "scan: frame times missing": (
            lambda f: (f / "frame_times.csv").unlink(),
            ("frame_times.csv",),
            MOVIE,
        ),
        "scan: frame rate negative": (
            lambda f: frame_times(f, np.arange(600)[::-1] / 10),
            ("frame_times.csv", "time_s"),
            MOVIE,
        ),
        "scan: frame rate NaN": (
            lambda f: frame_times(f, [*np.arange(599) / 10, "nan"]),
            ("frame_times.csv", "time_s"),
            MOVIE,
        ),
        "scan: frame rate absurd": (
            lambda f: frame_times(f, np.arange(600) / 1e5),
            ("frame_times.csv", "Hz"),
            MOVIE,
        ),
        "scan: slices do not divide the frames": (
            lambda f: scanimage(
                f,
                600,
                hFastZ__enable="true",
                hStackManager__zs="[0 20 40]",
                hFastZ__numFramesPerVolume="3",
            ),
            ("frame_times.csv", "600 times"),
            MOVIE,
        ),
        "scan: date in the future": (
            lambda f: edit_json(f, scan_ts=FUTURE),
            ("recording.json", "scan_ts"),
            {},
        ),
        "scan: times in milliseconds": (
            lambda f: frame_times(f, np.arange(600) * 100.0),
            ("frame_times.csv", "Hz"),
            MOVIE,
        ),
        "scan: pixel size in meters": (
            lambda f: edit_json(
                f,
                imaging={
                    "traces": "traces.npz",
                    "masks": "masks.npz",
                    "um_per_px": [1.5e-6, 1.5e-6],
                },
            ),
            ("recording.json", "um_per_px"),
            {},
        ),
        "scan: wrong encoding": (
            lambda f: (f / "recording.json").write_bytes(
                (f / "recording.json").read_bytes().replace(b"bench", b"b\xfchne")
            ),
            ("recording.json", "UTF-8"),
            {},
        ),
        "scan: a note of 10 MB": (
            lambda f: edit_json(f, note="x" * 10_000_000),
            ("recording.json", "bytes"),
            {},
        ),
        "scan: SQL in a name": (
            lambda f: edit_json(f, rig="x'; DROP TABLE scan; --"),
            ("recording.json", "rig"),
            {},
        ),
        "scan: path traversal": (
            lambda f: edit_json(f, imaging={"files": ["../../etc/passwd"]}),
            ("recording.json", "imaging.files", "passwd"),
            {},
        ),
        "traces: one is NaN": (
            lambda f: traces(f, lambda v: np.where(np.arange(len(v))[:, None] == 2, np.nan, v)),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: one is infinite": (
            lambda f: traces(f, lambda v: np.where(v == v.max(), np.inf, v)),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: constant": (
            lambda f: traces(f, lambda v: np.full_like(v, 3.0)),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: all zero": (
            lambda f: traces(f, np.zeros_like),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: length differs from the times": (
            lambda f: traces(f, times=lambda t: t[:-5]),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: shorter than a second": (
            lambda f: traces(f, lambda v: v[:, :9], lambda t: t[:9]),
            ("traces.npz",),
            {},
        ),
        "traces: no neuron": (
            lambda f: traces(f, lambda v: v[:0]),
            ("traces.npz", "fluorescence"),
            {},
        ),
        "traces: times go back": (
            lambda f: traces(f, times=lambda t: t[::-1]),
            ("traces.npz", "time_s"),
            {},
        ),
        "stimulus: image missing": (
            lambda f: (f / "images" / "picture_3.png").unlink(),
            ("trials.csv", "picture_3"),
            {},
        ),
        "stimulus: image of another size": (
            lambda f: write_png(f / "images" / "picture_1.png", np.zeros((40, 64), np.uint8)),
            ("picture_1", "size"),
            {},
        ),
        "stimulus: images from 0 to 1": (floats, ("images.npz", "images"), {"npz": True}),
        "stimulus: three channels": (colour, ("picture_1.png",), {}),
        "stimulus: one name, other pixels": (twice, ("images.npz", "names"), {"npz": True}),
        "stimulus: onset after the end": (late, ("trials.csv", "onset_s"), {}),
    }
    for name, (damage, words, options) in bundles.items():
        yield name, "bundle", damage, words, options
    yield "scan: fields overlap", "movie", overlapping, ("broken.tif", "RoiGroups"), {}
    others = [
        ("stimulus: nothing to train on", "dataset", prepared_all_validation, ("tiers",)),
        ("stimulus: no repeats", "call", step(step="oracle", repeats=1), ("image_id",)),
        ("model: file cut short", "encoder", cut_encoder, ("model.safetensors",)),
        ("model: pickle payload", "encoder", pickle_encoder, ("model.safetensors",)),
        ("model: other architecture", "encoder", other_encoder, ("model.safetensors",)),
        ("model: NaN weights", "encoder", nan_encoder, ("model.safetensors",)),
        ("model: unknown section", "settings", settings(seeds=[1]), ("seeds",)),
        ("model: device absent", "call", step(step="pick", device="cuda:7"), ("cuda",)),
        ("mei: contrast 0", "call", step(step="display", mean=10.0, sd=0.0), ("cd/m2",)),
        ("mei: diverges", "call", step(step="ascend", scale="nan"), ("output 0",)),
    ]
    for name, reader, write, words in others:
        yield name, reader, write, words, {}


CASES = {name: Case(*rest) for name, *rest in _cases()}


def prepare(name, folder, write_bundle):
    """Write a case below a folder, with the files that `read` needs; return the folder."""
    case = CASES[name]
    folder.mkdir(parents=True)
    if case.reader == "bundle":
        where = write_bundle(f"bundle_{folder.name}", **case.options)
    else:
        where = folder
    case.write(where)
    (folder / "reader").write_text(case.reader)
    (folder / "input").write_text(str(where))
    return folder
