import numpy as np
import pytest
import torch

from pipeline.mei import gabor, synthesize
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.masks import mask_methods

SHAPE = (24, 32)
NORM = 8.0
BANK = {"wavelengths_px": [12, 16], "sigmas_px": [4, 6], "n_dy": 5, "n_dx": 5, "orientations": 4}


@pytest.fixture(scope="module")
def context(toys):
    filters = toys.gabor_filters(5, seed=11)
    model = toys.Linear(filters)
    units = np.array([4, 0, 2])
    made = synthesize(
        model, units, shape=(1, *SHAPE), mean=toys.MEAN, sd=toys.SD, norm=NORM, seed=3
    )
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(60, *SHAPE)).cumsum(1).cumsum(2)
    smooth = smooth - smooth.mean((1, 2), keepdims=True)
    natural = 110 + 40 * smooth / smooth.std((1, 2), keepdims=True)
    images = made.images[:, 0]
    return ControlContext(
        cnn=model,
        ln=toys.Linear(-filters),
        units=units,
        mei_images=images,
        mei_masks=mask_methods["zscore"](images, toys.MEAN),
        image_mean=toys.MEAN,
        image_sd=toys.SD,
        natural=natural,
        norm=NORM,
        seed=0,
    )


def drive(toys, context, images):
    """Own unit's response, from the filters themselves."""
    filters = context.cnn.filters.numpy()[context.units]
    z = toys.zscored(images).reshape(len(images), -1)
    return np.log1p(np.exp((z * filters).sum(1)))


@pytest.mark.parametrize("kind", ["rf", "gabor", "fni", "mni", "phase_scrambled", "other_mei"])
def test_every_kind_has_the_norm_of_the_mei_and_tells_its_own_activation(toys, context, kind):
    params = BANK if kind == "gabor" else {}
    made = control_kinds[kind](context, **params)
    assert made.images.shape == (3, *SHAPE)
    assert made.images.dtype == np.float32
    norms = np.sqrt((toys.zscored(made.images) ** 2).sum((1, 2)))
    np.testing.assert_allclose(norms, NORM, rtol=1e-3)
    np.testing.assert_allclose(made.activations, drive(toys, context, made.images), rtol=1e-3)
    assert len(made.info) == 3
    mei = drive(toys, context, context.mei_images)
    assert (made.activations <= 1.01 * mei).all()


def test_rf_is_the_mei_of_the_linear_model(toys, context):
    made = control_kinds["rf"](context)
    for image, unit in zip(made.images, context.units, strict=True):
        expected = context.ln.filters[unit].numpy()
        assert np.corrcoef(image.ravel(), expected)[0, 1] > 0.99


def test_best_full_image_is_the_brute_force_one(toys, context):
    z = toys.zscored(context.natural)
    z = z - z.mean((1, 2), keepdims=True)
    z = z * NORM / np.sqrt((z**2).sum((1, 2), keepdims=True))
    scores = z.reshape(60, -1) @ context.cnn.filters.numpy()[context.units].T
    made = control_kinds["fni"](context, top_k=3)
    found = np.array([info["image_index"] for info in made.info])
    np.testing.assert_array_equal(found, np.argsort(-scores, 0)[:3].T)


def test_best_masked_image_is_the_brute_force_one_and_uniform_outside(toys, context):
    best = []
    for unit, mask in zip(context.units, context.mei_masks, strict=True):
        z = toys.zscored(context.natural)
        z = (z - (z * mask).sum((1, 2), keepdims=True) / mask.sum()) * mask
        z = z * NORM / np.sqrt((z**2).sum((1, 2), keepdims=True))
        best.append(int((z.reshape(60, -1) @ context.cnn.filters[unit].numpy()).argmax()))
    made = control_kinds["mni"](context)
    assert [info["image_index"][0] for info in made.info] == best
    for image, mask in zip(made.images, context.mei_masks, strict=True):
        np.testing.assert_allclose(image[mask == 0], toys.MEAN, atol=1e-3)


def test_gabor_search_finds_gabor_cells(context):
    made = control_kinds["gabor"](context, **BANK)
    assert all(info["mei_similarity"] > 0.93 for info in made.info)
    assert (made.activations >= [info["bank_activation"] - 1e-4 for info in made.info]).all()


def test_shortlist_finds_what_the_whole_bank_under_the_model_finds(context):
    short = control_kinds["gabor"](context, **BANK, refine=0)
    full = control_kinds["gabor"](context, **BANK, refine=0, shortlist=None)
    np.testing.assert_allclose(short.activations, full.activations, rtol=1e-3)


def test_published_bank_has_72800_gabors_of_one_norm():
    table = gabor.bank_parameters(
        (36, 64),
        phases_deg=(0, 90, 180, 270),
        wavelengths_px=(4, 7, 10, 15, 20),
        orientations=8,
        sigmas_px=(2, 3, 5, 7, 9),
        n_dy=7,
        n_dx=13,
        max_shift=0.3,
    )
    assert len(table) == 72800
    some = torch.as_tensor(table[::7280], dtype=torch.float32)
    images = gabor.draw(some, (36, 64), 5.0)
    np.testing.assert_allclose(images.square().sum((1, 2)).sqrt(), 5.0, rtol=1e-4)
    np.testing.assert_allclose(images.mean((1, 2)), 0, atol=1e-5)


def test_drawn_gabor_is_the_formula():
    y, x, sigma, wavelength, angle, phase = 10.0, 20.0, 3.0, 8.0, 0.7, 1.1
    row = torch.tensor([[y, x, sigma, wavelength, angle, phase]])
    image = gabor.draw(row, SHAPE, 1.0)[0].numpy()
    yy, xx = np.mgrid[:24, :32]
    dy, dx = yy - y, xx - x
    wave = np.cos(2 * np.pi * (dx * np.cos(angle) + dy * np.sin(angle)) / wavelength + phase)
    expected = np.exp(-(dy**2 + dx**2) / (2 * sigma**2)) * wave
    expected -= expected.mean()
    np.testing.assert_allclose(image, expected / np.linalg.norm(expected), atol=1e-5)


def test_scrambling_keeps_the_spectrum_and_destroys_the_pattern(context):
    made = control_kinds["phase_scrambled"](context)
    for image, mei in zip(made.images, context.mei_images, strict=True):
        a, b = (np.abs(np.fft.fft2(i - i.mean())).ravel() for i in (image, mei))
        assert np.corrcoef(a, b)[0, 1] > 0.98
        assert abs(np.corrcoef(image.ravel(), mei.ravel())[0, 1]) < 0.5


def test_search_without_images_or_masks_says_so(context):
    bare = ControlContext(**{**vars(context), "natural": None})
    with pytest.raises(ValueError, match="no natural images"):
        control_kinds["fni"](bare)
    bare = ControlContext(**{**vars(context), "mei_masks": None})
    with pytest.raises(ValueError, match="masks"):
        control_kinds["mni"](bare)
