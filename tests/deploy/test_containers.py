"""The compose file, on a real engine: a deployment from nothing to a stimulus package."""

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "inceptiontest" + uuid.uuid4().hex[:6]

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(3000),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture(scope="session")
def engine():
    """Ask for a client, its compose plugin and an engine that answers, or skip and say why."""
    if shutil.which("docker") is None:
        pytest.skip("no container engine: no docker client on the path")
    for command, lacks in (
        (["docker", "compose", "version"], "the docker client has no compose plugin"),
        (["docker", "info", "--format", "{{.ServerVersion}}"], "no engine answers docker info"),
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            pytest.skip(f"no container engine: {lacks} within a minute")
        if done.returncode:
            said = (done.stderr or done.stdout).strip().partition("\n")[0]
            pytest.skip(f"no container engine: {lacks} ({said})")


def compose(*arguments, check=True):
    command = ["docker", "compose", "-p", PROJECT, "--profile", "demo", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def exit_codes(service):
    lines = compose("ps", "-a", "--format", "json", service).splitlines()
    return [json.loads(line)["ExitCode"] for line in lines]


@pytest.fixture(scope="module")
def deployment(engine):
    compose("build", "declare")
    yield
    compose("down", "-v", "--remove-orphans", check=False)


def test_workers_carry_a_small_loop_to_its_package(deployment):
    compose("up", "-d", "--no-build", "--scale", "worker=4")
    assert exit_codes("declare") == [0]  # once, before any worker
    deadline = time.monotonic() + 2400
    while "exited" not in compose("ps", "-a", "--format", "{{.State}}", "first-loop"):
        assert time.monotonic() < deadline, compose("logs", "--tail", "40", "first-loop", "worker")
        time.sleep(5)
    assert exit_codes("first-loop") == [0], compose("logs", "--tail", "40", "first-loop")
    shown = compose("exec", "-T", "worker", "inception", "status", "--json")
    state = json.loads(shown.splitlines()[-1])
    assert state["jobs_error"] == 0
    assert len(state["workers"]) == 4
    listing = compose("exec", "-T", "worker", "ls", "/data/first-loop/package")
    assert {"manifest.json", "trials.csv", "images.csv", "units.csv"} <= set(listing.split())


def test_workers_are_not_root_and_write_only_to_their_data(deployment):
    """An account without rights, a root file system that is read-only, no password in sight."""
    assert compose("exec", "-T", "worker", "id", "-u").strip() == "10001"
    shell = "touch /usr/x /opt/venv/x 2>/dev/null; echo $?; env | grep -ci pass; ls /run/inception"
    shown = compose("exec", "-T", "worker", "sh", "-c", shell, check=False).split()
    assert shown == ["1", "0"]


@pytest.mark.parametrize(
    ("role", "statement", "allowed"),
    [
        ("worker", "CREATE TABLE inception_workers.x (i int)", False),
        ("worker", "DROP TABLE inception_workers.attempt", False),
        ("worker", "SELECT * FROM mysql.user", False),
        ("worker", "SELECT 1 FROM inception_experiment.mouse", True),
        ("reader", "DELETE FROM inception_experiment.mouse", False),
        ("reader", "SELECT 1 FROM inception_experiment.mouse", True),
    ],
)
def test_accounts_of_the_database_may_do_what_they_need(deployment, role, statement, allowed):
    client = (
        f"MYSQL_PWD=$(cat /run/inception/{role}/database.password) "
        f'mysql -h 127.0.0.1 -uinception_{role} -e "{statement}"'
    )
    command = ["docker", "compose", "-p", PROJECT, "exec", "-T", "db", "sh", "-c", client]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode == 0) == allowed, done.stderr
    assert allowed or "denied" in done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser: apt install chromium")
def test_jupyter_serves_a_notebook_that_runs(deployment, monkeypatch, tmp_path):
    """As a person would: give the token, open the notebook, run all cells, save it."""
    browsers = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("JUPYTER_PORT", str(port))
    jupyter = ("--profile", "jupyter")
    compose(*jupyter, "build", "jupyter")
    compose(*jupyter, "up", "-d", "--no-build", "--no-deps", "jupyter")
    token = compose("exec", "-T", "jupyter", "cat", "/run/secrets/datajoint/jupyter.token")
    until(lambda: "is running at" in compose(*jupyter, "logs", "jupyter"), 120)
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        page.goto(f"http://127.0.0.1:{port}/lab/tree/01_first_loop.py?token={token.strip()}")
        page.wait_for_selector(".jp-Notebook", timeout=120_000)
        page.locator(".jp-NotebookPanel-toolbar", has_text="Python 3").wait_for(timeout=60_000)
        page.get_by_text("Run", exact=True).first.click()
        page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
        prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt")
        until(lambda: all(t.strip("[]: ").isdigit() for t in prompts.all_text_contents()), 300)
        assert prompts.count() == 9
        page.screenshot(path=tmp_path / "notebook.png")
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        assert page.locator(".jp-OutputArea-output img").count() >= 2  # a field, the images
        page.keyboard.press("Control+s")
        page.get_by_text("Saving completed").wait_for(timeout=60_000)
        browser.close()


def as_root(statement):
    """Return the rows that a statement gives to the database's root."""
    client = "MYSQL_PWD=$(cat /run/inception/root/database.password) mysql -N -h 127.0.0.1 -uroot"
    command = ["docker", "compose", "-p", PROJECT, "exec", "-T", "db", "sh", "-c", client]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=statement)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def checksums():
    """Return a checksum of every table of the pipeline, and the number of attempts so far."""
    tables = as_root(
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables "
        "WHERE table_schema LIKE 'inception%' AND table_schema <> 'inception_workers' ORDER BY 1"
    )
    names = ", ".join(name for (name,) in tables)
    return as_root(f"CHECKSUM TABLE {names}"), as_root(
        "SELECT COUNT(*) FROM inception_workers.attempt"
    )


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, compose("logs", "--tail", "40", "worker")
        time.sleep(3)


def test_r13_taking_everything_down_and_up_again_changes_nothing(deployment):
    """The volumes stay, all containers are new."""
    open_jobs = "SELECT COUNT(*) FROM inception_workers.job WHERE status IN ('pending', 'running')"
    until(lambda: as_root(open_jobs) == [["0"]], 1200)
    before = checksums()
    assert len(before[0]) > 100
    compose("down")
    compose("up", "-d", "--no-build", "--scale", "worker=4", "worker")
    seen = "SELECT COUNT(*) FROM inception_workers.worker WHERE state='running'"
    until(lambda: int(as_root(seen)[0][0]) >= 4, 300)
    time.sleep(15)  # for an elected worker to look for what is due
    assert checksums() == before


def test_stopped_workers_exit_with_zero(deployment):
    compose("stop", "worker")
    assert set(exit_codes("worker")) == {0}
