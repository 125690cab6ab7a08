"""R14 and R17: a copy made under load is whole, and rows computed again are the same."""

import json
import subprocess
import sys
import threading

import pytest
import storm_tables
from fleet import ROOT, Fleet
from invariants import check_all, check_rows

from workers.database import backup, embedded
from workers.insight import recompute
from workers.queue import order
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables
full = pytest.mark.reliability


def inception(fleet, *arguments):
    """Run a verb in a process of its own; return its exit code and last line."""
    more = ["--schemas", "storm_tables", "--prefix", fleet.prefix, "--home", str(fleet.home)]
    command = [sys.executable, "-m", "workers.cli", *map(str, arguments), *more]
    done = subprocess.run(command, capture_output=True, text=True, env=fleet.environment, cwd=ROOT)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


@pytest.mark.parametrize(
    ("keys", "workers", "every_s"),
    [(20, 2, 1.0), pytest.param(200, 4, 2.0, marks=full)],
    ids=["quarter", "full"],
)
def test_r14_a_copy_made_in_a_storm_is_whole_on_an_empty_server(
    fleet, record, tmp_path, keys, workers, every_s
):
    """Workers compute and are killed while it is made; then everything else is lost."""
    arguments = ("--lease", 2)
    fleet.seeds(keys, pause_s=0.3)
    crew = [fleet.worker(*arguments) for _ in range(workers)]
    fleet.wait(lambda: fleet.count() >= keys // 6)
    made = []
    saving = threading.Thread(
        target=lambda: made.append(inception(fleet, "backup", tmp_path / "saved", "--json"))
    )
    saving.start()
    kills = 0
    while saving.is_alive():
        saving.join(every_s)
        for victim in fleet.busy(crew)[:1]:
            crew[victim].kill()
            crew[victim].wait()
            crew[victim] = fleet.worker(*arguments)
            kills += 1
    assert made[0][0] == 0, made
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    saved = manifest["tables"][f"{fleet.prefix}_storm.__value"]["rows"]
    assert keys // 6 <= saved < keys  # in the middle of the work
    fleet.kill()
    if not embedded.is_embedded():
        fleet.drop()  # the only server that there is becomes the empty one
    copy = Fleet(tmp_path / "elsewhere", declare=False, prefix=fleet.prefix)
    try:
        backup.restore(copy.connection, tmp_path / "saved")
        copy.bind()
        databases = [f"{copy.prefix}_{name}" for name in ("storm", "workers")]
        assert backup.dangling(Ledger(copy.connection), databases) == []
        numbers = storm_tables.Value().to_arrays("number").tolist()
        assert len(numbers) == saved
        check_rows(numbers)  # I1 to I3, for what the copy has
        crew = [copy.worker(*arguments, "--exit-when-idle") for _ in range(workers)]
        assert [process.wait(120) for process in crew] == [0] * workers, copy.log()[-4000:]
        figures = check_all(range(keys))  # what was missing has the same hashes
    finally:
        copy.close()
        if embedded.is_embedded():
            embedded.remove(copy.home)
        fleet.connection = embedded.connect(fleet.home)
    record({"saved": saved, "kills": kills, **figures})


def test_r17_ten_rows_of_each_table_are_the_same_elsewhere(fleet, record):
    fleet.seeds(12)
    assert fleet.worker("--exit-when-idle").wait(180) == 0, fleet.log()
    code, said = inception(fleet, "recompute", "--check", 10, "--each")
    assert (code, said) == (0, "10 rows again: 10 equal, 0 close, 0 differs")
    (storm_tables.Value.Piece & "piece=2").delete_quick()
    loaded = order.load("storm_tables", fleet.prefix)
    again = recompute.check(Ledger(fleet.connection), loaded, 10, each=True)
    assert {row["verdict"] for row in again} == {"differs"}  # else the first would prove nothing
    record({"rows": len(again)})
