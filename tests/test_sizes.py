"""Files that can be read at a sitting, folders that can be read from their listing."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES, MODULES = 400, 12
# being split: nothing joins them, what is small by now leaves, and both sets are empty in the end
TOO_LONG: set[str] = set()
TOO_FULL: set[str] = set()


def tracked():
    """Return the Python files that git knows, without those deleted just now."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: git knows which files are the project's own")
    found = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "*.py"], capture_output=True, check=True
    ).stdout.decode()
    return [name for name in found.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_longer_than_four_hundred_lines():
    long = {
        name: n
        for name in tracked()
        if (n := len((ROOT / name).read_text(encoding="utf-8").splitlines())) > LINES
    }
    assert set(long) == TOO_LONG, {name: long.get(name) for name in set(long) ^ TOO_LONG}


def test_no_folder_holds_more_than_twelve_modules_of_its_own():
    counted = Counter(
        Path(name).parent.as_posix()
        for name in tracked()
        if Path(name).name not in ("__init__.py", "conftest.py")
    )
    full = {folder: n for folder, n in counted.items() if n > MODULES}
    assert set(full) == TOO_FULL, {name: full.get(name) for name in set(full) ^ TOO_FULL}
