"""What is frozen before day 2, and what an answer to it must be."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.tables


def test_the_analysis_is_frozen_with_the_plan(database, loop):
    from pipeline.registry import config_hash
    from schemas import closed_loop

    row = (closed_loop.AnalysisPlan & loop["plan"]).fetch1()
    assert row["analysis_hash"] == config_hash(row["analysis_plan"])
    assert row["analysis_plan"]["comparisons"] == [["mei", kind] for kind in ("fni", "mni", "rf")]
    used = (closed_loop.OutcomeMethod & (closed_loop.Outcome & loop["day2"])).fetch1()
    assert used["outcome_params"] == row["analysis_plan"]["params"]


def test_power_is_planned_from_day_1(database, loop):
    from schemas import closed_loop

    plan = (closed_loop.Plan & loop["plan"]).fetch1()
    power = (closed_loop.PlanPower & loop["plan"]).fetch1()
    assert power["n_images"] == 20
    rows = (closed_loop.PlanPower.Design & loop["plan"]).to_dicts()
    assert plan["n_repeats"] in {row["repeats"] for row in rows}
    by_repeats = {
        row["repeats"]: row["detectable_population"]
        for row in rows
        if row["n_neurons"] == plan["n_targets"]
    }
    assert by_repeats[40] <= by_repeats[5]


def test_of_several_plans_one_must_be_named(database, loop, tmp_path):
    from pipeline.errors import DataError
    from schemas import closed_loop
    from workers.package import write

    first = (closed_loop.PlanTask & loop["plan"]).fetch1()
    displays = (closed_loop.PlanTask.Display & loop["plan"]).to_dicts()
    second = {"plan_id": "0" * 16}
    closed_loop.PlanTask.insert1({**first, **second, "n_natural": 3})
    closed_loop.PlanTask.Display.insert({**row, **second} for row in displays)
    try:
        write(loop["day1"], tmp_path / "one")  # what is not computed is no choice
        closed_loop.Plan.populate(second)
        with pytest.raises(DataError, match=r"several plans.*--plan"):
            write(loop["day1"], tmp_path / "two")
        for plan in (second["plan_id"], first["plan_id"]):
            assert write(loop["day1"], tmp_path / plan, plan) == plan
        with pytest.raises(DataError, match=r"has that plan.*ffff"):
            write(loop["day1"], tmp_path / "three", "f" * 16)
    finally:
        (closed_loop.PlanTask & second).delete(prompt=False)


def test_an_answer_by_another_animal_is_refused(database, loop, write_bundle, next_animal):
    from pipeline.errors import DataError
    from schemas.decisions.ingest import ingest_bundle

    with pytest.raises(DataError, match="another animal"):
        ingest_bundle(write_bundle(plan=loop["plan"]["plan_id"]))


@pytest.fixture
def answer(loop, tmp_path):
    """A second answer to the plan, and the package it was shown from."""

    from pipeline.closed_loop.package.files import read_package
    from workers.package import write

    write(loop["day1"], tmp_path / "package")
    folder = tmp_path / "day2"
    shutil.copytree(loop["folder"] / "day2", folder)
    digest = read_package(tmp_path / "package").manifest["digest"]

    def tell(player=None, **recording):
        path = folder / "recording.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "session": 5, **recording}))
        told = {"plan": loop["plan"]["plan_id"], "animal_id": 77, "package_digest": digest}
        (folder / "player.json").write_text(json.dumps({**told, **(player or {})}))
        return folder

    return tell


BAD_ANSWERS = {
    "foreign package": ({"player": {"package_digest": "0" * 64}}, "edited or written elsewhere"),
    "other plan shown": ({"player": {"plan": "f" * 16}}, "package of another plan"),
    "wrong animal": ({"animal_id": 78}, "another animal"),
    "no such plan": ({"plan": "f" * 16}, "no such plan"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_to_something_else_is_refused_in_one_line(database, answer, name):
    from pipeline.errors import DataError
    from schemas import experiment
    from schemas.decisions.ingest import ingest_bundle

    change, message = BAD_ANSWERS[name]
    before = len(experiment.Scan())
    with pytest.raises(DataError, match=message) as error:
        ingest_bundle(answer(**change))
    assert "\n" not in str(error.value)
    assert len(experiment.Scan()) == before


def test_another_calibration_and_swapped_images_are_refused(database, answer):

    from pipeline.errors import DataError
    from schemas.decisions.ingest import ingest_bundle

    folder = answer()
    monitor = pd.read_csv(folder / "monitor.csv")
    monitor.assign(luminance_cd_m2=monitor.luminance_cd_m2 * 0.8).to_csv(
        folder / "monitor.csv", index=False
    )
    with pytest.raises(DataError, match="not calibrated as the package assumes"):
        ingest_bundle(folder)
    monitor.to_csv(folder / "monitor.csv", index=False)
    one, two = sorted((folder / "images").glob("*.png"))[:2]
    shutil.move(one, folder / "kept")
    shutil.move(two, one)
    shutil.move(folder / "kept", two)
    with pytest.raises(DataError, match="image is not what its name says"):
        ingest_bundle(folder)


def test_a_truncated_log_without_flips_is_flagged_and_counted(database, answer, caplog):
    from schemas import closed_loop
    from schemas.behavior import Sync
    from schemas.decisions.ingest import ingest_bundle

    folder = answer()
    trials = pd.read_csv(folder / "trials.csv")
    trials[:-30].to_csv(folder / "trials.csv", index=False)
    shown = trials[:-30]
    flips = pd.DataFrame(
        {"time_s": shown.onset_s + 0.01, "level": np.where(shown.trial_idx % 2, 128, 255)}
    )
    dark = pd.DataFrame({"time_s": shown.offset_s + 0.01, "level": 0})
    flips = pd.concat([flips.drop(index=[3, 4]), dark]).sort_values("time_s")
    flips.to_csv(folder / "photodiode.csv", index=False)
    key = ingest_bundle(folder)
    assert "planned trials too few" in caplog.text
    assert "planned trials will be scored; 31 dropped, " in caplog.text
    assert caplog.text.rstrip().endswith("2 unseen")
    Sync.populate(key)
    closed_loop.Audit.populate(key)
    found = (closed_loop.Audit & key).fetch1()
    assert found["audit_summary"]["unseen"] == 2
    assert found["audit_summary"]["dropped"] == 31
    unseen = closed_loop.Audit.Trial & key & {"status": "unseen"}
    assert not unseen.to_arrays("usable").any()
