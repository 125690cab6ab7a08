"""Methods beyond the MEI: sets, surrounds, contrasts, levels, metamers."""

from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
import torch

from pipeline.mei import ascent_methods, synthesize
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.controls.altered import shifted
from pipeline.mei.methods import CONSTRAINED, WALKER2019
from pipeline.mei.reconstruction import reconstruct
from pipeline.mei.search import Histogram
from pipeline.parameters import ParameterError
from pipeline.simulate import Population

NORM = 8.0
SHAPE = (24, 32)


@pytest.fixture(scope="module")
def context(toys):
    """Three linear neurons whose MEIs are their filters; masks hold their left halves."""
    filters = toys.gabor_filters(5, seed=11)
    units = np.array([4, 0, 2])
    meis = toys.MEAN + toys.SD * NORM * filters[units]
    masks = np.zeros((3, *SHAPE), np.float32)
    for mask, f in zip(masks, filters[units], strict=True):
        mask[:, : int((np.arange(32) * (f**2).sum(0)).sum())] = 1
    rng = np.random.default_rng(0)
    return ControlContext(
        cnn=toys.Linear(filters),
        ln=toys.Linear(filters),
        units=units,
        mei_images=meis.astype(np.float32),
        mei_masks=masks,
        image_mean=toys.MEAN,
        image_sd=toys.SD,
        natural=rng.uniform(0, 255, (20, *SHAPE)),
        norm=NORM,
        seed=0,
    )


def z(toys, images):
    return toys.zscored(images).reshape(len(images), -1)


def test_diverse_inputs_of_a_complex_cell_differ_and_all_excite():
    population = Population(5, 24)
    cells = np.flatnonzero(population.cells.kind == "complex")[:2]
    best = population.best_drive(12.0, cells)
    made = synthesize(
        population.torch_module(), cells, mean=110.0, sd=55.0, norm=12.0, method="diverse", starts=5
    )
    assert (made.all_activations >= 0.85 * best[:, None]).all()
    for images in made.all_images:
        r = np.corrcoef(images.reshape(5, -1))
        assert r[~np.eye(5, dtype=bool)].max() < 0.5


def test_diverse_inputs_of_a_linear_cell_keep_to_its_drive(toys):
    model = toys.Linear(toys.gabor_filters(3, seed=2), rectified=True)
    run = {"shape": (1, *SHAPE), "mean": toys.MEAN, "sd": toys.SD, "norm": NORM}
    together = synthesize(model, [2, 0], method="diverse", starts=3, **run)
    assert (together.all_activations >= 0.85 * NORM).all()
    alone = synthesize(model, [0], method="diverse", starts=3, batch_size=2, **run)
    np.testing.assert_allclose(together.all_activations[1], alone.all_activations[0], rtol=1e-3)


def test_surround_continues_or_opposes_the_filter_and_leaves_the_center(toys, context):
    free = context.mei_masks == 0
    filters = context.cnn.filters.numpy().reshape(-1, *SHAPE)[context.units]
    centres = []
    for kind, sign in (("surround_excite", 1), ("surround_inhibit", -1)):
        made = control_kinds[kind](context)
        images = toys.zscored(made.images)
        np.testing.assert_allclose(np.sqrt((images**2).sum((1, 2))), NORM, rtol=1e-2)
        for image, f, out in zip(images, filters, free, strict=True):
            assert sign * np.corrcoef(image[out], f[out])[0, 1] > 0.98
        alone = np.array([info["centre_activation"] for info in made.info])
        assert (sign * (made.activations - alone) > 0.5).all()
        centres.append(np.where(free, 0, images))
    np.testing.assert_allclose(*centres, atol=1e-2)


def test_contrast_objective_leaves_out_what_a_neighbor_shares(toys):
    own, shared = toys.gabor_filters(2, seed=6)
    own = own - shared * (own * shared).sum()
    model = toys.Linear(np.stack([own + 0.7 * shared, shared]).astype(np.float32))
    run = {"shape": (1, *SHAPE), "mean": toys.MEAN, "sd": toys.SD, "norm": NORM}
    plain = toys.zscored(synthesize(model, [0], **run).images)
    objective = {"name": "contrast", "neighbours": [1]}
    made = toys.zscored(synthesize(model, [0], params={"objective": objective}, **run).images)
    assert (plain * shared).sum() > 0.4 * NORM
    assert (made * shared).sum() < 0.05 * NORM
    assert (made * own).sum() > 0.7 * NORM * np.linalg.norm(own)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_accentuated_images_reach_their_level_and_change_little(context, level):
    made = control_kinds["accentuated"](context, level=level)
    mei = control_kinds["jittered"](context, distance_px=0).activations
    np.testing.assert_allclose(made.activations, level * mei, atol=0.011 * mei.max())
    like = [info["similarity"] for info in made.info]
    # a linear response needs `level` of the filter at most, orthogonal to all the rest
    assert min(like) > np.sqrt(1 - (level + 0.1) ** 2) - 0.1 if level < 0.9 else min(like) > 0.1


