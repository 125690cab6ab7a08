"""Who reads the malformed inputs: functions of paths, so that a worker's process can call them."""

import json
from pathlib import Path

import numpy as np


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
