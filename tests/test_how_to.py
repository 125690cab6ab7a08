"""The how-to pages do what they say: each is carried out on a copy of the program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page):
    """Yield (language, first line without its mark, the rest) of every block with such a line."""
    for language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
        first, _, rest = body.partition("\n")
        if first.startswith("# "):
            yield language, first[2:], rest


def edited(text, change):
    """Return a file after a change in the form of a diff; its old lines occur exactly once."""
    lines = change.splitlines()
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-")) + "\n"
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+")) + "\n"
    assert text.count(old) == 1, f"these lines occur {text.count(old)} times:\n{old}"
    return text.replace(old, new)


@pytest.fixture
def copy(tmp_path):
    for folder in ("pipeline", "schemas", "workers"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_carried_out_to_the_letter_gives_what_it_says(page, copy):
    tried = 0
    for language, head, body in steps(page):
        if language == "diff":
            file = copy / head
            file.write_text(edited(file.read_text(encoding="utf-8"), body), encoding="utf-8")
        elif head == "try":
            environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, "-c", body],
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            tried += 1
        else:
            file = copy / head
            assert not file.exists(), f"{head} is there already"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body, encoding="utf-8")
    assert tried, "the page tries nothing"


def test_a_converter_fits_on_a_page():
    page = ROOT / "docs" / "how-to" / "my-rig-writes.md"
    found = {
        head: len(body.splitlines()) + 1
        for language, head, body in steps(page)
        if head.startswith("convert_")
    }
    assert sorted(found) == ["convert_bonsai.py", "convert_h5.py", "convert_mat.py"]
    assert max(found.values()) <= 40, found
