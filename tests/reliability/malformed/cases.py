"""The malformed inputs of the reliability suite: who writes them, who reads them, what is said.

A case is written below a folder and read by the function that the pipeline reads it with. Readers
take paths only, so that a worker's process can read what a test has written.
"""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from borrowed import load

from pipeline.stimulus.images import write_png

tiff = load("pipeline/imaging/test_tiff.py")


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Parameters
    ----------
    reader : str
        Name in `READERS`.
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


def read_bundle(path):
    """Check a bundle as `ingest` does, then read its movie as motion correction does."""
    from pipeline.imaging.tiff import open_scan
    from pipeline.recording.bundle import read_bundle

    bundle = read_bundle(path)
    if "tiff" in bundle.files:
        open_scan(bundle.files["tiff"], fps=10.0).movie()[:]


def read_movie(path):
    from pipeline.imaging.tiff import open_scan

    open_scan(path / "broken.tif").movie()[:]


def read_dataset(path):
    from pipeline.dataset import load

    data, _ = load(path / "prepared.npz").complete()
    return data.stats


def read_encoder(path):
    from pipeline.model import load_encoder

    load_encoder(path / "model.safetensors")


def read_settings(path):
    """Complete the parameters of a training, as registering it does."""
    from pipeline.model import complete_config

    complete_config(json.loads((path / "settings.json").read_text()))


def call(path):
    """Run one step of the pipeline with the parameters that a file gives."""
    given = json.loads((path / "call.json").read_text())
    STEPS[given.pop("step")](**given)


READERS = {
    "bundle": read_bundle,
    "movie": read_movie,
    "dataset": read_dataset,
    "encoder": read_encoder,
    "settings": read_settings,
    "call": call,
}


def read(path):
    """Read the input below a folder by the reader that its file `reader` names."""
    path = Path(path)
    READERS[(path / "reader").read_text()](Path((path / "input").read_text()))


# ---- steps that are asked for what cannot be


def pick(device):
    from pipeline.device import pick_device

    pick_device(device)


def display(mean, sd):
    """Show an image at a contrast that no image can have."""
    from pipeline.stimulus.display import to_monitor
    from pipeline.stimulus.monitor import MonitorCurve

    pixels = np.arange(0.0, 256.0)
    curve = MonitorCurve(pixels, 0.3 + 30 * (pixels / 255) ** 2.2)
    images = np.random.default_rng(0).normal(size=(1, 18, 32))
    to_monitor(images, curve, mean_cd_m2=mean, sd_cd_m2=sd)


def oracle(repeats):
    """Ask for reliability where no image was repeated."""
    from pipeline.dataset.reliability import oracle_correlation

    trials = np.random.default_rng(0).random((20 * repeats, 3))
    oracle_correlation(trials, np.repeat(np.arange(20), repeats))


def ascend(scale):
    """Climb on a model whose weights have run away."""
    import torch

    from pipeline.mei.synthesize import synthesize

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(18 * 32, 2))
    torch.nn.init.constant_(model[1].weight, float(scale))
    synthesize(
        model, [0], shape=(1, 18, 32), mean=128.0, sd=50.0, device="cpu", params={"steps": 3}
    )


STEPS = {"pick": pick, "display": display, "oracle": oracle, "ascend": ascend}

# ---- how whole inputs are damaged


def edit_json(folder, **entries):
    path = folder / "recording.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def edit_text(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def frame_times(folder, times):
    lines = "".join(f"{i},{t}\n" for i, t in enumerate(times))
    (folder / "frame_times.csv").write_text("frame,time_s\n" + lines)


def traces(folder, change=lambda values: values, times=lambda values: values):
    with np.load(folder / "traces.npz") as stored:
        time, values = stored["time_s"], stored["fluorescence"]
    np.savez(folder / "traces.npz", time_s=times(time), fluorescence=change(values))


def unreadable(folder):
    """Make it unreadable for everybody, root too: a device that refuses every read."""
    path = folder / "scan.tif"
    path.unlink()
    path.symlink_to("/proc/self/mem")


def scanimage(folder, pages, **header):
    tiff.write(folder / "scan.tif", tiff.pages_of(pages), header=tiff.software(**header))


def overlapping(path):
    fields = [
        {"centerXY": [0, y], "sizeXY": [1, 1], "rotationDegrees": 0, "pixelResolutionXY": [24, 12]}
        for y in (0, 1)
    ]
    rois = [{"zs": 0, "discretePlaneMode": 0, "scanfields": field} for field in fields]
    artist = {"RoiGroups": {"imagingRoiGroup": {"rois": rois}}}
    header = tiff.software(hRoiManager__mroiEnable="true")
    tiff.write(path / "broken.tif", tiff.pages_of(4), header=header, artist=artist)


def prepared(path, **changed):
    rng = np.random.default_rng(0)
    tiers = np.array(["train"] * 30 + ["validation"] * 10)
    arrays = {
        "images": rng.integers(0, 256, (40, 18, 32), dtype=np.uint8),
        "responses": rng.random((40, 4)),
        "tiers": tiers,
        "image_id": np.arange(40),
        **changed,
    }
    np.savez(path / "prepared.npz", **arrays)


def encoder(path, damage):
    from pipeline.dataset import load as read_prepared
    from pipeline.model import build_encoder, save_encoder

    prepared(path)
    made = build_encoder({"core": {"name": "linear"}}, read_prepared(path / "prepared.npz"))
    save_encoder(made, path / "model.safetensors")
    damage(path / "model.safetensors")


def other_weights(path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    first = next(name for name in sorted(weights) if weights[name].dim() > 1)
    weights[first] = weights[first][..., :1].contiguous()
    save_file(weights, path, metadata)


def nan_weights(path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    first = next(name for name in sorted(weights) if weights[name].dim() > 1)
    weights[first] = torch.full_like(weights[first], torch.nan)
    save_file(weights, path, metadata)


def pickled(path):
    import pickle

    path.write_bytes(pickle.dumps(print))


def twice(folder):
    rng = np.random.default_rng(9)
    names = [f"picture_{index}.png" for index in range(12)]
    names[5] = names[4]
    images = rng.integers(0, 256, (12, 36, 64), dtype=np.uint8)
    np.savez(folder / "images.npz", names=np.array(names), images=images)


def floats(folder):
    names = np.array([f"picture_{index}.png" for index in range(12)])
    np.savez(
        folder / "images.npz", names=names, images=np.random.default_rng(9).random((12, 36, 64))
    )


def colour(folder):
    import cv2

    picture = np.random.default_rng(9).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "images" / "picture_1.png"), picture)


def late(folder):
    lines = (folder / "trials.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    moved = [[r[0], r[1], str(float(r[2]) + 600), str(float(r[3]) + 600), r[4]] for r in rows]
    text = "\n".join([lines[0], *(",".join(row) for row in moved)])
    (folder / "trials.csv").write_text(text + "\n")


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


def prepared_all_validation(path):
    prepared(path, tiers=np.array(["validation"] * 40))


def cut_encoder(path):
    encoder(path, lambda file: file.write_bytes(file.read_bytes()[:200]))


def pickle_encoder(path):
    encoder(path, pickled)


def other_encoder(path):
    encoder(path, other_weights)


def nan_encoder(path):
    encoder(path, nan_weights)


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
