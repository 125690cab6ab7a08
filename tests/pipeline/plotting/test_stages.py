"""Figures of the imaging and behavior stages show what they are given."""

import numpy as np
import pytest

from pipeline.behavior import PupilResult
from pipeline.plotting.behavior import behavior_figure, pupil_figure
from pipeline.plotting.imaging import motion_figure, summary_figure


def red(figure):
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    return int((pixels[..., 0] - pixels[..., 1] > 80).sum())


def test_summary_figure_says_what_is_wrong_with_a_scan():
    image = np.random.default_rng(0).normal(size=(20, 30))
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 4:9, 6:12] = True
    images = {"mean": image, "L6": image**2}
    assert "not fit: photons" in summary_figure(images, masks, findings=["photons"]).get_suptitle()
    figure = summary_figure(images, masks, findings=[])
    assert figure.get_suptitle() == "1 units; fit for use"
    assert len(figure.axes) == 4


def test_motion_figure_states_the_rms_and_marks_outliers():
    time = np.arange(50) / 10
    y, x = np.full(50, 3.0), np.full(50, 4.0)
    figure = motion_figure(time, y, x, intensity=100 + time)
    assert "rms displacement 5.00" in figure.get_suptitle()
    assert red(figure) == 0
    outliers = np.arange(50) == 7
    assert red(motion_figure(time, y, x, outliers=outliers)) > 0


def test_pupil_figure_draws_a_circle_only_where_the_pupil_was_seen():
    frames = np.full((2, 40, 50), 120, np.uint8)
    radius, center = np.array([8.0, np.nan]), np.array([20.0, np.nan])
    pupil = PupilResult(center, center, radius, np.array([0.9, 0.1]))
    figure = pupil_figure(frames, np.array([0, 1]), pupil)
    assert [len(axes.patches) for axes in figure.axes] == [1, 0]
    assert figure.axes[1].get_title().endswith("not seen")
    assert "50.0%" in figure.get_suptitle()


def test_behavior_figure_leaves_gaps_empty_and_shades_running():
    time = np.arange(20) / 10
    radius = np.where(time < 1, 9.0, np.nan)
    pupil = PupilResult(radius, radius, radius, np.ones(20))
    figure = behavior_figure(time, pupil, time, np.ones(20), np.array([[0.2, 0.9]]))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[15])
    assert all(len(axes.patches) == 1 for axes in figure.axes)


def test_behavior_figure_says_how_often_the_pupil_was_seen_and_leaves_out_what_was_not_recorded():
    time, nothing = np.arange(20) / 10, np.zeros(0)
    radius = np.where(time < 0.5, 9.0, np.nan)
    pupil = PupilResult(radius, radius, radius, np.ones(20))
    none = PupilResult(nothing, nothing, nothing, nothing)
    periods = np.zeros((0, 2))
    eye = behavior_figure(time, pupil, nothing, nothing, periods)
    assert eye.get_suptitle() == "pupil seen in 25.0% of 20 samples"
    assert [axes.get_ylabel() for axes in eye.axes] == ["radius (px)", "position (px)"]
    wheel = behavior_figure(nothing, none, time, np.ones(20), periods)
    assert [axes.get_ylabel() for axes in wheel.axes] == ["speed (cm/s)"]
    with pytest.raises(ValueError, match="neither"):
        behavior_figure(nothing, none, nothing, nothing, periods)
