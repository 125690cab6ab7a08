import tracemalloc

import numpy as np
import pytest
from contourpy import contour_generator

from pipeline import plotting
from pipeline.plotting import imaging


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def test_comparison_counts_only_neurons_known_on_both_sides():
    mei = np.array([2.0, 3.0, np.nan, 1.0])
    figure = plotting.comparison_figure(mei, {"rf": np.array([1.0, np.nan, 1.0, 2.0])})
    assert "1 of 2" in figure.axes[0].get_title()
    assert pixels(figure).std() > 0


def test_oracle_figure_states_the_slope_through_the_origin():
    oracle = np.array([0.2, 0.4, np.nan])
    figure = plotting.oracle_figure(oracle, {"CNN": oracle * 0.9})
    assert "0.90" in figure.axes[0].get_title()


def test_field_figure_marks_targets_and_survives_no_units():
    image = np.random.default_rng(0).normal(size=(40, 50))
    masks = np.zeros((2, 40, 50), bool)
    masks[0, 5:10, 5:10] = masks[1, 20:25, 20:30] = True
    plain = pixels(plotting.field_figure(image, masks[:0]))
    marked = pixels(plotting.field_figure(image, masks, highlighted=np.array([True, False])))
    reddish = (marked[..., 0] - marked[..., 2] > 90).sum()
    assert reddish > 0
    assert (plain[..., 0] - plain[..., 2] > 90).sum() == 0


def test_confusion_rows_are_scaled_to_their_maximum():
    figure = plotting.confusion_figure(np.array([[4.0, 2.0], [5.0, 1.0]]))
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, [[1, 0.5], [1, 0.2]])
    assert "1 of 2 neurons (50 %)" in figure.axes[0].get_title()


def test_confusion_names_its_neurons_and_leaves_unknown_responses_gray():
    rng = np.random.default_rng(0)
    matrix = rng.uniform(0.1, 1, (5, 5))
    matrix[2], matrix[:, 4] = np.nan, np.nan  # a lost neuron; an image that was not shown
    matrix[3] = -matrix[3]
    figure = plotting.confusion_figure(matrix, labels=list("abcde"))
    axes = figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    rows = [0, 1, 4]
    largest = np.nanmax(matrix[rows], axis=1, keepdims=True)
    np.testing.assert_allclose(shown[rows], matrix[rows] / largest)
    assert np.isnan(shown[[2, 3]]).all()
    for axis in (axes.xaxis, axes.yaxis):
        assert [tick.get_text() for tick in axis.get_ticklabels()] == list("abcde")
    many = plotting.confusion_figure(np.eye(60), labels=[f"cell {k}" for k in range(60)])
    for axis in (many.axes[0].xaxis, many.axes[0].yaxis):  # every second, and the right one
        written = {
            int(x): t.get_text()
            for x, t in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        }
        assert written == {k: f"cell {k}" for k in range(0, 60, 2)}
    assert "60 of 60" in many.axes[0].get_title()


def test_gallery_has_a_picture_for_every_unit_and_kind():
    images = {kind: np.full((2, 36, 64), 128, np.uint8) for kind in ("mei", "rf")}
    figure = plotting.gallery_figure(images, labels=["a", "b"])
    assert len(figure.axes) == 4


def test_gallery_says_where_a_neuron_has_no_image_of_a_kind():
    image = np.full((36, 64), 128, np.uint8)
    figure = plotting.gallery_figure({"mei": [image, image], "rf": [None, image]}, labels="ab")
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 1]
    assert figure.axes[1].texts[0].get_text() == "not shown"


def test_the_scheme_has_every_step_and_its_note_and_refuses_others():
    from pipeline.plotting.scheme import STEPS

    figure = plotting.scheme_figure({"images": "1,636 images"})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {title for title, *_ in STEPS.values()} <= set(texts)
    assert "1,636 images" in texts
    assert pixels(figure).std() > 0
    with pytest.raises(ValueError, match=r"no step \['nothing'\]"):
        plotting.scheme_figure({"nothing": ""})


def test_held_out_responses_are_drawn_as_they_are_with_their_correlation():
    rng = np.random.default_rng(0)
    measured = rng.gamma(2, 1, (30, 2))
    predicted = measured + rng.normal(0, 1, (30, 2))
    figure = plotting.held_out_responses_figure(
        measured, predicted, labels=["one", "two"], sem=np.full((30, 2), 0.1), most=20
    )
    for neuron, (axes, label) in enumerate(zip(figure.axes, ("one", "two"), strict=True)):
        for line, values in zip(axes.lines, (measured, predicted), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), values[:20, neuron])
        r = np.corrcoef(measured[:, neuron], predicted[:, neuron])[0, 1]  # over all images
        assert axes.get_title(loc="left") == f"{label}: r = {r:.2f}"
        assert len(axes.collections) == 1  # the error
    plotting.held_out_responses_figure(measured[:1], predicted[:1], labels=["one", "two"])


def test_outlines_are_the_contours_of_the_whole_field():
    y, x = np.mgrid[:40, :50]
    for center, radius in (((20, 20), 6.3), ((0, 49), 5.0), ((39, 3), 4.0)):
        mask = np.hypot(y - center[0], x - center[1]) < radius
        found = imaging.outlines(mask)
        whole = contour_generator(z=mask.astype(float)).lines(0.5)
        assert [len(line) for line in found] == [len(line) for line in whole]
        np.testing.assert_allclose(np.concatenate(found), np.concatenate(whole))
    assert imaging.outlines(np.zeros((9, 9), bool)) == []


def test_four_hundred_masks_take_little_memory():
    masks = np.zeros((400, 256, 256), bool)
    for unit, mask in enumerate(masks):
        mask[10 * (unit // 20) : 10 * (unit // 20) + 9, 12 * (unit % 20) : 12 * (unit % 20) + 9] = 1
    images = dict.fromkeys("abcd", np.zeros((256, 256), np.float32))
    tracemalloc.start()
    figure = plotting.summary_figure(images, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figure.clear()
    assert peak < 40e6
