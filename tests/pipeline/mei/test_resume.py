"""A synthesis goes on from the batches that it finds whole, and computes damaged ones anew."""

import numpy as np
import pytest
from torch import nn

from pipeline.mei.ascent import Ascended
from pipeline.mei.resume import Checkpoint


def batch():
    rng = np.random.default_rng(0)
    names = Ascended.__dataclass_fields__
    return Ascended(**{name: rng.normal(size=(3, 2)).astype(np.float32) for name in names})


def test_a_saved_batch_comes_back_and_a_damaged_one_does_not(tmp_path, caplog):
    kept, done = Checkpoint(tmp_path, nn.Linear(2, 2), {"seed": 0}), batch()
    what = (np.arange(3), np.arange(2), False)
    assert kept.load(*what) is None
    kept.save(*what, done)
    np.testing.assert_array_equal(kept.load(*what).images, done.images)
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    other = tmp_path / "other.npz"
    np.savez(other, images=done.images)
    for content in (b"", b"nothing", whole[:-100], bytes(flipped), other.read_bytes()):
        file.write_bytes(content)
        caplog.clear()
        assert kept.load(*what) is None
        assert "computed anew" in caplog.text
        assert not file.exists()
    kept.save(*what, done)
    assert kept.load(*what).value.tobytes() == done.value.tobytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 0, "method": "x"}])
def test_a_batch_of_other_settings_is_not_taken(tmp_path, change):
    what = (np.arange(3), np.arange(2), False)
    model = nn.Linear(2, 2)
    Checkpoint(tmp_path, model, {"seed": 0}).save(*what, batch())
    assert Checkpoint(tmp_path, model, change).load(*what) is None
