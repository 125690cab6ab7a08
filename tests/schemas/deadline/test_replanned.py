"""Another plan of the same scan, and the package of one of several."""

import itertools
import os
import pty
import subprocess
import time

import pytest
from short_loops import (
    KINDS,
    ROOT,
    TARGETS,
    asked,
    command,
    in_seconds,
    made,
    play,
    recipe,
    run_here,
    show,
    stored,
    wait_for,
)

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def test_a_registered_scan_is_planned_again_as_the_message_says(database, scan):
    from schemas import closed_loop, mei
    from schemas.decisions import tasks

    chosen = recipe()
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8)
    with pytest.raises(
        DataError, match=r"other numbers.*found 6, 8; expected 6, 4; run `inception replan`"
    ):
        tasks.register_loop(scan, chosen, minutes=4)
    with pytest.raises(DataError, match="inception replan"):
        tasks.register_loop(scan, chosen, targets=4)
    counts = len(mei.MEITask()), len(mei.DisplayTask())
    second = tasks.register_loop(scan, chosen, minutes=4, again=True)
    assert second["plan_id"] != first["plan_id"]
    assert tasks.register_loop(scan, chosen, minutes=4, again=True) == second
    assert (len(mei.MEITask()), len(mei.DisplayTask())) == counts  # the same images
    for kind, batch in itertools.product(KINDS, range(3)):
        show(first["plan_id"], kind, batch)
    length = [made(loop["plan_id"]).fetch1("total_s") / 60 for loop in (first, second)]
    assert length[1] < 4 < length[0] < 8
    third = tasks.register_loop(scan, chosen, minutes=4, again=True)
    assert third["plan_id"] not in (first["plan_id"], second["plan_id"])  # that one was made
    orders = [
        (closed_loop.Plan.Trial & f"plan_id='{key['plan_id']}'").to_arrays("image_hash").tolist()
        for key in (second, third)
        if made(key["plan_id"])
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_what_a_plan_left_out_is_shown_when_the_scan_is_planned_again(database, scan):
    from schemas import closed_loop
    from schemas.decisions import tasks

    chosen, due = recipe(), in_seconds(4)
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=due)
    show(first["plan_id"], "mei", 0)
    wait_for(due)
    assert made(first["plan_id"]).fetch1("n_targets") == 2
    again = tasks.register_loop(scan, chosen, again=True)
    assert stored(again) is None  # the deadline is past
    assert not [
        key
        for key in closed_loop.left_behind().get("mei.Display", ())
        if key in asked(again["plan_id"])
    ]
    for kind, batch in itertools.product(KINDS, range(3)):
        show(again["plan_id"], kind, batch)
    assert made(again["plan_id"]).fetch1("n_targets") == TARGETS


@pytest.fixture
def two_plans(database, scan):
    """Ids of two plans of 8 and 6 min, the newer one first."""
    from schemas.decisions import tasks

    chosen = recipe()
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8)["plan_id"]
    for kind, batch in itertools.product(KINDS, range(3)):
        show(first, kind, batch)
    time.sleep(1.1)  # loops are in the order of the seconds of their registration
    second = tasks.register_loop(scan, chosen, minutes=6, again=True)["plan_id"]
    assert made(first)
    assert made(second)
    return second, first


@pytest.mark.slow
def test_several_plans_are_listed_in_one_line_and_asked_for_at_a_terminal(
    place, ledger, scan, two_plans, tmp_path
):
    from workers.package import choices

    known = choices(scan)
    assert [plan["plan"] for plan in known][:2] == list(two_plans)
    plain = run_here(place, "package", "55/1/1", tmp_path / "one")
    assert plain.returncode == 1
    (told,) = plain.stderr.strip().splitlines()
    for plan in known:
        assert (
            f"{plan['plan']} (recipe {plan['recipe']}, {plan['images']} images, "
            f"{plan['units']} units, {plan['minutes']:g} min)" in told
        )
    assert told.endswith("name it with --plan")
    assert not (tmp_path / "one").exists()

    mine, other = pty.openpty()
    words = command(place, "package", "55/1/1", tmp_path / "two")
    asking = subprocess.Popen(
        words, cwd=ROOT, stdin=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.write(mine, b"0\n2\n")  # there is no plan 0: asked again
    said = asking.communicate(timeout=120)[0]
    os.close(mine)
    os.close(other)
    assert asking.returncode == 0, said
    assert f"2  {two_plans[1]}  recipe" in said
    assert said.count("Which plan (1-") == 2
    chosen = known[1]
    assert (
        f"package {two_plans[1]} written to {tmp_path / 'two'}: {chosen['images']} images for "
        f"{chosen['units']} units, {chosen['repeats']} times each: {chosen['trials']} trials, "
        f"{chosen['minutes']:g} min" in said
    )


def test_a_package_is_not_written_over_what_is_not_its_own(scan, two_plans, tmp_path):
    from workers.package import verify, write

    folder = tmp_path / "package"
    newer, older = two_plans
    write(scan, folder, older)
    play(folder, folder / "day2")  # as docs/day2.md says: in the package's folder
    log = (folder / "day2" / "trials.csv").read_bytes()
    assert verify(scan, folder, older) == older
    assert verify(scan, folder) == older  # of several plans, that which it names
    write(scan, folder, older)  # the same once more
    assert (folder / "day2" / "trials.csv").read_bytes() == log
    with pytest.raises(DataError, match=r"holds the package of another plan.*--replace"):
        write(scan, folder, newer)
    with pytest.raises(DataError, match=r"files beside the package would be lost.*day2/"):
        write(scan, folder, newer, replace=True)
    (folder / "images.csv").write_text("damaged")
    with pytest.raises(DataError, match=r"files beside the package would be lost.*day2/"):
        write(scan, folder, older)
    (folder / "day2").rename(tmp_path / "day2")
    write(scan, folder, older)  # damaged, and written again
    assert verify(scan, folder, older) == older
    write(scan, folder, newer, replace=True)
    assert verify(scan, folder, newer) == newer
    packed = tmp_path / "package.zip"
    write(scan, packed, older)
    with pytest.raises(DataError, match="another plan"):
        write(scan, packed, newer)
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.tex").write_text("years")
    for replace in (False, True):
        with pytest.raises(DataError, match="exists and is no package"):
            write(scan, mine, older, replace=replace)
    assert (mine / "chapter1.tex").read_text() == "years"
