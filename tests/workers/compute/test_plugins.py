"""`inception worker` computes with the methods of a package that is not this program's."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import datajoint as dj
import numpy as np
import pytest
import tifffile
from borrowed import load

from pipeline.stages import STAGES
from workers.database import embedded
from workers.database.datajoint_internals import quoter

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = load(next((ROOT / "tests" / "pipeline").rglob("test_plugins.py")))
SETTINGS = {"training": {"name": "plateau", "max_epochs": 1, "batch_size": 16}}
RECIPE = {
    "model": {
        "cnn": {"core": {"name": "lab_core"}, **SETTINGS},
        "ln": {"core": {"name": "linear"}, **SETTINGS},
        "cnn_seeds": [1],
        "ln_seeds": [1],
        "combination": None,
    },
    "targets": {"method": "validation", "params": {"min_oracle": -1.0, "min_score": -1.0}},
    "mei": {"params": {"objective": {"name": "lab_objective", "power": 3.0}, "steps": 2}},
    "controls": [{"method": "mei"}, {"method": "lab_kind"}],
    "analyses": [],
}
REGISTER = """
import json
import sys

import schemas
from schemas import imaging
from schemas.decisions import tasks
from schemas.decisions.ingest import ingest_bundle, ingest_dataset

prefix, recipe, prepared, bundle = sys.argv[1:]
schemas.activate(prefix)
tasks.register_dataset(ingest_dataset(prepared), json.loads(recipe), targets=1)
scan = ingest_bundle(bundle)
imaging.ImagingTask.insert1({**scan, **imaging.ImagingRecipe.add()})
"""
write_bundle = load("schemas/conftest.py").write_bundle


@pytest.fixture
def next_animal():
    return 1


@pytest.fixture
def deployment(server_home):
    """A prefix of its own, and what reads its tables; dropped at the end."""
    connection = embedded.connect(server_home)
    prefix = "p" + uuid.uuid4().hex[:8]
    quote = quoter(connection)

    def rows(stage, table):
        name = f"{quote(f'{prefix}_{stage}')}.{quote(table)}"
        return dj.FreeTable(connection, name).to_dicts()

    yield prefix, rows
    embedded.connect(server_home)
    for stage in ("workers", *reversed(STAGES)):
        dj.Schema(f"{prefix}_{stage}", connection=connection).drop(prompt=False)


def prepared(path):
    """Write the responses of two cells that see one spot each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 18, 32), dtype=np.uint8)
    images[60:] = images[60:64].repeat(10, axis=0)  # four test images, ten repeats each
    drive = np.stack([images[:, 6:12, x : x + 5].mean(axis=(1, 2)) for x in (4, 20)], axis=1)
    np.savez(
        path,
        images=images,
        responses=np.maximum(drive - 110, 0) + rng.random((100, 2)),
        tiers=np.array(["train"] * 40 + ["validation"] * 20 + ["test"] * 40),
        image_id=np.concatenate([np.arange(60), 60 + np.arange(40) // 10]),
        um_xyz=np.array([[0.0, 0, 100], [50, 0, 100]]),
    )
    return path


def lab_movie(folder):
    """Turn the TIFF file of a bundle into one that the plug-in alone can read."""
    movie = tifffile.imread(folder / "scan.tif")
    (folder / "scan.tif").unlink()
    with (folder / "scan.lab").open("wb") as stream:
        np.save(stream, movie)
    return folder


@pytest.mark.tables
def test_a_worker_computes_with_the_core_objective_kind_and_reader_of_a_package(
    server_home, deployment, write_bundle, tmp_path
):
    prefix, rows = deployment
    lab = PLUGINS.installed(tmp_path, PLUGINS.METHODS)
    imaging = {"files": ["scan.lab"], "channel": 1, "um_per_px": [1.5, 1.5]}
    bundle = lab_movie(write_bundle(tiff=True, imaging=imaging))
    environment = {
        **os.environ,
        "INCEPTION_HOME": str(server_home),
        "PYTHONPATH": os.pathsep.join([str(lab), str(ROOT)]),
    }

    def run(*command):
        program = [sys.executable, *map(str, command)]
        done = subprocess.run(program, env=environment, cwd=lab, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    run("-c", REGISTER, prefix, json.dumps(RECIPE), prepared(tmp_path / "prepared.npz"), bundle)
    options = ("--prefix", prefix, "--sleep-duration", 0.3)
    run("-m", "workers.cli", "worker", "--exit-when-idle", *options)

    (info,) = rows("imaging", "_scan_info")
    assert info["n_frames"] == 600
    configs = {row["model_hash"]: row["model_config"] for row in rows("model", "#model_config")}
    cores = {configs[row["model_hash"]]["core"]["name"] for row in rows("model", "__trained_model")}
    assert cores == {"lab_core", "linear"}
    (mei,) = rows("mei", "__m_e_i")
    (ascent,) = [m for m in rows("mei", "#ascent_method") if m["ascent_hash"] == mei["ascent_hash"]]
    assert ascent["ascent_params"]["objective"] == {"name": "lab_objective", "power": 3.0}
    assert sorted(row["kind"] for row in rows("mei", "__control")) == ["lab_kind", "mei"]
    (environment,) = rows("workers", "environment")
    assert environment["packages"]["our-lab"] == "0.3"
