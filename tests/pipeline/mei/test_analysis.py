"""Analyses of neurons whose tuning is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.analysis import AnalysisContext, analyses
from pipeline.mei.controls import ControlContext
from pipeline.mei.masks import mask_methods
from pipeline.plotting import ANALYSIS_FIGURES, predicted_activation_figure

SHAPE = (24, 32)
NORM = 8.0


def quadrature(n=4):
    """Gabor pairs in quadrature at known places, orientations and one wavelength of 7 px."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pairs = []
    for i in range(n):
        angle, y, x = np.pi * i / n, 9.0 + i, 12.0 + 2 * i
        envelope = np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * 2.5**2))
        along = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
        for turn in (0, np.pi / 2):
            image = envelope * np.cos(2 * np.pi * along / 7 - turn)
            image -= envelope * image.sum() / envelope.sum()
            pairs.append(image / np.linalg.norm(image))
    pairs = np.array(pairs, np.float32).reshape(n, 2, *SHAPE)
    return pairs[:, 0], pairs[:, 1]


@pytest.fixture(scope="module")
def cells(toys):
    """Four complex cells as the CNN, the linear cells of their even filters as the LN model."""
    even, odd = quadrature()
    complex_, linear = toys.Energy(even, odd), toys.Linear(even)
    run = {"shape": (1, *SHAPE), "mean": toys.MEAN, "sd": toys.SD, "norm": NORM}
    rng = np.random.default_rng(0)
    natural = rng.normal(110, 40, (60, *SHAPE)).astype(np.float32)

    def context(cnn, **more):
        made = synthesize(cnn, range(4), starts=3, **run)
        images = made.images[:, 0]
        stimuli = ControlContext(
            cnn=cnn,
            ln=linear,
            units=np.arange(4),
            mei_images=images,
            mei_masks=mask_methods["zscore"](images, toys.MEAN),
            image_mean=toys.MEAN,
            image_sd=toys.SD,
            natural=natural,
            norm=NORM,
            seed=0,
        )
        return AnalysisContext(stimuli, start_images=made.all_images[:, :, 0], **more)

    return context(complex_), context(linear), even


def test_starts_agree_for_linear_cells_only(cells):
    complex_, linear, _ = cells
    found = analyses["stability"](linear)
    assert found.units["median_r"].min() > 0.99
    assert found.units["activation_ratio"].min() > 0.99
    free = analyses["stability"](complex_)
    assert free.units["lowest_r"].min() < 0.8  # any phase is as good
    assert free.units["activation_ratio"].min() > 0.98
    assert found.arrays["images"].shape == (4, 3, *SHAPE)


def test_a_linear_cell_has_one_direction_and_a_complex_cell_two(cells):
    complex_, linear, _ = cells
    one = analyses["gradient_spectrum"](linear, n_images=40)
    np.testing.assert_allclose(one.units["cnn_dimensions"], 1, atol=1e-3)
    two = analyses["gradient_spectrum"](complex_, n_images=40)
    assert (two.units["cnn_dimensions"] > 1.6).all()
    assert (two.arrays["cnn"][:, 2] < 1e-4).all()
    np.testing.assert_allclose(two.units["ln_dimensions"], 1, atol=1e-3)
    assert (two.arrays["ln"][:, 0] == 1).all()


def test_spectra_tell_the_frequency_of_the_filters(cells):
    found = analyses["spectrum_difference"](cells[1])
    np.testing.assert_allclose(found.units["rf_frequency"], 1 / 7, atol=0.03)
    assert np.abs(found.arrays["difference"]).max() < 0.15  # MEI and RF are the same filter
    assert found.arrays["difference"].shape == (4, *SHAPE)


