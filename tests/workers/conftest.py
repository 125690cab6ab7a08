"""A database for the workers' tests: the embedded one, or the MySQL that DJ_HOST names."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import datajoint as dj
import pytest
from typer.testing import CliRunner

from workers.cli import app
from workers.compute.options import Options
from workers.compute.worker import run_worker
from workers.database import embedded
from workers.queue import order, tables
from workers.queue.lease import Ledger

HERE = Path(__file__).parent
MODULES = (HERE, HERE.parent / "reliability" / "harness")  # of the toy tables, for all processes


class Bench:
    """A database with a toy pipeline of its own prefix, and workers to be started and killed."""

    def __init__(self, home):
        self.home = home
        self.prefix = "t" + uuid.uuid4().hex[:8]
        self.environment = {
            **os.environ,
            "INCEPTION_HOME": str(home),
            "PYTHONPATH": os.pathsep.join(map(str, MODULES)),
        }
        self.workers = []

    def worker(self, *arguments):
        """Start `inception worker` on the toy tables."""
        command = [sys.executable, "-m", "workers.cli", "worker", "--schemas", "toy_tables"]
        command += ["--prefix", self.prefix, "--sleep-duration", "0.3", *map(str, arguments)]
        with (self.home / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=HERE.parents[1], stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def options(self, **changed):
        """Options of a worker on the toy tables that ends when nothing is left to do."""
        base = {"source": "toy_tables", "prefix": self.prefix, "home": self.home}
        return Options(**{**base, "exit_when_idle": True, "sleep_duration": 0.3, **changed})

    def work(self, **changed):
        """Work in this process until nothing is left to do; return the worker's summary."""
        return run_worker(self.options(**changed))

    def seeds(self, count, pause_s=0.0, mood="good", start=0):
        """Insert keys to compute."""
        self.toy.Seed.insert([(start + i, pause_s, mood) for i in range(count)])

    def opened(self):
        """The job tables, and the toy tables in their order."""
        return Ledger(self.connection), order.load("toy_tables", self.prefix)

    def inception(self, *arguments):
        """Run a verb on the toy tables in this process; return exit code and what it printed."""
        more = ["--schemas", "toy_tables", "--prefix", self.prefix, "--home", str(self.home)]
        done = CliRunner().invoke(app, [*map(str, arguments), *more])
        return done.exit_code, done.output

    def store_files(self):
        """The files of the toy tables in the store."""
        top = Path(dj.config.stores["main"]["location"]) / "_schema" / f"{self.prefix}_toy"
        return sorted(path for path in top.rglob("*") if path.is_file())

    def activate(self):
        """Bind toy and job tables, making what is missing."""
        self.toy.activate(prefix=self.prefix)
        self.tables.activate(self.prefix)

    def drop(self):
        """Drop the schemas, so that the same modules can serve other ones."""
        for suffix in ("toy", "workers"):
            dj.Schema(f"{self.prefix}_{suffix}", connection=self.connection).drop(prompt=False)
        self.unbind()

    def unbind(self):
        """Let the same modules serve the schemas of another test."""
        for schema in (self.toy.schema, self.tables.schema):
            schema.database = schema.connection = None

    def wait(self, condition, timeout_s=180.0):
        """Wait until something holds; fail with the workers' log if it never does."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(0.05)

    def log(self):
        """What the workers said, without the jobs that went well."""
        lines = (self.home / "workers.log").read_text().splitlines()
        return "\n".join(line for line in lines if not line.startswith("done"))


@pytest.fixture(scope="session")
def server_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    yield home
    embedded.remove(home)


@pytest.fixture
def bench(server_home, monkeypatch):
    """Toy tables in schemas of their own, dropped at the end."""
    for folder in MODULES:
        monkeypatch.syspath_prepend(str(folder))
    import toy_tables as toy

    made = Bench(server_home)
    made.toy, made.tables, made.connection = toy, tables, embedded.connect(server_home)
    made.unbind()
    made.activate()
    tables.declare()
    yield made
    for process in made.workers:
        if process.poll() is None:
            process.kill()
            process.wait()
    embedded.connect(server_home)
    made.drop()
