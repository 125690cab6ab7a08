import numpy as np
import pytest

from pipeline.mei.targets import (
    ByHand,
    TargetData,
    TargetResult,
    choose_targets,
    fraction_of,
    half_oracles,
    target_rules,
)


def data(n=10, **changes):
    """Units in a row, 30 um apart, all of them good, the first the best."""
    score = np.linspace(0.8, 0.5, n)
    fields = {
        "oracle": np.full(n, 0.6),
        "cnn_score": score,
        "ln_score": score / 2,
        "cnn_fraction": score / 0.6,
        "ln_fraction": score / 1.2,
        "y_px": np.full(n, 50.0),
        "x_px": 20.0 + 30 * np.arange(n),
        "um_xyz": None,
        "field_size_px": (100, 340),
        "field": np.zeros(n, int),
        "um_per_px": 1.0,
    }
    return TargetData(**{**fields, **changes})


def test_best_predicted_units_come_first_and_every_dropped_unit_has_a_reason():
    result = target_rules["validation"](data(), n_targets=3)
    np.testing.assert_array_equal(result.rank, [0, 1, 2] + [-1] * 7)
    np.testing.assert_array_equal(result.kept, result.rank >= 0)
    for rule in target_rules:
        chosen = target_rules[rule](data())
        assert all(bool(r) != k for r, k in zip(chosen.reason, chosen.kept, strict=True))


def test_fewer_targets_than_asked_for_is_no_error():
    result = target_rules["validation"](data(4), n_targets=150)
    assert result.kept.all()
    empty = target_rules["validation"](data(3, cnn_score=np.full(3, np.nan)))
    assert not empty.kept.any()
    assert empty.reason == ["validation score of the CNN is not known"] * 3


@pytest.mark.parametrize("rule", list(target_rules))
def test_nothing_at_the_edge_and_never_two_neighbors(rule):
    rng = np.random.default_rng(0)
    n = 300
    many = data(
        n,
        y_px=rng.uniform(0, 199, n),
        x_px=rng.uniform(0, 199, n),
        field_size_px=(200, 200),
        oracle=rng.uniform(0.5, 0.9, n),
        cnn_score=rng.uniform(0.3, 0.9, n),
        cnn_fraction=rng.uniform(0.3, 1, n),
        ln_fraction=rng.uniform(0.1, 0.8, n),
        um_per_px=(2.0, 2.0),
    )
    kept = target_rules[rule](many, n_targets=1000).kept
    assert kept.sum() > 3
    place = np.column_stack([many.y_px, many.x_px])[kept] * 2.0
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)[~np.eye(len(place), dtype=bool)]
    assert apart.min() >= 20
    assert place.min() > 10
    assert place.max() < 2 * 199 - 10


def test_neighbors_in_different_fields_are_no_neighbors():
    two = data(2, x_px=np.array([50.0, 50.0]), field=np.array([0, 1]))
    assert target_rules["validation"](two).kept.all()
    same = data(2, x_px=np.array([50.0, 50.0]))
    result = target_rules["validation"](same)
    assert result.kept.tolist() == [True, False]
    assert "better output 0" in result.reason[1]
    same = data(2, x_px=np.array([50.0, 50.0]), names=["unit 7", "unit 9"])
    assert "better unit 7" in target_rules["validation"](same).reason[1]


def test_depth_counts_when_it_is_known():
    place = np.array([[0.0, 0, 0], [0, 0, 15], [0, 0, 40]])
    assert target_rules["validation"](data(3, um_xyz=place)).kept.tolist() == [True, False, True]


def test_published_rule_ranks_by_the_difference_of_the_models():
    n = 100
    rng = np.random.default_rng(1)
    cnn, ln, oracle = rng.uniform(0.2, 1, n), rng.uniform(0.1, 0.9, n), rng.uniform(0.1, 0.9, n)
    spread = data(
        n,
        x_px=np.arange(n) * 50.0 + 50,
        field_size_px=(100, 6000),
        cnn_fraction=cnn,
        ln_fraction=ln,
        oracle=oracle,
    )
    result = target_rules["walker2019"](spread)
    reliable = oracle > np.percentile(oracle, 50)
    good = reliable & (cnn > np.percentile(cnn[reliable], 70))
    good &= ln > np.percentile(ln[reliable], 70)
    np.testing.assert_array_equal(result.kept, good)
    order = np.argsort(result.rank[good])
    assert (np.diff((cnn - ln)[good][order]) <= 0).all()


def test_units_of_a_data_set_without_places_can_be_targets():
    nowhere = np.full(5, np.nan)
    result = target_rules["validation"](
        data(5, y_px=nowhere, x_px=nowhere, field_size_px=None, oracle=np.full(5, np.nan))
    )
    assert result.kept.all()


def test_permuting_units_permutes_the_choice():
    rng = np.random.default_rng(2)
    n = 50
    score = rng.uniform(0.1, 0.9, n)
    x, y = rng.uniform(0, 300, n), rng.uniform(15, 80, n)
    order = rng.permutation(n)
    first = target_rules["validation"](data(n, cnn_score=score, x_px=x, y_px=y)).rank
    turned = data(n, cnn_score=score[order], x_px=x[order], y_px=y[order])
    ln = np.linspace(0.8, 0.5, n) / 2
    turned = TargetData(**{**vars(turned), "ln_score": ln[order]})
    np.testing.assert_array_equal(target_rules["validation"](turned).rank, first[order])


