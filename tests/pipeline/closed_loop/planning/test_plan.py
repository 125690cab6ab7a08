import numpy as np
import pytest

from pipeline.closed_loop.planning.plan import plan_methods


def kinds(n_targets, n_natural=4, names=("mei", "rf", "gabor")):
    images = {kind: [f"{kind}{i}" for i in range(n_targets)] for kind in names}
    return {**images, "natural": [f"natural{i}" for i in range(n_natural)]}


@pytest.fixture(params=sorted(plan_methods))
def method(request):
    return plan_methods[request.param]


def test_shows_every_image_equally_often_and_never_twice_in_a_row(method):
    for seed in range(20):
        plan = method({"mei": ["a"], "rf": ["b"], "natural": ["c"]}, minutes=2, seed=seed)
        images = plan.trials.image.to_numpy()
        assert set(np.unique(images, return_counts=True)[1]) == {plan.repeats}
        assert (images[1:] != images[:-1]).all()
        np.testing.assert_array_equal(plan.trials.trial_idx, np.arange(len(images)))


def test_each_block_shows_every_image_once():
    plan = plan_methods["balanced_blocks"](kinds(10), minutes=10)
    blocks = plan.trials.image.to_numpy().reshape(plan.repeats, -1)
    assert all(len(set(block)) == 34 for block in blocks)
    assert len({tuple(block) for block in blocks}) == plan.repeats


def test_fits_the_minutes_and_uses_them(method):
    for minutes in (5, 12.5, 60):
        plan = method(kinds(10), minutes=minutes, max_repeats=None, min_repeats=2)
        on_screen = plan.trials.duration_s.sum() + plan.trials.blank_before_s.sum()
        assert on_screen < plan.total_s <= minutes * 60
        one_more = 34 * (0.5 + 0.4 + 0.02)
        assert plan.total_s + one_more > minutes * 60
        assert not plan.dropped


def test_kind_cannot_be_told_from_the_one_before():
    plan = plan_methods["balanced_blocks"](
        kinds(30, 30), minutes=60, max_repeats=None, min_repeats=2
    )
    kind = plan.trials.kind.to_numpy()
    names, counts = np.unique(kind, return_counts=True)
    observed = np.array(
        [[((kind[:-1] == a) & (kind[1:] == b)).sum() for b in names] for a in names]
    )
    expected = np.outer(counts, counts) / counts.sum()
    chi2 = ((observed - expected) ** 2 / expected).sum()
    assert chi2 < 21.7  # 1 % point of chi-squared with 9 degrees of freedom
    # nor from the place in the block
    first_half = np.arange(len(kind)) % 120 < 60
    share = np.array([(first_half & (kind == name)).sum() for name in names]) / counts
    np.testing.assert_allclose(share, 0.5, atol=4 * np.sqrt(0.25 / counts.min()))


def test_blanks_are_uniform_and_independent_of_the_kind():
    plan = plan_methods["balanced_blocks"](kinds(30), minutes=60, blank_s=[0.3, 0.5])
    blanks = plan.trials.blank_before_s.to_numpy()
    counts = np.histogram(blanks, np.linspace(0.3, 0.5, 11))[0]
    np.testing.assert_allclose(counts / len(blanks), 0.1, atol=0.005)
    means = plan.trials.groupby("kind").blank_before_s.mean()
    assert np.abs(means - 0.4).max() < 4 * 0.0577 / np.sqrt(80)


def test_leaves_out_the_last_targets_and_says_so(method):
    plan = method(kinds(20, 4), minutes=5, repeats=10)  # 300 s hold 32 images x 10
    shown = set(plan.trials.image)
    assert plan.repeats == 10
    assert {"mei0", "rf0", "gabor0", "natural0"} <= shown
    left_out = [row["target"] for row in plan.dropped if row["target"] is not None]
    assert left_out == list(range(19, 19 - len(left_out), -1))
    for row in plan.dropped:
        assert row["reason"]
        assert not shown & set(row["images"].values())
    assert len(shown) + sum(len(row["images"]) for row in plan.dropped) == 64
    assert plan.total_s <= 300


def test_keeps_targets_complete():
    plan = plan_methods.complete("balanced_blocks", {"minutes": 5})
    trials = plan_methods["balanced_blocks"](kinds(40), **plan).trials
    numbers = [
        {image.removeprefix(kind) for image in trials.image[trials.kind == kind]}
        for kind in ("mei", "rf", "gabor")
    ]
    assert numbers[0] == numbers[1] == numbers[2]


def test_an_image_that_two_targets_share_is_shown_as_one():
    plan = plan_methods["balanced_blocks"](
        {"mei": ["a", "b"], "fni": ["n", "n"], "rf": ["r", None], "natural": ["n"]}, minutes=5
    )
    assert sorted(set(plan.trials.image)) == ["a", "b", "n", "r"]
    assert set(plan.trials.kind[plan.trials.image == "n"]) == {"fni"}


def test_is_seeded(method):
    first, again, other = (method(kinds(5), minutes=10, seed=seed).trials for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.image.equals(other.image)


def test_says_when_nothing_fits(method):
    with pytest.raises(ValueError, match="give more minutes"):
        method(kinds(3), minutes=0.1)
    with pytest.raises(ValueError, match="two images"):
        method({"mei": ["a"]}, minutes=10)
