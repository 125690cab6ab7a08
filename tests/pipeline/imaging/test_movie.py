"""Movies and their streaming corrections."""

import numpy as np
import pytest

from pipeline.imaging.movie import ArrayMovie, MotionCorrected, RasterCorrected, shift_rows


def waves(y, x):
    """A smooth scene sampled at given coordinates."""
    return np.sin(y / 5.0) + np.cos(x / 7.0 + y / 11.0)


def test_shift_moves_content_to_the_right_by_any_fraction():
    x = np.arange(80.0)
    for shift in (-3.7, -1.0, -0.25, 0.0, 0.5, 2.0, 2.9):
        moved = shift_rows(np.sin(x / 5)[None].astype(np.float32), shift)[0]
        np.testing.assert_allclose(moved[6:-6], np.sin((x - shift) / 5)[6:-6], atol=2e-3)


def test_motion_correction_undoes_a_known_displacement():
    rows, columns = np.mgrid[:60, :70].astype(float)
    y, x = np.array([0.0, 1.3, -2.6]), np.array([0.4, -3.0, 2.2])
    frames = np.stack([waves(rows - dy, columns - dx) for dy, dx in zip(y, x, strict=True)])
    steady = MotionCorrected(ArrayMovie(frames.astype(np.float32), 10.0), y, x)[:]
    inner = np.s_[6:-6, 6:-6]
    for frame in steady:
        np.testing.assert_allclose(frame[inner], waves(rows, columns)[inner], atol=5e-3)


def test_raster_correction_moves_odd_rows_only():
    rows, columns = np.mgrid[:40, :64].astype(float)
    frame = waves(rows, columns - 1.7 * (rows % 2))
    fixed = RasterCorrected(ArrayMovie(frame[None].astype(np.float32), 10.0), 1.7)[:][0]
    np.testing.assert_allclose(fixed[:, 6:-6], waves(rows, columns)[:, 6:-6], atol=3e-3)
    np.testing.assert_array_equal(fixed[::2], frame[::2].astype(np.float32))


def test_blocks_interpolate_between_their_centers():
    rows, columns = np.mgrid[:60, :60].astype(float)
    stretch = np.interp(columns, [10, 50], [-1.0, 1.0])  # a field that is pulled apart
    frame = waves(rows, columns - stretch)
    blocks = np.zeros((1, 1, 2)), np.array([[[-1.0, 1.0]]])
    steady = MotionCorrected(
        ArrayMovie(frame[None].astype(np.float32), 10.0),
        np.zeros(1),
        np.zeros(1),
        block_y_shifts=blocks[0],
        block_x_shifts=blocks[1],
        block_centers=(np.array([30.0]), np.array([10.0, 50.0])),
    )[:][0]
    inner = np.s_[6:-6, 6:-6]
    before = np.abs(frame - waves(rows, columns))[inner].max()
    assert np.abs(steady - waves(rows, columns))[inner].max() < 0.1 * before


def test_wrong_shapes_are_refused():
    movie = ArrayMovie(np.zeros((5, 8, 8)), 10.0)
    with pytest.raises(ValueError, match="one shift per frame"):
        MotionCorrected(movie, np.zeros(4), np.zeros(5))
    with pytest.raises(ValueError, match="frames, H, W"):
        ArrayMovie(np.zeros((8, 8)), 10.0)
    with pytest.raises(TypeError, match="sliced"):
        movie[3]
