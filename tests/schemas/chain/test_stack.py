"""Cells found again through a stack; more loops on the animal, so this file comes last."""

import numpy as np
import pytest
from known_neurons import RECIPE, populate, write_answer, write_stack

pytestmark = pytest.mark.tables


def test_the_stack_leads_to_the_same_cells(database, loop):
    from schemas import closed_loop

    through = (closed_loop.StackMatch.Pair & loop["day2"]).to_dicts()
    assert len(through) >= 6
    assert all(pair["unit_id"] == pair["source_unit_id"] for pair in through)
    field = (closed_loop.StackMatch.Field & loop["day2"]).fetch1()
    depth = np.array(field["target_transform"]) @ [32, 32, 1]
    assert depth[0] == pytest.approx(16.0, abs=4.0)  # the third slice, 8 um apart
    both = (closed_loop.CombinedMatch & loop["day2"]).fetch1()
    assert both["n_routes"] == 2
    assert set((closed_loop.CombinedMatch.Pair & loop["day2"]).to_arrays("n_agree")) <= {1, 2}


def through_stack(match):
    return {**RECIPE, "match": match}


def test_a_match_field_to_field_has_the_hashes_of_recipes_without_the_choice(database):
    from schemas import closed_loop
    from schemas.decisions.recipe import complete_recipe

    plain = closed_loop.MatchMethod.add()
    assert plain == {"match_hash": closed_loop.MatchMethod.registry.hash("field_to_field")}
    assert closed_loop.MatchMethod.add(through="field") == plain
    others = {
        closed_loop.MatchMethod.add(through=way)["match_hash"] for way in ("stack", "combined")
    }
    assert len(others | {plain["match_hash"]}) == 3
    with pytest.raises(ValueError, match="no match through 'stak'"):
        closed_loop.MatchMethod.add(through="stak")
    assert complete_recipe({"match": {"through": "field"}}) == complete_recipe()
    assert "through" not in complete_recipe()["match"]
    assert complete_recipe({"match": {"through": "stack"}})["match"]["through"] == "stack"


def test_a_stack_of_an_unknown_session_is_refused(database, loop, tmp_path):
    from pipeline.errors import DataError
    from schemas import closed_loop

    stack = write_stack(tmp_path / "stack", 4321, loop["folder"] / "day2")
    with pytest.raises(DataError, match="no such session"):
        closed_loop.Stack.ingest(stack)
    with pytest.raises(DataError, match="file is missing"):
        closed_loop.Stack.ingest(tmp_path)


@pytest.mark.parametrize(
    ("scan_idx", "match"),
    [(2, {"through": "stack"}), (3, {"through": "combined", "min_probability": 0.4})],
)
def test_targets_found_only_through_the_stack_reach_the_verdict(
    database, loop, tmp_path, scan_idx, match
):
    from schemas import closed_loop
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    recipe = through_stack(match)
    made = tasks.register_loop(loop["day1"], recipe, targets=10, minutes=8)
    populate(database, 77)
    shown = ingest_bundle(write_answer(tmp_path / "shown", 77, made, scan_idx))

    def miss(name):  # as if the fields themselves had led to no cell
        if name == "closed_loop.UnitMatch":
            (closed_loop.UnitMatch.Pair & shown).delete_quick()

    populate(database, 77, after=miss)
    assert len(closed_loop.UnitMatch.Pair & shown) == 0
    pairs = closed_loop.matched_pairs(shown)
    assert len(pairs) >= 6
    assert all(pair["unit_id"] == pair["source_unit_id"] for pair in pairs)
    outcome = (closed_loop.Outcome & shown).fetch1()
    assert outcome["n_scored"] == len(closed_loop.Outcome.Neuron & shown) >= 5
    assert len(closed_loop.Outcome.Joined & shown) == 1
    assert outcome["match_hash"] != (closed_loop.Outcome & loop["day2"]).fetch1("match_hash")
    scored = {row["matched_unit_id"] for row in (closed_loop.Outcome.Unit & shown).to_dicts()}
    assert scored <= {pair["unit_id"] for pair in pairs}
    # every check of the verdict is made of the same pairs
    assert len(closed_loop.CellMatchOracleCorrelation.Unit & shown) == len(pairs)
    whole = {r["kind"]: r["n_neurons"] for r in (closed_loop.Population.Kind & shown).to_dicts()}
    table = closed_loop.Sensitivity.at((closed_loop.Outcome & shown).fetch1("KEY"), [0.4, 1.01])
    for kind, n in whole.items():
        assert table[table.kind == kind].set_index("threshold").n.to_dict() == {0.4: n, 1.01: 0}
    pooled = (closed_loop.PooledOutcome.Kind & shown).to_dicts()
    assert {row["kind"]: row["n_neurons"] for row in pooled} == whole
    assert (closed_loop.Prediction.Kind & shown & {"kind": "mei"}).fetch1("n_neurons") >= 5


def test_a_verdict_through_a_stack_waits_for_the_stack(database, loop, tmp_path, caplog):
    from pipeline.errors import DataError
    from schemas import closed_loop
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    recipe = through_stack({"through": "stack", "min_probability": 0.45})
    made = tasks.register_loop(loop["day1"], recipe, targets=10, minutes=8)
    populate(database, 77)
    (closed_loop.Stack & loop["day1"]).delete(prompt=False, part_integrity="cascade")
    shown = ingest_bundle(write_answer(tmp_path / "shown", 77, made, 4))
    (line,) = [r.getMessage() for r in caplog.records if r.name == "inception.registration"]
    assert "through 'stack'" in line
    assert "no structural stack" in line
    assert "\n" not in line
    populate(database, 77)
    assert closed_loop.UnitMatch & shown
    assert not (closed_loop.Outcome.key_source & shown) + (closed_loop.Outcome & shown).proj()
    assert not closed_loop.CellMatchOracleCorrelation & shown
    assert closed_loop.without_pairs() & shown
    with pytest.raises(DataError, match="no match through a structural stack"):
        closed_loop.matched_pairs(shown)
    assert closed_loop.Outcome & loop["day2"]  # field to field, which needs no stack
    closed_loop.Stack.ingest(loop["folder"] / "stack")
    populate(database, 77)
    assert (closed_loop.Outcome & shown).fetch1("n_scored") >= 5
