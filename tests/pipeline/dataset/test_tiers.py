import numpy as np
import pytest

from pipeline.dataset import assign_tiers
from pipeline.errors import DataError


def test_repeated_images_are_test_and_the_others_split_as_asked():
    ids = np.array([f"{i:064x}" for i in range(5000)] + ["repeated"] * 10)
    tiers = assign_tiers(ids, validation_fraction=0.1)
    assert (tiers[-10:] == "test").all()
    share = (tiers[:5000] == "validation").mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 5000)
    assert set(tiers[:5000]) == {"train", "validation"}


def test_adding_trials_or_reordering_moves_no_image_between_train_and_validation():
    rng = np.random.default_rng(0)
    ids = np.array([f"image {i}" for i in range(500)])
    before = dict(zip(ids, assign_tiers(ids), strict=True))
    more = rng.permutation(np.concatenate([ids, [f"other {i}" for i in range(700)]]))
    after = dict(zip(more, assign_tiers(more), strict=True))
    assert all(after[name] == tier for name, tier in before.items())
    assert assign_tiers(ids, seed=1).tolist() != assign_tiers(ids, seed=0).tolist()


def test_all_images_repeated_leaves_nothing_to_train_on():
    with pytest.raises(DataError, match="min_repeats"):
        assign_tiers(np.repeat(np.arange(10), 2))
    assert (assign_tiers(np.repeat(np.arange(50), 2), min_repeats=3) != "test").all()