def test_the_true_filter_predicts_the_responses(cells, toys):
    _, linear, even = cells
    rng = np.random.default_rng(1)
    images = rng.normal(110, 40, (80, *SHAPE))
    drive = toys.zscored(images).reshape(80, -1) @ even.reshape(4, -1).T
    with_test = AnalysisContext(
        linear.stimuli, test_images=images, test_responses=np.exp(drive / 20)
    )
    found = analyses["linear_filter"](with_test)
    assert found.units["rf_rho"].min() > 0.95
    shuffled = AnalysisContext(
        linear.stimuli, test_images=images, test_responses=rng.permutation(np.exp(drive / 20))
    )
    assert np.abs(analyses["linear_filter"](shuffled).units["rf_rho"]).max() < 0.5
    nothing = AnalysisContext(
        linear.stimuli, test_images=images[:0], test_responses=np.empty((0, 4))
    )
    assert np.isnan(analyses["linear_filter"](nothing).units["mei_rho"]).all()
    with pytest.raises(ValueError, match="test images"):
        analyses["linear_filter"](linear)


def test_a_linear_cell_linearizes_to_its_filter(cells):
    complex_, linear, _ = cells
    found = analyses["linearised"](linear, n_images=10)
    assert found.units["grey_r"].min() > 0.99
    assert found.units["natural_r"].min() > 0.99
    mixed = analyses["linearised"](complex_, n_images=40)  # a complex cell has no filter
    assert np.abs(mixed.units["natural_r"]).min() < 0.5


def test_jitter_maps_are_centered_and_complex_cells_tolerate_more(cells):
    complex_, linear, _ = cells
    narrow, wide = (analyses["jitter_tuning"](c, most_px=3) for c in (linear, complex_))
    for found in (narrow, wide):
        assert found.arrays["mei"].shape == (4, 7, 7)
        assert (found.arrays["mei"].reshape(4, -1).argmax(1) == 24).all()
    assert (wide.units["mei_width_px"] > narrow.units["mei_width_px"]).all()


def test_contrast_curves_rise_to_the_largest_unclipped_contrast(cells, toys):
    found = analyses["contrast_tuning"](cells[1], n_contrasts=12)
    assert found.units["monotonic"].all()
    top = cells[1].stimuli.mei_images - toys.MEAN
    gain = found.units["most_rms"] * np.sqrt(np.prod(SHAPE)) / NORM
    edges = toys.MEAN + gain[:, None, None] * top
    reach = np.maximum(edges.max((1, 2)) - 255, -edges.min((1, 2)))
    np.testing.assert_allclose(reach, 0, atol=1.0)
    rising = found.arrays["activations"]
    expected = np.log1p(np.exp(found.arrays["rms"] * np.sqrt(np.prod(SHAPE))))
    np.testing.assert_allclose(rising, expected, rtol=0.02)


def test_gabor_cells_have_gabor_meis(cells):
    found = analyses["gabor_similarity"](cells[1])
    assert found.units["fit_r"].min() > 0.97
    assert found.units["best_response"].min() > 0.95
    expected = np.array([0, 45, 90, 135])
    apart = np.abs((found.units["orientation_deg"] - expected + 90) % 180 - 90)
    assert apart.max() < 5


def test_a_planted_patch_is_found_in_the_image_and_moved_to_the_mei(cells, toys):
    stimuli = cells[1].stimuli
    natural = np.random.default_rng(2).normal(110, 20, (30, *SHAPE)).astype(np.float32)
    planted = np.roll(stimuli.mei_images[0] - toys.MEAN, (3, -2), (0, 1))
    natural[11] = 60 + 0.5 * planted
    stimuli = ControlContext(**{**vars(stimuli), "natural": natural})
    found = analyses["natural_patches"](AnalysisContext(stimuli), n_images=30)
    assert found.units["best_r"][0] > 0.99
    assert found.units["share_similar"][0] >= 1 / 30
    mask = stimuli.mei_masks[0] > 0.5
    patch = found.arrays["patches"][0, 0][mask]
    assert np.corrcoef(patch, stimuli.mei_images[0][mask])[0, 1] > 0.99
    # the rest is noise: brute force at one place of another image
    weights, template = stimuli.mei_masks[1], stimuli.mei_images[1]
    a, b = (image - (image * weights).sum() / weights.sum() for image in (natural[0], template))
    r = (weights * a * b).sum() / np.sqrt((weights * a**2).sum() * (weights * b**2).sum())
    assert r <= found.units["best_r"][1] + 1e-3


