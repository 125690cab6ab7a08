"""Several scans on one core, and a core that is carried to a new scan."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.dataset.groups import reconcile
from pipeline.errors import DataError
from pipeline.model.multiscan import JointRun
from pipeline.simulate import Population, simulate_dataset

TINY = {"core": {"channels": 6, "hidden_kernels": [3]}, "training": {"batch_size": 32}}


@pytest.fixture(scope="module")
def pair():
    """Two animals: other cells, other images."""
    found = []
    for seed, cells, images in ((11, 5, 90), (12, 7, 60)):
        simulated = simulate_dataset(
            Population(seed=seed, n_cells=cells), images, test_images=4, repeats=3, seed=seed
        )
        found.append(Dataset(**simulated.arguments()))
    return found


def train(datasets, **options):
    encoder = model.build_joint_encoder(TINY, datasets, seed=0)
    return encoder, model.train_jointly(encoder, datasets, seed=0, **options)


@pytest.fixture(scope="module")
def joint(pair):
    return train(pair, max_epochs=3)


def test_members_share_the_core_and_nothing_else(pair, joint):
    encoder, result = joint
    first, second = encoder.members
    assert first.core is second.core
    assert [member.n_units for member in encoder.members] == [5, 7]
    untrained = model.build_joint_encoder(TINY, pair, seed=0)
    for before, after in zip(untrained.members, encoder.members, strict=True):
        for part in ("readout", "shifter", "modulator"):  # both members have learned
            old, new = (getattr(m, part).state_dict() for m in (before, after))
            assert any(not torch.equal(old[name], new[name]) for name in new), part
    assert result.epochs == 3
    for member, data in zip(encoder.members, pair, strict=True):
        assert member.image_mean == pytest.approx(model.build_encoder(TINY, data).image_mean)
        assert member.predict(data.images[:3]).shape == (3, data.n_units)


def test_a_saved_member_is_a_whole_encoder(pair, joint, tmp_path):
    member = joint[0].members[1]
    model.save_encoder(member, tmp_path / "member.safetensors")
    again = model.load_encoder(tmp_path / "member.safetensors")
    images = pair[1].images[:4]
    np.testing.assert_array_equal(again.predict(images), member.predict(images))
    assert model.evaluate(model.Ensemble([again, member]), pair[1]).per_scan["n_units"] == 7


@pytest.mark.numerical
def test_a_joint_training_resumes_from_its_checkpoint_to_the_same_weights(pair, joint, tmp_path):
    path = tmp_path / "joint.safetensors"

    def stop(epoch, info):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(pair, max_epochs=3, checkpoint=path, progress=stop)
    resumed, _ = train(pair, max_epochs=3, checkpoint=path)
    for name, tensor in joint[0].state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_validation_counts_every_unit_of_every_scan_once(pair, joint):
    encoder, result = joint
    per_unit = np.concatenate(
        [
            model.evaluate(model.Ensemble([m]), d, tier="validation").per_unit["single_trial"]
            for m, d in zip(encoder.members, pair, strict=True)
        ]
    )
    assert result.validation_correlation == pytest.approx(np.nan_to_num(per_unit).mean(), abs=1e-4)


def test_an_epoch_reads_every_training_trial_once_and_copies_no_data(pair):
    encoder = model.build_joint_encoder(TINY, pair, seed=0)
    run = JointRun(encoder, pair, torch.device("cpu"), 0, None, None, None, None)
    tensors = [(t.images.data_ptr(), t.responses.data_ptr()) for t in run.tiers.members]
    steps = run._batches(16)
    assert all(tiers in run.tiers.members for _, tiers, _ in steps)
    assert [(t.images.data_ptr(), t.responses.data_ptr()) for t in run.tiers.members] == tensors
    for member, tiers, data in zip(encoder.members, run.tiers.members, pair, strict=True):
        seen = torch.cat([trials for e, _, trials in steps if e is member]).tolist()
        left = len(data.trials("train")) - len(seen)  # a last batch too small for its statistics
        assert len(set(seen)) == len(seen)
        assert 0 <= left <= 8
        assert set(seen) <= set(data.trials("train").tolist())
        assert len(tiers.images) == len(data.images)
    members = [encoder.members[0] is e for e, _, _ in steps]
    assert sum(a != b for a, b in pairwise(members)) > 1  # visited in turns


def _shown(images, tiers, names):
    rng = np.random.default_rng(len(tiers))
    return Dataset(
        images[names],
        np.arange(len(names)),
        np.arange(len(names)),
        rng.random((len(names), 2)),
        tiers,
    )


def test_an_image_that_tests_one_scan_trains_no_other():
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 8), dtype=np.uint8)
    a = _shown(images, ["test", "validation", "train", "train", "train"], [0, 1, 2, 3, 4])
    b = _shown(
        images, ["train", "train", "train", "validation", "validation", "test"], [0, 1, 6, 2, 7, 8]
    )
    (c, d), dropped = reconcile([a, b])
    # image 2 validates b: it leaves a's train; images 0 and 1 test and validate a: out of b's train
    assert dropped == [1, 2]
    assert c.tiers.tolist() == ["test", "validation", "train", "train"]
    assert d.tiers.tolist() == ["train", "validation", "validation", "test"]
    np.testing.assert_array_equal(c.images[c.image_index], images[[0, 1, 3, 4]])
    (alone,), none = reconcile([a])
    assert alone is a
    assert none == [0]


def test_adding_a_scan_moves_no_image_between_tiers():
    images = np.random.default_rng(1).integers(0, 256, (40, 6, 8), dtype=np.uint8)
    tiers = ["train"] * 8 + ["validation"] * 3 + ["test"] * 3
    sets = [_shown(images, tiers, np.arange(14) + 9 * k) for k in range(3)]
    (two, _), (three, _) = reconcile(sets[:2]), reconcile(sets)
    for before, after in zip(two, three, strict=False):
        tier = dict(zip(map(bytes, before.images[before.image_index]), before.tiers, strict=True))
        for image, now in zip(after.images[after.image_index], after.tiers, strict=True):
            assert tier[bytes(image)] == now


def test_a_scan_that_would_have_nothing_left_to_train_is_named():
    images = np.random.default_rng(2).integers(0, 256, (6, 6, 8), dtype=np.uint8)
    a = _shown(images, ["test", "test", "train", "validation"], [0, 1, 2, 3])
    b = _shown(images, ["train", "train", "validation"], [0, 1, 4])
    with pytest.raises(DataError, match=r"tiers.*'train': 0"):
        reconcile([a, b])
    with pytest.raises(DataError, match="aspect"):
        reconcile([a, _shown(images[:, :4], ["train", "validation"], [0, 1])])


def test_an_image_is_known_at_another_size():
    images = np.random.default_rng(3).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    large = images.repeat(4, axis=1).repeat(4, axis=2)
    a = _shown(images, ["test", "train", "validation"], [0, 1, 2])
    b = _shown(large, ["train", "train", "validation"], [0, 3, 4])
    (_, d), dropped = reconcile([a, b])
    assert dropped == [0, 1]
    np.testing.assert_array_equal(d.images[d.image_index], large[[3, 4]])
