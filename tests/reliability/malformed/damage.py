"""How whole inputs are damaged: by a function of the folder or file that holds them."""

import json

import numpy as np
import tiff_files as tiff


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
