"""Sheets show every neuron once, with its own images, name and numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pipeline import plotting
from pipeline.plotting.analysis_images import LINEARISED
from pipeline.plotting.style import name_of


def images_on(figure):
    """Return the pictures of a sheet from left to right, row by row, as (array, limits)."""
    shown = figure.axes[0].images
    place = [(round(i.get_extent()[3], 6), i.get_extent()[0]) for i in shown]
    return [shown[k] for k in sorted(range(len(shown)), key=lambda k: place[k])]


def texts_on(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("columns", [1, 3, 5, 9])
def test_sheets_hold_150_neurons_and_none_twice(columns):
    size = plotting.neurons_a_sheet(columns)
    assert 10 <= size <= 100
    assert size * columns <= 100
    sheets = [range(start, min(start + size, 150)) for start in range(0, 150, size)]
    assert [k for sheet in sheets for k in sheet] == list(range(150))


def test_a_sheet_of_stimuli_shows_them_exactly_and_says_what_is_missing():
    rng = np.random.default_rng(0)
    mei = list(rng.integers(0, 256, (7, 36, 64), dtype=np.uint8))
    rf = [None if k == 2 else image for k, image in enumerate(255 - np.stack(mei))]
    predicted = {"mei": np.arange(7) + 0.25, "rf": np.where(np.arange(7) == 2, np.nan, 9.5)}
    figure = plotting.stimuli_sheet_figure(
        {"mei": mei, "rf": rf}, labels=[f"cell {k}" for k in range(7)], predicted=predicted
    )
    assert len(figure.axes) == 1  # axes of their own cost seconds
    expected = [image for pair in zip(mei, rf, strict=True) for image in pair if image is not None]
    assert len(images_on(figure)) == 13
    for artist, image in zip(images_on(figure), expected, strict=True):
        np.testing.assert_array_equal(artist.get_array(), image)
        assert artist.get_clim() == (0, 255)
    texts = texts_on(figure)
    assert texts.count("not shown") == 1
    assert {f"cell {k}" for k in range(7)} <= set(texts)
    assert {"0.25", "6.25"} <= set(texts)
    assert texts.count("9.50") == 6
    assert {"MEI", "RF"} <= set(texts)


def test_images_of_a_sheet_do_not_overlap():
    image = np.zeros((36, 64), np.uint8)
    kinds = ("mei", "rf", "gabor")
    figure = plotting.stimuli_sheet_figure(
        {kind: [image] * 30 for kind in kinds},
        labels=["x"] * 30,
        predicted={kind: np.ones(30) for kind in kinds},
    )
    axes = figure.axes[0]
    boxes = np.array([artist.get_extent() for artist in axes.images])  # left right bottom top
    for k, (left, right, bottom, top) in enumerate(boxes):
        others = np.delete(boxes, k, axis=0)
        apart = (others[:, 0] >= right) | (others[:, 1] <= left)
        apart |= (others[:, 3] >= bottom) | (others[:, 2] <= top)
        assert apart.all()
    assert boxes[:, 1].max() <= axes.get_xlim()[1]
    assert boxes[:, 2].max() <= axes.get_ylim()[0]
    scale = figure.get_size_inches() / (np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
    assert scale[0] == pytest.approx(scale[1])  # pixels stay square


@pytest.mark.parametrize("columns", [1, 5, 9, 13])
def test_titles_of_a_sheet_lie_above_its_names_and_beside_one_another(columns):
    published = ("mei", "rf", "phase_scrambled", "surround_excite", "accentuated")
    kinds = [f"{published[k % 5]}:{k}" for k in range(columns)]
    image = np.zeros((36, 64), np.uint8)
    figure = plotting.stimuli_sheet_figure(
        {kind: [image] * 3 for kind in kinds},
        labels=["unit 1234 (field 2)"] * 3,
        predicted={kind: np.ones(3) for kind in kinds},
    )
    figure.canvas.draw()
    written = {name_of(kind).replace(" ", "\n") for kind in kinds}
    texts = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    titles = [box for text, box in texts if text in written]
    names = [box for text, box in texts if text.startswith("unit")]
    assert len(titles) >= columns
    assert max(box.y1 for box in names) <= min(box.y0 for box in titles)
    for k, box in enumerate(titles):
        assert not any(box.overlaps(other) for other in titles[k + 1 :])


def test_sheets_of_filters_show_every_neuron_with_its_correlations():
    n = 65
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(size=(n, 9, 16)) for name in LINEARISED}
    units = pd.DataFrame(
        {"grey_r": np.linspace(-1, 1, n), "natural_r": np.linspace(0, 1, n)},
        index=[f"cell {k}" for k in range(n)],
    )
    sheets = list(plotting.linearised_sheets(units, arrays))
    assert len(sheets) == 3
    shown = [artist for sheet in sheets for artist in images_on(sheet)]
    expected = [arrays[name][k] for k in range(n) for name in LINEARISED]
    assert len(shown) == len(expected)
    for artist, image in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(artist.get_array(), image)
        low, high = artist.get_clim()
        assert high == -low == np.abs(image).max()
    texts = [text for sheet in sheets for text in texts_on(sheet)]
    assert [t for t in texts if t.startswith("cell")] == [f"cell {k}" for k in range(n)]
    numbers = [t for t in texts if t not in units.index and t not in LINEARISED.values()]
    assert numbers == [f"{r:.2f}" for row in units.to_numpy() for r in row]


def test_stability_scatters_the_lowest_on_the_highest_with_spearmans_rho():
    rng = np.random.default_rng(2)
    rates = rng.gamma(2, 1, (20, 4))
    units = pd.DataFrame(
        {"median_r": rng.uniform(0.5, 1, 20), "activation_ratio": rates.min(1) / rates.max(1)},
        index=[f"cell {k}" for k in range(20)],
    )
    arrays = {"images": rng.normal(size=(20, 4, 9, 16)), "activations": rates}
    figure = plotting.ANALYSIS_FIGURES["stability"](units, arrays)
    axes = figure.axes[-1]
    dots = axes.lines[-1]
    np.testing.assert_array_equal(dots.get_xdata(), rates.max(1))
    np.testing.assert_array_equal(dots.get_ydata(), rates.min(1))
    rho = spearmanr(rates.max(1), rates.min(1)).statistic
    assert f"Spearman rho = {rho:.3f}, n = 20" in axes.get_title()
    names = {axes.get_ylabel().split("\n")[0] for axes in figure.axes if axes.images}
    assert names - {""} <= set(units.index)
    same = {**arrays, "activations": np.ones((20, 4))}
    title = plotting.ANALYSIS_FIGURES["stability"](units, same).axes[-1].get_title()
    assert "rho" not in title  # of constants there is none
