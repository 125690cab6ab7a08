"""Images for an eye that moves."""

import numpy as np
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.view import View

TURN = np.array([[0.05, 0.01], [-0.01, 0.08]], np.float32)  # of half a frame per sd of gaze


def ensemble(shifter="affine_image", gaze=True):
    rng = np.random.default_rng(0)
    n, units = 60, 6
    data = Dataset(
        images=rng.integers(0, 256, (n, 36, 64)).astype(np.uint8),
        image_index=np.arange(n),
        image_id=np.arange(n),
        responses=rng.gamma(2.0, 1.0, (n, units)).astype(np.float32),
        pupil_center=rng.normal((80, 60), (2, 3), (n, 2)).astype(np.float32) if gaze else None,
        tiers=np.repeat(["train", "validation", "test"], 20),
    )
    members = []
    for seed in (0, 1):
        encoder = models.build_encoder({"shifter": {"name": shifter}}, data, seed=seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            encoder.readout.features.normal_(0, 0.3)
            encoder.readout.place[:] = torch.linspace(-0.7, 0.7, 12).reshape(6, 2) + 0.02 * seed
            if gaze and shifter != "none":
                encoder.shifter.layer.weight.copy_(torch.as_tensor(TURN) * (1 + 0.1 * seed))
        members.append(encoder)
    return models.Ensemble(members)


@pytest.fixture(scope="module")
def trained():
    return ensemble()


def test_the_spread_has_the_moments_of_the_recorded_gaze(trained):
    shifts, weights = (part.numpy() for part in trained.frozen().gaze_spread())
    moves = []
    rng = np.random.default_rng(1)
    z = torch.as_tensor(rng.normal(size=(20000, 2)), dtype=torch.float32)
    with torch.no_grad():
        for encoder in trained.encoders:
            moves.append(encoder.shifter(z).numpy() * [32, 18])
    recorded = np.mean(moves, 0)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ shifts, 0, atol=1e-5)
    wanted = np.cov(recorded.T)
    np.testing.assert_allclose((shifts.T * weights) @ shifts, wanted, atol=0.03 * wanted.max())


def test_a_displaced_response_is_that_at_the_gaze(trained):
    encoder = trained.encoders[0]
    frozen = models.Ensemble([encoder]).frozen()
    shifts, _ = frozen.gaze_spread()
    images = torch.randn(4, 1, 36, 64, generator=torch.Generator().manual_seed(0))
    units = torch.tensor([0, 3, 3, 5])
    gazes = np.sqrt(3) * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
    mean, sd = encoder.pupil_mean.numpy(), encoder.pupil_sd.numpy()
    with torch.no_grad():
        found = View(frozen, units, (1, 36, 64), crop=False).shifted_rates(images, shifts)
        for column, gaze in enumerate(gazes):
            there = models.Ensemble([encoder]).frozen(pupil_center=mean + sd * gaze)
            torch.testing.assert_close(
                found[:, column], there.forward_units(images, units), rtol=1e-4, atol=1e-5
            )


@pytest.mark.numerical
def test_crops_answer_as_the_frames_that_they_stand_for(trained):
    frozen = trained.frozen()
    assert frozen.crops().exact.all()
    units = torch.arange(6)
    crop = View(frozen, units, (1, 36, 64), crop=True)
    inside = torch.randn(6, 1, *crop.size, generator=torch.Generator().manual_seed(0))
    shifts, _ = frozen.gaze_spread()
    with torch.no_grad():
        whole = View(frozen, units, (1, 36, 64), crop=False)
        wanted = whole.shifted_rates(crop.frame(inside), shifts)
        torch.testing.assert_close(crop.shifted_rates(inside, shifts), wanted, rtol=1e-3, atol=1e-4)


def over_gaze(frozen, images):
    """Return the mean response of unit i to image i (gray) over the spread of gaze."""
    z = torch.as_tensor((images - frozen.image_mean) / frozen.image_sd, dtype=torch.float32)
    shifts, weights = frozen.gaze_spread()
    with torch.no_grad():
        view = View(frozen, torch.arange(len(z)), (1, 36, 64), crop=False)
        return (view.shifted_rates(z.reshape(-1, 1, 36, 64), shifts) @ weights).numpy()


def make(frozen, objective):
    params = {"objective": objective, "steps": 30, "candidates": 4, "scouts": 2, "scout_steps": 5}
    scene = {"mean": frozen.image_mean, "sd": frozen.image_sd, "norm": 10.0}
    return synthesize(frozen, range(6), params=params, **scene)


def test_images_made_over_gaze_excite_more_when_the_eye_moves(trained):
    frozen = trained.frozen()
    moving, still = make(frozen, "over_gaze"), make(frozen, "activation")
    assert (over_gaze(frozen, moving.images) > over_gaze(frozen, still.images)).all()
    assert (moving.activations < still.activations).all()
    np.testing.assert_allclose(moving.trace[-1, :, 0], over_gaze(frozen, moving.images), rtol=1e-3)


def test_gabors_can_be_made_for_the_same_eye(trained):
    frozen = trained.frozen()
    made = make(frozen, "activation")
    context = ControlContext(
        frozen,
        frozen,
        np.arange(6),
        made.images[:, 0],
        None,
        frozen.image_mean,
        frozen.image_sd,
        None,
        10.0,
        0,
    )
    small = {"orientations": 4, "n_dy": 5, "n_dx": 7}
    moving = control_kinds["gabor"](context, objective="over_gaze", **small)
    still = control_kinds["gabor"](context, **small)
    found, plain = over_gaze(frozen, moving.images), over_gaze(frozen, still.images)
    assert (found >= plain - 1e-4).all()
    assert found.mean() > plain.mean()


@pytest.mark.parametrize("unknown", [{"shifter": "none"}, {"gaze": False}])
def test_an_ensemble_that_knows_of_no_gaze_gives_its_plain_response(unknown):
    frozen = ensemble(**unknown).frozen()
    assert frozen.gaze_spread() is None
    np.testing.assert_array_equal(
        make(frozen, "over_gaze").images, make(frozen, "activation").images
    )
