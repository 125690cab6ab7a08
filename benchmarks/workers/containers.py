"""R8 and R19 in containers: cold starts of a whole deployment, and stops under load.

    docker compose build declare worker
    python benchmarks/workers/containers.py --cold 20 --stops 20

A cold start is `docker compose up --scale worker=8` on an empty server: the tables have to be made
once and no worker may end. A stop is `docker compose stop` while every worker is in the middle of a
job: no attempt may be burned, all exit with 0 within their grace. Jobs of the stops are those of
tests/reliability (a second and a minute long), mounted into the image. `--json` for machines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OPEN = """
from workers.database import embedded, opening

opening.open_tables(embedded.connect(), "storm_tables", "inception")
"""
OVERRIDE = {
    "services": {
        "declare": {
            "entrypoint": ["python", "-c", OPEN],
            "command": [],
            "environment": {"PYTHONPATH": "/suite"},
            "volumes": [f"{ROOT}/tests/reliability/harness:/suite:ro"],
        },
        "worker": {
            "command": "worker --schemas storm_tables --sleep-duration 0.5",
            "environment": {"PYTHONPATH": "/suite"},
            "volumes": [f"{ROOT}/tests/reliability/harness:/suite:ro"],
        },
    }
}


class Deployment:
    """A compose project of its own, from nothing.

    Parameters
    ----------
    files : list of Path
        Compose files.
    """

    def __init__(self, files: list[Path]) -> None:
        self.name = "inceptionbench" + uuid.uuid4().hex[:6]
        self._files = [part for file in files for part in ("-f", str(file))]

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run a compose command; return what it printed."""
        command = ["docker", "compose", *self._files, "-p", self.name, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-1500:]}")
        return done.stdout

    def sql(self, statement: str) -> list[list[str]]:
        """Return the rows of a query as root, none while there are no tables."""
        client = (
            "MYSQL_PWD=$(cat /run/inception/root/database.password) "
            f'mysql -N -h 127.0.0.1 -uroot -e "{statement}"'
        )
        text = self.compose("exec", "-T", "db", "sh", "-c", client, check=False)
        return [line.split("\t") for line in text.splitlines()]

    def number(self, statement: str) -> int:
        """Return the one number that a query gives, 0 while there are no tables."""
        rows = self.sql(statement)
        return int(rows[0][0]) if rows else 0

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return id, state, exit code and number of restarts of the containers of a service."""
        names = self.compose("ps", "-a", "-q", service).split()
        shown = subprocess.run(["docker", "inspect", *names], capture_output=True, text=True)
        return [
            {
                "id": found["Id"],
                "status": found["State"]["Status"],
                "code": found["State"]["ExitCode"],
                "restarts": found["RestartCount"],
                "finished": found["State"]["FinishedAt"],
            }
            for found in json.loads(shown.stdout)
        ]

    def last_words(self, container: dict[str, Any]) -> str:
        """Return the end of a container's log, with times, and when it ended."""
        command = ["docker", "logs", "--timestamps", "--tail", "6", container["id"]]
        shown = subprocess.run(command, capture_output=True, text=True)
        return f"{shown.stdout}{shown.stderr}ended {container['finished']}"

    def wait(self, condition: Any, timeout_s: float) -> float:
        """Wait until something holds; return how long that took (s)."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                logs = self.compose("logs", "--tail", "20", check=False)
                raise TimeoutError(f"not within {timeout_s:.0f} s: {logs[-2000:]}")
            time.sleep(1.0)
        return time.monotonic() - began

    def remove(self) -> None:
        """Take everything away, volumes too."""
        self.compose("down", "-v", "--remove-orphans", "-t", "1", check=False)


def cold_start(workers: int) -> dict[str, Any]:
    """Start on an empty server; return how long until all workers are at work, and who ended."""
    deployment = Deployment([ROOT / "docker-compose.yml"])
    alive = "SELECT COUNT(*) FROM inception_workers.worker WHERE state='running'"
    try:
        began = time.monotonic()
        deployment.compose("up", "-d", "--no-build", "--scale", f"worker={workers}")
        deployment.wait(lambda: deployment.number(alive) >= workers, 1200)
        seconds = time.monotonic() - began
        crew = deployment.containers("worker")
        tables = deployment.number(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema LIKE 'inception%'"
        )
        return {
            "seconds": round(seconds, 1),
            "workers": len(crew),
            "exits": sum(c["restarts"] + (c["status"] != "running") for c in crew),
            "registered": deployment.number("SELECT COUNT(*) FROM inception_workers.worker"),
            "declare": [c["code"] for c in deployment.containers("declare")],
            "tables": tables,
        }
    finally:
        deployment.remove()


def stops(rounds: int, workers: int, override: Path) -> dict[str, Any]:
    """Stop all workers in the middle of jobs, again and again; return what it cost."""
    deployment = Deployment([ROOT / "docker-compose.yml", override])
    running = "SELECT COUNT(*) FROM inception_workers.job WHERE status='running'"
    slowest, codes, killed = 0.0, Counter(), []
    try:
        deployment.compose("up", "-d", "--no-build", "--scale", f"worker={workers}")
        deployment.wait(lambda: len(deployment.sql("SHOW TABLES FROM inception_storm")) >= 3, 900)
        values = ",".join(f"({n},{60.0 if n % 3 == 0 else 1.0},'good')" for n in range(60 * rounds))
        deployment.sql(f"INSERT INTO inception_storm.seed VALUES {values}")
        for _ in range(rounds):
            deployment.compose("up", "-d", "--no-build", "--scale", f"worker={workers}")
            deployment.wait(lambda: deployment.number(running) == workers, 600)
            began = time.monotonic()
            deployment.compose("stop", "worker")
            slowest = max(slowest, time.monotonic() - began)
            crew = deployment.containers("worker")
            codes.update(container["code"] for container in crew)
            killed += [deployment.last_words(container) for container in crew if container["code"]]
            print(
                json.dumps({"stop_s": round(time.monotonic() - began, 1), "codes": codes}),
                flush=True,
            )
        outcomes = deployment.sql(
            "SELECT outcome, COUNT(*) FROM inception_workers.attempt GROUP BY outcome"
        )
        return {
            "rounds": rounds,
            "workers": workers,
            "slowest_s": round(slowest, 1),
            "exit_codes": dict(codes),
            "killed": killed,
            "outcomes": {outcome: int(n) for outcome, n in outcomes},
            "burnt": deployment.number(
                "SELECT COALESCE(SUM(attempts), 0) FROM inception_workers.job"
            ),
            "errors": deployment.number(
                "SELECT COUNT(*) FROM inception_workers.job WHERE status='error'"
            ),
        }
    finally:
        deployment.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cold", type=int, default=20, help="cold starts")
    parser.add_argument("--stops", type=int, default=20, help="stops under load")
    parser.add_argument("--workers", type=int, default=8, help="workers of a cold start")
    parser.add_argument("--stopped", type=int, default=4, help="workers that are stopped")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"cold": []}
    for _ in range(arguments.cold):
        found["cold"].append(cold_start(arguments.workers))
        print(json.dumps(found["cold"][-1]), flush=True)
    if arguments.stops:
        with tempfile.TemporaryDirectory() as folder:
            override = Path(folder) / "storm.json"  # JSON is YAML
            override.write_text(json.dumps(OVERRIDE), encoding="utf-8")
            found["stops"] = stops(arguments.stops, arguments.stopped, override)
    if arguments.json:
        print(json.dumps(found))
        return
    starts = found["cold"]
    if starts:
        print(
            f"{len(starts)} cold starts, {sum(s['exits'] for s in starts)} exits of workers, "
            f"tables {sorted({s['tables'] for s in starts})}, slowest "
            f"{max(s['seconds'] for s in starts)} s"
        )
    print(found.get("stops", ""))


if __name__ == "__main__":
    main()
