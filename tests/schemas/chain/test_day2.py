"""What was shown on day 2 is audited, matched and scored."""

import numpy as np
import pytest

pytestmark = pytest.mark.tables


def test_a_dropped_trial_is_found_and_not_scored(database, loop):
    from schemas import closed_loop

    audit = (closed_loop.Audit & loop["day2"]).fetch1()
    assert audit["n_planned"] == audit["n_shown"] + 1
    missing = closed_loop.Audit.Trial & loop["day2"] & {"status": "dropped"}
    assert missing.fetch1("planned_idx") == 5


def test_cells_are_found_again(database, loop):
    from schemas import closed_loop

    pairs = (closed_loop.UnitMatch.Pair & loop["day2"]).to_dicts()
    assert len(pairs) >= 6
    assert all(pair["unit_id"] == pair["source_unit_id"] for pair in pairs)


def test_the_known_neurons_prefer_their_meis(database, loop):
    from schemas import closed_loop

    kinds = {row["kind"]: row for row in (closed_loop.Population.Kind & loop["day2"]).to_dicts()}
    assert set(kinds) == {"rf", "mni", "fni"}
    for kind in ("mni", "fni"):
        assert kinds[kind]["n_neurons"] >= 5
        assert kinds[kind]["fraction"] >= 0.75
    confusion = (closed_loop.Confusion.Kind & loop["day2"] & {"kind": "mei"}).fetch1()
    assert confusion["mean_row_rank"] > 0.8
    assert confusion["matrix"].load().shape[0] >= 5


def test_matched_cells_like_the_same_images(database, loop):
    from schemas import closed_loop

    row = (closed_loop.CellMatchOracleCorrelation & loop["day2"]).fetch1()
    units = (closed_loop.CellMatchOracleCorrelation.Unit & loop["day2"]).to_dicts()
    assert len(units) == len(closed_loop.UnitMatch.Pair & loop["day2"])
    gain = [unit["gain"] for unit in units if unit["gain"] is not None]
    assert np.median(gain) == pytest.approx(1.0, abs=0.3)  # the same neurons, the same drive
    assert row["n_images"] in (0, 4)  # four natural images: too few for the published matrix


def test_the_verdict_has_its_checks(database, loop):
    from schemas import closed_loop

    rows = (closed_loop.Sensitivity.Threshold & loop["day2"]).to_dicts()
    whole = {r["kind"]: r for r in (closed_loop.Population.Kind & loop["day2"]).to_dicts()}
    for row in rows:
        if row["percent"] == 50:
            assert row["n_neurons"] == whole[row["kind"]]["n_neurons"]
            assert row["fraction"] == pytest.approx(whole[row["kind"]]["fraction"])
    surest = max(
        row["probability"] for row in (closed_loop.UnitMatch.Pair & loop["day2"]).to_dicts()
    )
    table = closed_loop.Sensitivity.at(
        (closed_loop.Outcome & loop["day2"]).fetch1("KEY"), [0.5, surest, 1.01]
    )
    counts = table[table.kind == "rf"].set_index("threshold").n
    assert counts[0.5] >= counts[surest] >= 1
    assert counts[1.01] == 0
    pooled = (closed_loop.PooledOutcome & loop["day2"]).fetch1()
    assert pooled["n_days"] == 1
    for row in (closed_loop.PooledOutcome.Kind & loop["day2"]).to_dicts():
        assert row["fraction"] == pytest.approx(whole[row["kind"]]["fraction"])
    predictions = (closed_loop.Prediction.Kind & loop["day2"] & {"kind": "mei"}).fetch1()
    assert predictions["n_neurons"] >= 5
    arousal = (closed_loop.ArousalControl & loop["day2"]).to_dicts()
    assert [row["arousal"] for row in arousal] in ([], ["none"])  # no eye camera, no treadmill


def test_what_was_not_measured_of_traces_alone_is_null(database, loop):
    from schemas import closed_loop, imaging

    for scan in (loop["day1"], loop["day2"]):
        quality = (imaging.Quality & scan).fetch1()
        names = (
            "fit",
            "mean_intensity",
            "contrast",
            "intensity_drift",
            "photon_gain",
            "zero_level",
            "photons",
            "saturated",
            "epileptiform_per_min",
        )
        assert {name: quality[name] for name in names} == dict.fromkeys(names)
        assert not imaging.Quality.Finding & scan
        motion = (imaging.Motion & scan).fetch1()
        names = (
            "motion_rms_px",
            "outlier_fraction",
            "accepted",
            "worse_fraction",
            "z_drift",
            "correlation_before",
            "crispness_before",
        )
        assert {name: motion[name] for name in names} == dict.fromkeys(names)
        drift = (closed_loop.Drift & scan).fetch1()
        names = ("drift_y_um_h", "drift_x_um_h", "drift_range_um")
        assert {name: drift[name] for name in names} == dict.fromkeys(names)
        assert drift["n_chunks"] == 0
        assert (imaging.RasterPhase & scan).fetch1("drift_px") is None
        assert set((imaging.Fluorescence.Unit & scan).to_arrays("coefficient")) <= {None}
        units = (imaging.Segmentation.Unit & scan).to_dicts()
        assert {(unit["score"], unit["soma_probability"]) for unit in units} == {(None, None)}


def test_a_method_that_takes_gains_scores_the_same_neurons(database, loop):
    from schemas import closed_loop
    from schemas.closed_loop.known_gain import without_state

    method = closed_loop.OutcomeMethod.add(
        "gain_permutation", {"n_permutations": 199, "n_bootstrap": 10}
    )
    try:
        assert not without_state(closed_loop.OutcomeMethod) & method & loop["day2"]
        for table in (closed_loop.Outcome, closed_loop.Comparison, closed_loop.Population):
            table.populate(loop["day2"], method)
        rows = (closed_loop.Population.Kind & loop["day2"] & method).to_dicts()
        every = closed_loop.Population.Kind & loop["day2"]
        welch = every - (closed_loop.OutcomeMethod & method)
        before = {row["kind"]: row for row in welch.to_dicts()}
        assert {row["kind"] for row in rows} == set(before)
        for row in rows:
            assert row["n_neurons"] == before[row["kind"]]["n_neurons"]
            assert row["fraction"] == pytest.approx(before[row["kind"]]["fraction"], abs=0.3)
    finally:
        (closed_loop.OutcomeMethod & method).delete(prompt=False)