def test_same_seed_image_at_every_level(context):
    seeds = [
        [info["image_index"] for info in control_kinds["accentuated"](context, level=v).info]
        for v in (0.1, 0.7)
    ]
    assert seeds[0] == seeds[1]


def test_a_metamer_has_the_responses_and_another_look(toys, context):
    made = control_kinds["metamer"](context)
    with torch.no_grad():
        wanted, got = (
            context.cnn(torch.as_tensor(z(toys, i)).float()[:, None])
            for i in (context.mei_images, made.images)
        )
    np.testing.assert_allclose(got, wanted, atol=0.4)
    assert max(info["response_difference_sd"] for info in made.info) < 0.3
    assert min(info["mei_similarity"] for info in made.info) > 0.9  # the filters span the MEIs


def test_a_full_population_reconstructs_the_image():
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(48, 48))[0]

    class Rotated(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1) @ rotation

    images = torch.randn(2, 1, 6, 8)
    images = images - images.mean((2, 3), keepdim=True)
    images = images / images.square().sum((1, 2, 3), keepdim=True).sqrt() * 4
    units, names = np.arange(48), np.arange(2)
    made, unlike = reconstruct(Rotated(), images, units, norm=4.0, names=names)
    r = (made * images).sum((1, 2, 3)) / 16
    assert r.min() > 0.99
    assert unlike.max() < 0.2


def test_jittered_meis_are_moved_by_the_distance(toys, context):
    made = control_kinds["jittered"](context, distance_px=8.0)
    for image, mei, info in zip(made.images, context.mei_images, made.info, strict=True):
        dy, dx = info["shift_y_px"], info["shift_x_px"]
        assert np.hypot(dy, dx) == pytest.approx(8.0 * 32 / 64, abs=0.8)
        moved = shifted(mei - toys.MEAN, dy, dx)
        assert np.corrcoef(image.ravel(), moved.ravel())[0, 1] > 0.999
    np.testing.assert_array_equal(
        shifted(np.arange(6.0).reshape(2, 3), 1, -1), [[0, 0, 0], [1, 2, 0]]
    )


def test_spectrum_noise_has_the_scale_of_the_mei_but_no_orientation(context):
    made = control_kinds["spectrum_noise"](context)
    fy, fx = np.abs(np.fft.fftfreq(24))[:, None], np.abs(np.fft.fftfreq(32))
    radius = np.hypot(fy, fx)
    for image, mei in zip(made.images, context.mei_images, strict=True):
        power = [np.abs(np.fft.fft2(i - i.mean())) ** 2 for i in (image, mei)]
        noise, own = ((p * radius).sum() / p.sum() for p in power)
        assert noise == pytest.approx(own, rel=0.15)
        assert abs(np.corrcoef(image.ravel(), mei.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize(
    "kind", ["surround_excite", "accentuated", "jittered", "spectrum_noise", "phase_scrambled"]
)
@pytest.mark.numerical
def test_permuting_the_targets_permutes_the_stimuli(context, kind):
    turn = [2, 0, 1]
    pick = ("units", "mei_images", "mei_masks")
    turned = ControlContext(
        **{**vars(context), **{name: getattr(context, name)[turn] for name in pick}}
    )
    first, second = control_kinds[kind](context), control_kinds[kind](turned)
    np.testing.assert_allclose(first.images[turn], second.images, atol=1e-2)
    np.testing.assert_allclose(first.activations[turn], second.activations, rtol=1e-4)


def test_histogram_of_a_stream_counts_everything_whatever_the_range():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, s, (50, 3)) for s in (0.1, 1.0, 10.0, 0.1)]
    stream = Histogram(3, bins=32)
    for part in parts:
        stream.offer(part)
    everything = np.concatenate(parts)
    for unit in range(3):
        found = stream.describe(unit)
        edges = found["histogram_low"] + found["histogram_width"] * np.arange(33)
        expected = np.histogram(everything[:, unit], edges)[0]
        assert np.abs(np.subtract(found["histogram_counts"], expected)).sum() <= 4  # rounding
        assert found["pool_size"] == 200
        np.testing.assert_allclose(found["pool_mean"], everything[:, unit].mean(), atol=1e-9)
        np.testing.assert_allclose(found["pool_sd"], everything[:, unit].std())


@pytest.mark.parametrize(
    ("name", "preset"), [("constrained", CONSTRAINED), ("walker2019", WALKER2019)]
)
def test_a_preset_states_the_defaults_of_its_method(name, preset):
    assert ascent_methods.defaults(name) == asdict(preset)
    with pytest.raises(FrozenInstanceError):
        preset.steps = 3
    with pytest.raises(ParameterError, match=r"schedule \(ascent\): found 'cosine'; expected"):
        replace(preset, schedule="cosine")
    with pytest.raises(TypeError, match="candles"):
        ascent_methods[name](None, candles=3)