def test_halves_of_the_repeats_agree_on_tuned_units_and_share_no_trial():
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.permutation(60) for _ in range(8)])
    tuned = rng.normal(size=(60, 5))[image] + rng.normal(size=(480, 5))
    noise = rng.normal(size=(480, 5))
    seen, held = half_oracles(np.column_stack([tuned, noise]), image)
    assert (seen[:5] > 0.5).all()
    assert (held[:5] > 0.5).all()
    assert np.abs(np.r_[seen[5:], held[5:]]).max() < 0.3
    odd_only = tuned.copy()
    turn = np.array([np.sum(image[:k] == image[k]) for k in range(480)])
    odd_only[turn % 2 == 1] = 0
    np.testing.assert_array_equal(half_oracles(odd_only, image)[0], seen[:5])


def test_too_few_repeats_have_no_halves():
    assert np.isnan(half_oracles(np.ones((6, 3)), np.repeat([0, 1], 3))).all()


@pytest.mark.parametrize("rule", ["walker2019", "successor", "validation", "expected"])
def test_every_rule_keeps_the_best_units_when_half_of_the_repeats_tell_the_oracle(rule):
    rng = np.random.default_rng(3)
    n, image = 60, np.tile(np.arange(40), 8)
    strength = np.linspace(0, 2.5, n)
    responses = strength * rng.normal(size=(40, n))[image] + rng.normal(size=(320, n))
    oracle = half_oracles(responses, image)[0]
    score = np.linspace(0.3, 0.9, n) * np.maximum(oracle, 0)
    result = target_rules[rule](
        TargetData(
            oracle,
            score,
            0.5 * score,
            fraction_of(score, oracle),
            fraction_of(0.5 * score, oracle),
            np.arange(n) * 30.0 + 20,
            np.full(n, 50.0),
            None,
            (2000, 100),
            np.zeros(n, int),
            (1.0, 1.0),
        )
    )
    assert result.kept.sum() >= 3
    assert oracle[result.kept].min() > 0.1
    assert oracle[result.kept].mean() > np.median(oracle)
    assert [text.startswith("kept") for text in result.explained()] == result.kept.tolist()


OUT, IN = ByHand(False, "a vessel"), ByHand(True, "of interest")


@pytest.mark.parametrize("rule", ["validation", "walker2019", "successor"])
def test_units_decided_by_hand_come_before_every_rule(rule):
    wide = {
        "x_px": 20.0 + 30 * np.arange(40),
        "field_size_px": (100, 1240),
        "oracle": np.linspace(0.95, 0.55, 40),
        "cnn_fraction": np.linspace(1.0, 0.4, 40),
        "ln_fraction": np.linspace(0.6, 0.3, 40),
    }
    plain = choose_targets(rule, data(40, **wide), {"n_targets": 5})
    best, worst = int(np.argmin(np.where(plain.kept, plain.rank, 99))), 39
    assert plain.kept[best]
    assert not plain.kept[worst]
    decided = data(40, **wide, by_hand={best: OUT, worst: IN})
    found = choose_targets(rule, decided, {"n_targets": 5})
    assert not found.kept[best]
    assert found.rank[worst] == 0
    assert found.kept.sum() == 5
    explained = found.explained()
    assert explained[best] == "excluded by hand: a vessel"
    assert explained[worst] == "kept: included by hand: of interest"
    others = [unit for unit in np.argsort(plain.rank) if plain.kept[unit] and unit != best]
    rest = [unit for unit in np.argsort(found.rank) if found.kept[unit] and unit != worst]
    assert rest[: len(others)] == others  # who is kept beside them is up to the rule, in its order


def test_an_excluded_unit_sets_no_limit_and_spares_no_neighbor():
    close = np.where(np.arange(10) == 1, 22.0, 20.0 + 30 * np.arange(10))  # 1 beside 0
    found = choose_targets("validation", data(x_px=close, by_hand={0: OUT}), {"edge_um": 0.0})
    assert found.kept[1]
    both = choose_targets("validation", data(x_px=close, by_hand={0: IN, 1: IN}), {"edge_um": 0.0})
    assert both.kept[:2].all()  # the rule's distance is not for those chosen by hand
    one = choose_targets("validation", data(x_px=close, by_hand={1: IN}), {"edge_um": 0.0})
    assert one.rank[1] == 0
    assert "of better output 1" in one.reason[0]
    outlier = data(cnn_score=np.r_[5.0, np.linspace(0.8, 0.5, 9)])
    assert choose_targets("validation", outlier, {}).kept.sum() == 1
    outlier = data(cnn_score=np.r_[5.0, np.linspace(0.8, 0.5, 9)], by_hand={0: OUT})
    assert choose_targets("validation", outlier, {}).kept.sum() > 5


def test_a_rule_that_knows_nothing_of_decisions_is_corrected(monkeypatch):
    def first_units(given, *, n_targets=3):
        rank = np.where(np.arange(10) < n_targets, np.arange(10), -1)
        reason = ["" if kept else "late" for kept in rank >= 0]
        return TargetResult(rank >= 0, rank, reason, given.cnn_score)

    monkeypatch.setitem(target_rules._functions, "first_units", first_units)
    by_hand = {1: OUT, 7: IN, 8: IN}
    found = choose_targets("first_units", data(by_hand=by_hand), {"n_targets": 3})
    assert np.flatnonzero(found.kept).tolist() == [0, 7, 8]
    assert found.rank[[7, 8, 0]].tolist() == [0, 1, 2]
    explained = found.explained()
    assert explained[2] == "not among the best 3"
    assert explained[1].startswith("excluded by hand")
    assert explained[8].startswith("kept: included by hand")
    assert choose_targets("first_units", data(), {"n_targets": 3}).kept.sum() == 3
