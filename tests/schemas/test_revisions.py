"""Rows of methods that have got another revision since: they stay, nothing is computed by them."""

import pytest

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def test_a_row_of_an_older_revision_stays_and_is_not_computed(database, monkeypatch):
    from pipeline.imaging.motion import motion_methods
    from schemas import imaging

    today = motion_methods.revision("rigid")
    old = imaging.MotionMethod.add("rigid", {"template_frames": 64})
    assert imaging.MotionMethod.fetch_method(old)[0] == "rigid"
    monkeypatch.setitem(motion_methods._revisions, "rigid", today + 1)
    new = imaging.MotionMethod.add("rigid", {"template_frames": 64})
    assert new != old
    assert imaging.MotionMethod.fetch_method(new) == imaging.MotionMethod.stored_method(old)
    with pytest.raises(DataError, match=f"revision {today} of motion method 'rigid' is no longer"):
        imaging.MotionMethod.fetch_method(old)
    with pytest.raises(DataError, match="no longer computed"):
        imaging.MotionMethod.add("rigid", revision=today)
    recipes = [
        imaging.ImagingRecipe.add(
            {"motion": {"method": "rigid", "params": {"template_frames": size}}}
        )
        for size in (64, 64, 65)
    ]
    assert recipes[0] == recipes[1] != recipes[2]
    assert (imaging.ImagingRecipe & recipes[0]).fetch1("motion_hash") == new["motion_hash"]


def test_a_configuration_of_an_older_revision_is_not_trained(database, monkeypatch):
    from pipeline.model import default_config
    from pipeline.model.readouts import readouts
    from schemas import model

    old = model.ModelConfig.add(default_config(), "cnn")
    model.ModelConfig.fetch_config(old)
    monkeypatch.setitem(readouts._revisions, readouts.default, 2)
    assert model.ModelConfig.add(default_config(), "cnn") != old
    with pytest.raises(DataError, match=f"revision 1 of readout '{readouts.default}'"):
        model.ModelConfig.fetch_config(old)


def test_every_row_of_a_method_is_read_with_a_check(database):
    """No table fetches name and parameters past `fetch_method` to compute by them."""
    from pathlib import Path

    past = []
    for path in sorted(Path(database.__file__).parent.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fetched = "fetch1(" in line and ('_method"' in line or '_params"' in line)
            if (fetched and "tier_params" not in line) or 'fetch1("model_config")' in line:
                past.append(f"{path.parent.name}/{path.name}:{number}: {line.strip()}")
    assert all("(cls & key)" in line for line in past), past
