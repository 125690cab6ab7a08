"""The embedded database: private, durable, and back after a kill -9."""

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg2
import pytest
from homes import sql

from workers.database import embedded, postgres


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    embedded.start(folder)
    yield folder
    embedded.remove(folder)


def test_committed_rows_survive_kill_nine_and_the_port_stays(home):
    sql(home, "CREATE TABLE kept (x int); INSERT INTO kept SELECT generate_series(1, 1000)")
    before = embedded.status(home)
    os.kill(before["pid"], signal.SIGKILL)
    embedded.start(home)
    after = embedded.status(home)
    assert after["port"] == before["port"]
    assert after["pid"] != before["pid"]
    assert sql(home, "SELECT count(*), sum(x) FROM kept") == [(1000, 500500)]


def test_start_from_many_processes_at_once_gives_one_server(home):
    embedded.stop(home)
    code = (
        "import sys; from workers.database import embedded; "
        "print(embedded.start(sys.argv[1])['port'])"
    )

    def run(_):
        command = [sys.executable, "-c", code, str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        ports = set(pool.map(run, range(4)))
    assert len(ports) == 1
    data = embedded.status(home)["data"]
    masters = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and data in process.info["cmdline"]
    ]
    assert len(masters) == 1


def test_needs_the_password_and_listens_on_loopback_only(home):
    server = embedded.start(home)
    wrong = embedded.url(home).replace(server["password"], "guess")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(wrong)
    process = psutil.Process(server["pid"])
    listening = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_password_file_is_private_and_the_server_is_never_root(home):
    mode = (home / "server.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert psutil.Process(embedded.start(home)["pid"]).uids().effective != 0


def test_parent_folders_keep_their_permissions(home):
    # pytest's folders are 0700: as root the server's account cannot enter them and must not
    assert stat.S_IMODE(home.parent.stat().st_mode) & 0o077 == 0
    assert embedded.status(home)["running"]


def test_a_foreign_process_number_in_a_stale_pid_file_is_not_taken_for_the_server(home):
    data = postgres.Path(embedded.start(home)["data"])
    embedded.stop(home)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    assert not embedded.status(home)["running"]
    embedded.start(home)
    assert embedded.status(home)["running"]


def test_stop_says_whether_there_was_something_to_stop(home):
    embedded.start(home)
    assert embedded.stop(home) is True
    assert embedded.stop(home) is False
    assert not embedded.status(home)["running"]


def test_programs_named_explicitly_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("INCEPTION_PG_BIN", str(tmp_path))
    with pytest.raises(embedded.ServerError, match="INCEPTION_PG_BIN"):
        postgres.find_binaries()


def test_a_configured_server_is_left_alone(monkeypatch, tmp_path):
    code = (
        "from workers.database import embedded; import datajoint as dj;"
        "assert not embedded.is_embedded(); assert dj.config.database.host == 'db.example'"
    )
    env = {**os.environ, "DJ_HOST": "db.example", "DJ_USER": "u", "DJ_PASS": "p"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    (tmp_path / "datajoint.json").write_text('{"database.host": "db.example"}')
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DJ_", "INCEPTION_HOME"))}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path)
