"""README's table and picture say what the demo's own files and tables say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from workers.demo import readme

ROOT = Path(__file__).parents[3]
RESULT = {
    "n_targets": 12,
    "n_scored": 11,
    "jobs_error": 0,
    "seconds": 785.4,
    "motion_rms_px": 0.0741,
    "cell_precision": 1.0,
    "cell_recall": 0.934,
    "trace_r": 0.917,
    "match_precision": 1.0,
    "match_recall": 0.976,
    "cnn_fraction_oracle": 1.083,
    "ln_fraction_oracle": 0.541,
    "mei_true_drive": 0.921,
    "mei_wins": {"fni": 1.0, "gabor": 0.727, "mni": 1.0, "rf": 1.0},
}


def cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_every_figure_of_the_result_and_bold_is_what_misses_its_target():
    rows = dict(row[:2] for row in cells(readme.table(RESULT)))
    assert rows["time, both days, report"] == "13 min 5 s"
    assert rows["cells: precision, recall"] == "1.00, 0.93"
    assert rows["fraction oracle, behavior frozen: CNN, LN"] == "1.08, 0.54"
    (wins,) = [name for name in rows if name.startswith("day 2")]
    assert "fNI, Gabor, mNI, RF (11 of 12" in wins  # in the order of the numbers
    assert rows[wins] == "1.00, **0.73**, 1.00, 1.00"
    assert sum("**" in value for value in rows.values()) == 1
    bad = {
        **RESULT,
        "seconds": 901,
        "jobs_error": 2,
        "motion_rms_px": 0.21,
        "trace_r": float("nan"),
        "cell_recall": 0.79,
        "match_recall": 0.69,
        "cnn_fraction_oracle": 0.5,
    }
    assert readme.table(bad).count("**") == 2 * (7 + 1)


def test_the_readme_has_its_marks_once_and_the_picture_it_names():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(readme.BEGIN) == text.count(readme.END) == 1
    assert f"]({readme.PICTURE.as_posix()})" in text
    inside = text.split(readme.BEGIN)[1].split(readme.END)[0]
    plain = [[name, target] for name, _, target in cells(inside)]
    expected = [[name, target] for name, _, target in cells(readme.table(RESULT))]
    assert [re.sub(r"MEI above .*", "", name) for name, _ in plain] == [
        re.sub(r"MEI above .*", "", name) for name, _ in expected
    ]
    assert [target for _, target in plain] == [target for _, target in expected]


def test_pictures_are_put_below_one_another_unchanged():
    upper, lower = np.full((4, 10, 3), 7, np.uint8), np.full((3, 6, 3), 9, np.uint8)
    both = readme.below(upper, lower)
    assert both.shape == (7, 10, 3)
    np.testing.assert_array_equal(both[:4], upper)
    np.testing.assert_array_equal(both[4:, 2:8], lower)
    assert (both[4:, :2] == 255).all()


def test_a_figure_is_drawn_as_wide_as_it_is_asked_to_be():
    from pipeline.plotting.style import new_figure

    for inches in (3.3, 7.1, 17.8):
        assert readme.pixels(new_figure(inches, 2.0), 1540).shape[1] == 1540


def test_a_demo_that_is_not_finished_and_a_readme_without_marks_are_refused(tmp_path):
    demo = tmp_path / "demo"
    with pytest.raises(DataError, match=r"no finished demo.*inception demo"):
        readme.write(demo, tmp_path)
    (demo / "report").mkdir(parents=True)
    (demo / "report" / "result.json").write_text(json.dumps(RESULT))
    (demo / "demo.json").write_text(json.dumps({"seed": 0}))
    (tmp_path / "README.md").write_text("# nothing\n")
    with pytest.raises(DataError, match="no place for the table"):
        readme.write(demo, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# nothing\n"
