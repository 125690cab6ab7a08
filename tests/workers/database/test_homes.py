"""A home that is moved, renamed, copied or damaged keeps its database, or says what is missing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from homes import sql

from workers.database import embedded


@pytest.fixture(scope="module", params=["within", "elsewhere"])
def home(request, tmp_path_factory):
    """A home with one row; as root, its data lie in it, or outside where others cannot enter."""
    if request.param == "elsewhere":
        if os.getuid() != 0:
            pytest.skip("only root's homes have their data elsewhere")
        place = tmp_path_factory.mktemp("homes")
    else:
        place = Path(tempfile.mkdtemp(dir="/var/tmp"))
        place.chmod(0o755)
    folder = place / "Zuhause äöü"
    folder.mkdir()
    (folder / "store").mkdir()
    (folder / "store" / "kept.npy").write_bytes(b"x")
    embedded.start(folder)
    sql(folder, "CREATE TABLE kept AS SELECT 7 AS x")
    yield folder
    for server in place.glob("*/server.json"):
        embedded.remove(server.parent)
    shutil.rmtree(place)


def rows(home):
    embedded.start(home)
    return sql(home, "SELECT x FROM kept ORDER BY x")


def test_a_home_that_is_renamed_has_its_rows_whether_its_server_runs_or_not(home):
    moved = home.with_name("moved")
    process = embedded.status(home)["pid"]
    home.rename(moved)
    assert rows(moved) == [(7,)]
    assert embedded.status(moved)["pid"] == process  # not a second server on the same files
    embedded.stop(moved)
    again = moved.with_name("again")
    moved.rename(again)
    assert rows(again) == [(7,)]
    assert [path.name for path in home.parent.glob("*/pgdata*")] in ([], ["pgdata"])
    again.rename(home)
    assert rows(home) == [(7,)]


def test_a_copy_has_a_server_of_its_own_or_is_refused(home):
    copy = home.with_name("copy")
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("*.lock"))
    if not (copy / "pgdata").exists():
        with pytest.raises(embedded.ServerError, match="is a copy"):
            embedded.start(copy)
        shutil.rmtree(copy)
        assert rows(home) == [(7,)]
        return
    assert rows(copy) == [(7,)]
    sql(copy, "INSERT INTO kept VALUES (8)")
    assert rows(copy) == [(7,), (8,)]
    assert rows(home) == [(7,)]
    embedded.remove(copy)
    shutil.rmtree(copy)


def test_data_that_are_missing_are_no_reason_to_begin_anew(home):
    embedded.stop(home)
    key = (home / "server.json").read_bytes()
    data = Path(embedded.status(home)["data"])
    away = data.with_name("unmounted")
    data.rename(away)
    with pytest.raises(embedded.ServerError, match=r"data folder of its database is missing"):
        embedded.start(home)
    assert (home / "server.json").read_bytes() == key
    away.rename(data)
    assert rows(home) == [(7,)]


def test_data_whose_key_is_lost_get_a_new_one(home):
    old = json.loads((home / "server.json").read_text())["password"]
    (home / "server.json").unlink()
    assert rows(home) == [(7,)]
    assert json.loads((home / "server.json").read_text())["password"] != old


def test_a_named_home_is_not_overruled_by_a_file_that_lies_in_the_folder(home, tmp_path):
    (tmp_path / "datajoint.json").write_text(
        json.dumps({"database.host": "127.0.0.1", "database.port": 1, "database.user": "x"})
    )
    code = (
        "import sys; from workers.database import embedded;"
        "c = embedded.connect(sys.argv[1] if len(sys.argv) > 1 else None);"
        "import datajoint as dj;"
        "print(c.query('SELECT x FROM kept').fetchone()[0], dj.config.stores['main'])"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DJ_", "INCEPTION_"))}
    (tmp_path / "below").mkdir(exist_ok=True)
    for arguments, more in (([str(home)], {}), ([], {"INCEPTION_HOME": str(home)})):
        environment = env | more | {"PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path / "below",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("7 ")
        assert str(home / "store") in done.stdout
        assert "names the server 127.0.0.1; not used" in done.stderr
