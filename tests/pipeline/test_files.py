import os

import pytest

from pipeline.files import written_whole


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("first")

    def fail():
        with written_whole(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_private_file_is_never_readable_by_others(tmp_path):
    with written_whole(tmp_path / "key.json", private=True) as partial:
        assert partial.stat().st_mode & 0o077 == 0
        partial.write_text("{}")
        assert partial.stat().st_mode & 0o077 == 0
    assert (tmp_path / "key.json").stat().st_mode & 0o777 == 0o600
