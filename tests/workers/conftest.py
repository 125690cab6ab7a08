"""A database for the workers' tests: the embedded one, or the MySQL that DJ_HOST names."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from workers.database import embedded

HERE = Path(__file__).parent


class Bench:
    """A database with a toy pipeline of its own prefix, and workers to be started and killed."""

    def __init__(self, home):
        self.home = home
        self.prefix = "t" + uuid.uuid4().hex[:8]
        self.environment = {**os.environ, "INCEPTION_HOME": str(home), "PYTHONPATH": str(HERE)}
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
    import datajoint as dj

    from workers.queue import tables

    monkeypatch.syspath_prepend(str(HERE))
    import toy_tables as toy

    connection = embedded.connect(server_home)
    made = Bench(server_home)
    for schema in (toy.schema, tables.schema):
        schema.database = schema.connection = None  # the same modules serve every test's schemas
    toy.activate(prefix=made.prefix)
    tables.activate(made.prefix)
    tables.declare()
    made.toy, made.tables, made.connection = toy, tables, connection
    yield made
    for process in made.workers:
        if process.poll() is None:
            process.kill()
            process.wait()
    embedded.connect(server_home)
    for suffix in ("toy", "workers"):
        dj.Schema(f"{made.prefix}_{suffix}", connection=connection).drop(prompt=False)
    for schema in (toy.schema, tables.schema):
        schema.database = schema.connection = None  # what is dropped is not there for others
