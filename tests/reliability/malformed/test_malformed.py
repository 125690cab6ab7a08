"""R9: malformed inputs are refused in one line each, and nothing else is lost."""

import os
import subprocess
import sys

import pytest
from invariants import check_rows, check_store
from malformed.cases import CASES, prepare
from malformed.readers import read


def check_message(name, message):
    assert "\n" not in message
    assert len(message) < 700
    for word in CASES[name].words:
        assert word in message, f"{name}: {message}"


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_is_refused_in_one_line(tmp_path, write_bundle, name):
    folder = prepare(name, tmp_path / "case", write_bundle)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are the case's
        read(folder)
    check_message(name, str(caught.value))
    if CASES[name].reader in ("bundle", "movie", "dataset", "encoder"):
        assert any(f"; {word} " in str(caught.value) for word in ("found", "expected"))


def test_there_are_at_least_fifty():
    assert len(CASES) >= 50


@pytest.mark.tables
@pytest.mark.parametrize(
    ("names", "good"),
    [(list(CASES)[::6], 8), pytest.param(list(CASES), 50, marks=pytest.mark.reliability)],
    ids=["quarter", "full"],
)
def test_r9_malformed_inputs_are_set_aside_and_the_rest_goes_on(
    fleet, record, tmp_path, write_bundle, names, good
):
    fleet.seeds(good)
    for index, name in enumerate(names):
        number = 1000 + index
        prepare(name, fleet.home / "inputs" / fleet.prefix / str(number), write_bundle)
        fleet.seeds(1, start=number, mood="input")
    worker = fleet.worker("--exit-when-idle", INPUTS=str(fleet.home / "inputs" / fleet.prefix))
    assert worker.wait(400) == 1  # something was set aside
    check_rows(range(good))
    check_store()
    found = fleet.errors()
    assert sorted(found) == [1000 + index for index in range(len(names))]
    for index, name in enumerate(names):
        row = found[1000 + index]
        assert (row["class"], row["attempts"]) == ("data", 1), row
        check_message(name, row["message"])
    assert "Traceback" not in fleet.log()
    record({"good": good, "set_aside": len(found), "malformed": len(names)})


def test_a_malformed_bundle_ends_the_command_with_one_line_and_code_1(tmp_path, write_bundle):
    folder = prepare("scan: date in the future", tmp_path / "case", write_bundle)
    command = [sys.executable, "-m", "workers.cli", "ingest", (folder / "input").read_text()]
    environment = {**os.environ, "INCEPTION_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("inception")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert "recording.json: scan_ts" in lines[0]
    from workers.database import embedded

    embedded.remove(tmp_path / "home")