def test_gratings_tell_orientation_size_and_phase(cells):
    complex_, linear, _ = cells
    settings = {"orientations": 8, "phases": 4, "wavelengths_px": (10, 14, 20)}
    phase_free = analyses["orientation_tuning"](complex_, **settings)
    apart = phase_free.units["preferred_deg"] - np.array([0, 45, 90, 135])
    assert np.abs((apart + 90) % 180 - 90).max() < 5
    assert phase_free.units["modulation"].max() < 0.2
    np.testing.assert_allclose(phase_free.units["wavelength_px"], 7)
    simple = analyses["orientation_tuning"](linear, **settings)
    assert simple.units["modulation"].min() > 1
    size = analyses["size_tuning"](
        complex_, radii_px=(2, 8, 20), phases=4, orientations=8, wavelengths_px=(14,)
    )
    assert (size.units["preferred_radius_px"] >= 4).all()
    assert (np.diff(size.arrays["curve"], axis=1)[:, 0] > 0).all()


def test_a_member_left_out_is_asked_about_the_others_images():
    rng = np.random.default_rng(0)
    n = 30
    data = Dataset(
        images=rng.integers(0, 256, (n, 36, 64)).astype(np.uint8),
        image_index=np.arange(n),
        image_id=np.arange(n),
        responses=rng.gamma(2.0, 1.0, (n, 3)).astype(np.float32),
        tiers=np.repeat(["train", "validation", "test"], n // 3),
    )
    member = models.build_encoder(models.default_config(), data, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        member.readout.features.normal_(0, 0.3)
    twins = models.Ensemble([member, member])
    frozen = twins.frozen()
    made = synthesize(frozen, [2, 0], mean=frozen.image_mean, sd=frozen.image_sd)
    stimuli = ControlContext(
        cnn=frozen,
        ln=frozen,
        units=np.array([2, 0]),
        mei_images=made.images[:, 0],
        mei_masks=None,
        image_mean=frozen.image_mean,
        image_sd=frozen.image_sd,
        natural=None,
        norm=None,
        seed=0,
    )
    found = analyses["held_out"](AnalysisContext(stimuli, ensemble=twins))
    np.testing.assert_allclose(found.units["ratio"], 1, rtol=1e-3)  # a twin agrees
    np.testing.assert_allclose(found.units["member_cv"], 0, atol=1e-5)
    with pytest.raises(ValueError, match="two members"):
        analyses["held_out"](AnalysisContext(stimuli))


def test_every_analysis_has_a_figure_of_its_numbers(cells):
    assert set(ANALYSIS_FIGURES) == set(analyses)
    _, linear, _ = cells
    index = pd.MultiIndex.from_product([["data"], range(4)], names=["dataset_hash", "unit_index"])
    few = {
        "gradient_spectrum": {"n_images": 5},
        "linearised": {"n_images": 5},
        "jitter_tuning": {"most_px": 1},
        "natural_patches": {"n_images": 10},
        "orientation_tuning": {"orientations": 4, "phases": 2, "wavelengths_px": (10,)},
        "size_tuning": {"radii_px": (2, 4), "phases": 2, "wavelengths_px": (10,)},
    }
    for name in set(analyses) - {"held_out", "linear_filter", "gabor_similarity"}:
        found = analyses[name](linear, **few.get(name, {}))
        figure = ANALYSIS_FIGURES[name](pd.DataFrame(found.units, index=index), found.arrays)
        drawn = [a for a in figure.axes if a.has_data()]
        assert len(drawn) >= 2, name


def test_predicted_activations_are_drawn_for_every_kind_but_the_mei():
    kinds = pd.DataFrame({"mei": [2.0, 4.0], "rf": [1.0, 3.0], "fni": [0.5, np.nan]})
    axes = predicted_activation_figure(kinds).axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["RF\nn = 2", "fNI\nn = 1"]
