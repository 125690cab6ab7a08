import numpy as np

from pipeline import plotting


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
    assert "50 %" in figure.axes[0].get_title()


def test_gallery_has_a_picture_for_every_unit_and_kind():
    images = {kind: np.full((2, 36, 64), 128, np.uint8) for kind in ("mei", "rf")}
    figure = plotting.gallery_figure(images, labels=["a", "b"])
    assert len(figure.axes) == 4
