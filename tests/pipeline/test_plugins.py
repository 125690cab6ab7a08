"""Methods of other packages: found by name in every process, with a hash of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = """
    import numpy as np

    from pipeline.imaging.adapters.base import Adapter, SourceMovie, SourceScan, adapters
    from pipeline.mei.controls import control_kinds
    from pipeline.mei.controls.base import finished
    from pipeline.mei.objectives import objectives
    from pipeline.model.cores import cores

    @cores.register("lab_core")
    def lab_core(*, channels: int = 4, kernel: int = 5):
        return cores["gaussian_laplace"](channels=channels, layers=1, input_kernel=kernel)

    @objectives.register("lab_objective")
    def lab_objective(view, images, *, power: float = 2.0):
        return view.rates(images).clamp_min(0) ** power

    @control_kinds.register("lab_kind")
    def lab_kind(context):
        flipped = np.ascontiguousarray(np.asarray(context.mei_images)[:, :, ::-1])
        return finished(context, context.zscore(flipped), [{} for _ in context.units])

    def open_lab(path, *, fps=None, um_per_px=None):
        with open(path, "rb") as stream:
            frames = np.load(stream, allow_pickle=False)
        movie = SourceMovie(lambda start, stop: frames[start:stop], frames.shape, fps, um_per_px,
                            bidirectional=False, file=path)
        return SourceScan([movie], path)

    adapters.append(Adapter("lab", lambda path: path.suffix == ".lab", open_lab))
"""


def installed(folder, code, name="our_lab"):
    """Write a laboratory's package as pip would have installed it; return the folder."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    about = folder / f"{name}-0.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    (about / "entry_points.txt").write_text(f"[inception.plugins]\nlab = {name}\n")
    return folder


def run(folder, code, **environment):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("lab"), METHODS)


def test_a_core_trains_and_its_encoder_is_read_in_a_fresh_process(lab):
    train = """
        import numpy as np
        from pipeline import model
        from pipeline.dataset import Dataset

        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60, 18, 32)).astype(np.uint8)
        responses = rng.gamma(2, 1, (60, 3)).astype(np.float32)
        tiers = np.repeat(["train", "validation", "test"], 20)
        data = Dataset(images, np.arange(60), np.arange(60), responses, tiers)
        config = {"core": {"name": "lab_core"}, "training": {"name": "plateau", "max_epochs": 1}}
        encoder = model.build_encoder(config, data, seed=1)
        model.train(encoder, data, seed=1)
        model.save_encoder(encoder, "lab.safetensors")
        print(float(encoder.predict(images[:4]).sum()))
    """
    read = """
        import numpy as np
        from pipeline import model

        images = np.random.default_rng(0).integers(0, 256, (60, 18, 32)).astype(np.uint8)
        print(float(model.load_encoder("lab.safetensors").predict(images[:4]).sum()))
    """
    first, second = run(lab, train), run(lab, read)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert float(first.stdout) == pytest.approx(float(second.stdout), rel=1e-6)


def test_an_objective_and_a_kind_have_their_place_in_a_recipe(lab):
    code = """
        from schemas.decisions.recipe import complete_recipe
        from pipeline.registry import config_hash

        mine = {"mei": {"params": {"objective": {"name": "lab_objective", "power": 3.0}}},
                "controls": [{"method": "mei"}, {"method": "lab_kind"}]}
        full = complete_recipe(mine)
        assert full["mei"]["params"]["objective"] == {"name": "lab_objective", "power": 3}
        assert full["controls"][1]["method"] == "lab_kind"
        other = {**mine, "mei": {"params": {"objective": {"name": "lab_objective"}}}}
        print(config_hash(full), config_hash(complete_recipe(other)))
    """
    done = run(lab, code)
    assert done.returncode == 0, done.stderr
    hashes = done.stdout.split()
    assert len(hashes) == len(set(hashes)) == 2


def test_a_reader_opens_what_this_program_cannot(lab):
    code = """
        import numpy as np
        from pathlib import Path
        from pipeline.imaging.adapters import open_source

        frames = np.arange(5 * 8 * 6, dtype=np.int16).reshape(5, 8, 6)
        with open("movie.lab", "wb") as stream:
            np.save(stream, frames)
        np.testing.assert_array_equal(open_source("movie.lab", fps=10.0).movie()[:], frames)
    """
    done = run(lab, code)
    assert done.returncode == 0, done.stderr


LOOK = "from pipeline.imaging.motion import motion_methods as m; print('ours' in m, 'mine' in m)"
MOTION = """
    from pipeline.imaging.motion import motion_methods

    @motion_methods.register("mine")
    def mine(movie):
        return None
"""


def test_a_module_of_the_environment_is_a_plugin_too(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MOTION))
    assert run(tmp_path, LOOK).stdout.split() == ["False", "False"]
    assert run(tmp_path, LOOK, INCEPTION_PLUGINS=" mine,").stdout.split() == ["False", "True"]


def test_a_plugin_that_cannot_be_imported_is_named_in_one_line(tmp_path):
    installed(tmp_path, "import no_such_package\n", "broken_lab")
    done = run(tmp_path, LOOK)
    last = done.stderr.strip().splitlines()[-1]
    assert "broken_lab 0.3: broken_lab: plug-in cannot be imported" in last
    assert "no_such_package" in last
    assert done.returncode == 1
