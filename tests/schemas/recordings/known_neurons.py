"""Small recordings of neurons that are known exactly, and the way of one through all tables."""

import json

import numpy as np
import pandas as pd

SHAPE, UNITS, FPS, DECAY_S = (36, 64), 8, 10.0, 0.3
# of the masks; on a lattice the field would fit at other places as well
CORNERS = ((8, 6), (30, 9), (11, 24), (39, 25), (18, 40), (45, 44), (6, 50), (48, 8))
RECIPE = {
    "imaging": {"deconvolution": {"method": "derivative", "params": {}}},
    "model": {
        "cnn": {"core": {"name": "linear"}, "training": {"name": "plateau", "max_epochs": 15}},
        "ln": {"core": {"name": "linear"}, "training": {"name": "plateau", "max_epochs": 4}},
        "cnn_seeds": [1],
        "ln_seeds": [1],
    },
    "targets": {"method": None, "params": {"edge_um": 0.0, "distance_um": 0.0}},
    "mei": {"batch_size": 4},
    "controls": [{"method": kind, "params": {}} for kind in ("mei", "rf", "mni", "fni")],
    "plan": {"n_natural": 4},
    "analyses": [],
}


def trained_for(epochs, recipe=RECIPE):
    """Return a recipe whose networks are trained for fewer epochs."""
    training = {"name": "plateau", "max_epochs": epochs}
    models = {kind: {**recipe["model"][kind], "training": training} for kind in ("cnn", "ln")}
    return {**recipe, "model": {**recipe["model"], **models}}


def filters():
    """Return a Gabor for every unit, shape (units, h, w), of unit norm."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = []
    for unit in range(UNITS):
        cy, cx, angle = 12 + 12 * (unit % 2), 12 + 12 * (unit // 2), unit * np.pi / UNITS
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        envelope = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 3.0**2))
        gabor = envelope * np.cos(2 * np.pi * along / 9 + unit)
        found.append(gabor / np.linalg.norm(gabor))
    return np.stack(found)


def smooth_images(n, seed):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(n, *SHAPE))
    noise = np.stack([gaussian_filter(image, 2) for image in noise])
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return np.clip(110 + 55 * noise, 0, 255).astype(np.uint8)


def drive(images):
    """Return what rectified neurons do, shape (images, units)."""
    z = (images.astype(float) - 110) / 55
    return np.maximum(np.einsum("nhw,uhw->nu", z, filters()), 0)


def record(folder, animal, session, images, names, trials, plan=None, scan_idx=1):
    """Write a recording of the known neurons: activity in the image's window, then calcium."""
    from pipeline.stimulus.images import write_png

    (folder / "images").mkdir(parents=True)
    for name, image in zip(names, images, strict=True):
        write_png(folder / "images" / f"{name}.png", image)
    frames = int((trials["onset_s"].max() + 3) * FPS)
    time = np.arange(frames) / FPS
    response = drive(images)
    row = {name: index for index, name in enumerate(names)}
    spikes = np.zeros((UNITS, frames))
    for trial in trials.itertuples():
        on = (time >= trial.onset_s + 0.05) & (time < trial.onset_s + 0.55)
        spikes[:, on] += response[row[trial.image]][:, None]
    spikes *= np.random.default_rng(session).gamma(20, 1 / 20, spikes.shape)
    calcium = np.zeros_like(spikes)
    for frame in range(1, frames):
        calcium[:, frame] = calcium[:, frame - 1] * np.exp(-1 / FPS / DECAY_S) + spikes[:, frame]
    calcium += np.random.default_rng(9).normal(0, 0.05, calcium.shape)
    masks = np.zeros((UNITS, 64, 64), bool)
    for unit, (top, left) in enumerate(CORNERS):  # every day is shifted by another (2, -1) pixels
        top, left = top + 2 * (session - 1), left - (session - 1)
        masks[unit, top : top + 6, left : left + 6] = True
    texture = np.random.default_rng(4).random((68, 66))
    mean = texture[6 - 2 * session :, session - 1 :][:64, :64] + 2 * masks.sum(0)
    np.savez(folder / "traces.npz", time_s=time, fluorescence=calcium.astype(np.float32))
    np.savez(folder / "masks.npz", masks=masks, mean_image=mean.astype(np.float32))
    named = trials.assign(image=[f"{name}.png" for name in trials["image"]])
    named.to_csv(folder / "trials.csv", index=False)
    pixels = np.arange(0, 256, 5)
    pd.DataFrame(
        {"pixel_value": pixels, "luminance_cd_m2": 0.3 + 40 * (pixels / 255) ** 2.0}
    ).to_csv(folder / "monitor.csv", index=False)
    (folder / "recording.json").write_text(
        json.dumps(
            {
                "format": "inception-recording/1",
                "animal_id": animal,
                "session": session,
                "scan_idx": scan_idx,
                "scan_ts": f"2026-11-2{session}T09:00:00",
                "rig": "bench",
                "imaging": {"traces": "traces.npz", "masks": "masks.npz", "um_per_px": [2, 2]},
                "indicator": "GCaMP6f",
                "monitor": {"width_px": 64, "height_px": 36, "calibration": "monitor.csv"},
                "plan": plan,
            }
        )
    )
    return folder


