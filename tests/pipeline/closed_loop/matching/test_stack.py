"""Fields in a structural stack of a simulated cortex whose cells are known in three dimensions."""

import functools

import numpy as np
import pytest

from pipeline.closed_loop.matching import FieldView
from pipeline.closed_loop.matching.combine import combine
from pipeline.closed_loop.matching.stack import (
    StackView,
    match_through_stack,
    register_to_stack,
)
from pipeline.simulate.microscope.cortex import Cortex

SHIFT, TURN, TOP = (8.0, -5.0), 1.5, 40.0


@functools.cache
def scene():
    cortex = Cortex(4, (75.0, 75.0), depth_um=50)
    stack = cortex.stack(np.arange(-TOP, TOP + 1, 4.0), 2.0, (4, 9), shift=SHIFT, rotation=TURN)
    draw = np.random.default_rng(4).permutation(len(cortex.zyx))
    k = round(0.15 * len(draw))
    days = (
        cortex.view((100, 100), 1.5, (4, 1), z=-8, tilt=(0.02, -0.03), missing=draw[:k]),
        cortex.view(
            (100, 100),
            1.5,
            (4, 2),
            z=-5,
            tilt=(-0.01, 0.03),
            shift=(12, -9),
            rotation=2.5,
            missing=draw[k : 2 * k],
        ),
        cortex.view((100, 100), 1.5, (4, 3), z=25, shift=(5, 5)),
    )
    view = StackView(stack.volume, stack.um_per_voxel)
    fields = [FieldView(d.mean_image, d.correlation_image, d.masks, d.um_per_px) for d in days]
    placed = [
        register_to_stack(field, view, depth_um=depth, search_um=16, n_candidates=2)
        for field, depth in zip(fields, (TOP - 6, TOP - 6, TOP + 20), strict=True)
    ]
    return cortex, stack, days, fields, placed


def test_a_field_is_found_at_its_depth_tilt_and_place():
    cortex, stack, days, _, placed = scene()
    angle = np.deg2rad(TURN)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for day, found in zip(days, placed, strict=True):
        known = day.cell >= 0
        center = np.array([np.argwhere(mask).mean(0) for mask in day.masks])[known]
        cells = cortex.zyx[day.cell[known]]
        true = cells[:, 1:] @ turn.T + SHIFT + np.array(stack.volume.shape[1:])
        error = found.place(center) - np.column_stack([cells[:, 0] + TOP, true])
        assert np.sqrt((error[:, 1:] ** 2).sum(1).mean()) < 2.0
        assert abs(np.median(error[:, 0])) < 3.0  # cells lie up to 7 um off the plane
        assert found.score > 0.6
        assert found.rival < 0.6


def test_two_days_are_matched_in_the_stack():
    _, _, days, fields, placed = scene()
    result = match_through_stack(fields[0], fields[1], (placed[0], placed[1]))
    source, target = days[0].cell[result.pairs[:, 0]], days[1].cell[result.pairs[:, 1]]
    right = (source == target) & (source >= 0)
    possible = len((set(days[0].cell) & set(days[1].cell)) - {-1})
    assert possible >= 8
    assert right.mean() >= 0.9
    assert right.sum() >= 0.85 * possible


def test_fields_at_two_depths_share_no_cell():
    _, _, _, fields, placed = scene()
    assert not len(match_through_stack(fields[0], fields[2], (placed[0], placed[2])).pairs)


def test_a_depth_outside_of_the_stack_is_refused():
    _, stack, _, fields, _ = scene()
    with pytest.raises(ValueError, match="no slice"):
        register_to_stack(fields[0], StackView(stack.volume, stack.um_per_voxel), depth_um=900)
    with pytest.raises(ValueError, match="slices, H, W"):
        StackView(stack.volume[0], (1, 1, 1))


def test_routes_are_averaged_and_joined_one_to_one():
    direct = ([(1, 11), (2, 12), (3, 13)], [0.9, 0.9, 0.6])
    through = ([(1, 11), (2, 14)], [0.8, 0.7])
    found = combine([direct, through], min_probability=0.3)
    assert found.pairs.tolist() == [[1, 11], [2, 12], [3, 13]]
    np.testing.assert_allclose(found.probability, [0.85, 0.45, 0.3])
    assert found.n_routes.tolist() == [2, 1, 1]
    assert combine([direct, through]).pairs.tolist() == [[1, 11]]
    assert combine([([], []), ([], [])]).pairs.shape == (0, 2)
