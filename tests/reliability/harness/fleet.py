"""Workers to be started, killed and started again, on a pipeline of their own prefix."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import datajoint as dj
import psutil
import storm_tables

from schemas.clock import now_sql
from workers.database import embedded, server
from workers.queue import jobs, order, tables
from workers.queue.lease import Ledger

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


class Fleet:
    """The storm tables in schemas of their own, and the workers on them.

    Parameters
    ----------
    home : path
        Home of the embedded database, the store and the workers' log.
    declare : bool
        False leaves the server empty, for the workers to make the tables.
    prefix : str, optional
        That of a fleet whose copy this one works on.
    """

    def __init__(self, home, *, declare=True, prefix=None):
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.prefix = prefix or "r" + uuid.uuid4().hex[:8]
        self.log_file = self.home / f"{self.prefix}.log"
        self.environment = {
            **os.environ,
            "INCEPTION_HOME": str(home),
            "PYTHONPATH": os.pathsep.join(
                map(str, (HERE, HERE.parent, HERE.parents[1] / "builders", ROOT))
            ),
        }
        self.workers = []
        self.connection = embedded.connect(home)
        if declare:
            self.bind()

    def bind(self):
        """Bind the tables to this fleet's schemas, making what is missing."""
        for schema in (storm_tables.schema, tables.schema):
            # the same modules serve every test's schemas
            schema.database = schema.connection = None
        storm_tables.activate(self.prefix)
        tables.activate(self.prefix)
        tables.declare()

    def close(self):
        """Kill what still runs and drop the schemas."""
        self.kill()
        self.reconnect()
        self.drop()

    def kill(self):
        """Kill every worker with -9."""
        for process in self.workers:
            if process.poll() is None:
                process.kill()
                process.wait()

    def drop(self):
        """Drop the schemas with all that is in them."""
        for suffix in ("storm", "workers"):
            dj.Schema(f"{self.prefix}_{suffix}", connection=self.connection).drop(prompt=False)

    def reconnect(self):
        """Connect this process again after a server went away."""
        server.persist(self.connection, lambda: server.revive(self.connection))

    def seeds(self, count, *, start=0, pause_s=0.0, mood="good"):
        """Insert keys to compute; `pause_s` is a number or a function of the key."""
        pause = pause_s if callable(pause_s) else lambda _: pause_s
        numbers = range(start, start + count)
        storm_tables.Seed.insert([(n, pause(n), mood) for n in numbers])
        return list(numbers)

    def forget(self, where):
        """Delete keys that have no row."""
        (storm_tables.Seed & where).delete_quick()

    def worker(self, *arguments, **environment):
        """Start `inception worker` on the storm tables."""
        command = [sys.executable, "-m", "workers.cli", "worker", "--schemas", "storm_tables"]
        command += ["--prefix", self.prefix, "--sleep-duration", "0.3", *map(str, arguments)]
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment, **environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    def last_seen(self):
        """Return the server's time of the last heartbeat of any worker."""
        return self.asked(lambda: max(tables.Worker().to_arrays("seen_at").tolist()))

    def ready(self, process):
        """Tell whether all computing processes of a worker can hear a signal.

        They are connected to the server, or old: one whose server was killed connects again only
        for its next job.
        """
        port = int(dj.config.database.port)
        heard = [
            time.time() - child.create_time() > 20
            or any(link.raddr and link.raddr.port == port for link in child.net_connections("tcp"))
            for child in psutil.Process(process.pid).children()
        ]
        return bool(heard) and all(heard)

    def count(self):
        """Return the number of rows computed."""
        return self.asked(lambda: len(storm_tables.Value()))

    def jobs(self, where="TRUE"):
        """Return the rows of the job table of `Value`."""
        jobs = tables.Job & {"table_name": "storm_tables.Value"} & where
        return self.asked(lambda: jobs.to_dicts())

    def errors(self):
        """Return the jobs that were set aside, by number."""
        found = jobs.errors(Ledger(self.connection), order.load("storm_tables", self.prefix))
        return {row["key"]["number"]: row for row in found}

    def attempts(self):
        """Return the log of attempts at `Value`, in the order of their tokens."""
        attempts = tables.Attempt & {"table_name": "storm_tables.Value"}
        return self.asked(lambda: attempts.to_dicts(order_by="started_at"))

    def busy(self, crew):
        """Return the positions in a list of workers of those that hold a job now."""
        held = tables.Worker & [{"worker": job["worker"]} for job in self.jobs("status='running'")]
        pids = set(self.asked(lambda: held.to_arrays("pid")).tolist())
        return [i for i, process in enumerate(crew) if process.pid in pids]

    def asked(self, question):
        """Answer a question to the database, again if it goes away meanwhile."""
        return server.persist(self.connection, question, patience_s=90.0)

    def now(self):
        """Return the server's time, as it is written to the attempts (UTC)."""
        sql = f"SELECT {now_sql(self.connection)}"
        return self.asked(lambda: self.connection.query(sql).fetchone()[0])

    def wait(self, condition, timeout_s=180.0, every_s=0.1):
        """Wait until something holds; fail with the workers' log if it never does."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.state()
            time.sleep(every_s)

    def state(self):
        """Return in words how far the pipeline is, with the end of the workers' log."""
        states = [(job["job_key"], job["status"], job["error_message"]) for job in self.jobs()]
        return f"{self.count()} rows, {len(states)} jobs {states[:5]}\n{self.log()[-3000:]}"

    def log(self):
        """What the workers said, without the jobs that went well."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith("done"))