def write_stack(folder, animal, bundle):
    """Write a stack in which the field of a recording is the third of seven slices."""
    from scipy.ndimage import gaussian_filter1d

    folder.mkdir()
    with np.load(bundle / "masks.npz") as file:
        mean = file["mean_image"]
    volume = np.random.default_rng(8).random((7, 80, 80)).astype(np.float32)
    volume = 2 * gaussian_filter1d(volume, 1, axis=0)
    volume[2, 10:74, 6:70] = mean
    np.save(folder / "stack.npy", volume)
    content = {"format": "inception-stack/1", "animal_id": animal, "session": 2, "stack_idx": 1}
    content |= {"file": "stack.npy", "um_per_voxel": [8.0, 2.0, 2.0]}
    (folder / "stack.json").write_text(json.dumps(content))
    return folder


def populate(database, animal, after=None, without=()):
    """Compute everything of one animal but some stages, in the order of the foreign keys.

    `after` is called with the name of each table when it is filled. Other tests of this process
    have left tasks of other animals in the same tables: a key without an animal says nothing.
    """
    from workers.queue.order import load

    tasks, own = load("schemas", database.active_prefix()), keys_of(animal)
    for task in tasks:
        if task.name.startswith("imaging.") and "animal_id" not in task.table.primary_key:
            continue  # classifiers are of many animals
        if task.name.split(".")[0] in without:
            continue
        known = [name for name in own if name in task.table().primary_key]
        keys = [own[name] for name in known]
        if all(keys):
            task.table.populate(*keys, suppress_errors=False)
        if after is not None:
            after(task.name)


def keys_of(animal):
    """Return what keys of an animal's rows hold: by name, a list of restrictions."""
    from schemas import closed_loop, dataset, model

    own = {"animal_id": [{"animal_id": animal}]}
    own["dataset_hash"] = (
        (dataset.DatasetSpec.Scan & own["animal_id"]).proj().to_arrays("dataset_hash")
    )
    members = model.EnsembleSpec.Member & only("dataset_hash", own["dataset_hash"])
    own["ensemble_hash"] = members.to_arrays("ensemble_hash")
    plans = closed_loop.PlanTask & only("ensemble_hash", own["ensemble_hash"])
    own["plan_id"] = plans.to_arrays("plan_id")
    return {"animal_id": own["animal_id"]} | {
        name: only(name, own[name]) for name in ("dataset_hash", "ensemble_hash", "plan_id")
    }


def only(name, values):
    return [{name: str(value)} for value in sorted(set(values))]


def shown_trials(count=400, repeated=20):
    """Return the natural images of day 1 by name, and their trials."""
    total = count + repeated
    order = [*range(count), *np.repeat(range(count, total), 4)]
    order = np.random.default_rng(2).permutation(order)
    trials = pd.DataFrame({"trial_idx": range(len(order)), "image": [f"n{i}" for i in order]})
    trials["onset_s"] = 2 + 1.1 * np.arange(len(order))
    trials["offset_s"] = trials["onset_s"] + 0.5
    return [f"n{i}" for i in range(total)], trials


def walk(database, folder, animal, recipe, targets=10, minutes=8, count=400, repeated=20):
    """Ingest day 1, compute its plan, and ingest the answer of a rig that drops one trial."""
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    names, trials = shown_trials(count, repeated)
    images = smooth_images(len(names), seed=1)
    day1 = ingest_bundle(record(folder / "day1", animal, 1, images, names, trials))
    made = tasks.register_loop(day1, recipe, targets=targets, minutes=minutes)
    populate(database, animal)
    bundle = write_answer(folder / "day2", animal, made)
    return day1, made, ingest_bundle(bundle), bundle


def write_answer(folder, animal, made, scan_idx=1):
    """Write the recording of a plan in session 2, without one of its trials."""
    from schemas import closed_loop, stimulus

    plan = {"plan_id": made["plan_id"]}
    planned = pd.DataFrame((closed_loop.Plan.Trial & plan).to_dicts(order_by="trial_idx"))
    hashes = sorted(set(planned["image_hash"]))
    pixels = stimulus.load_images(stimulus.ImageSet.locate(hashes))
    shown = planned.drop(index=[5]).reset_index(drop=True)
    shown = shown.rename(columns={"image_hash": "image"})[["trial_idx", "image", "blank_before_s"]]
    shown["onset_s"] = 2 + 1.1 * np.arange(len(shown))
    shown["offset_s"] = shown["onset_s"] + 0.5
    shown["blank_before_s"] = 1.0
    stack = np.stack([np.asarray(pixels[name]) for name in hashes])
    return record(folder, animal, 2, stack, hashes, shown, made["plan_id"], scan_idx)
