"""Through a structural z-stack: where a field lies in it, and two fields that both lie there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch.nn.functional import grid_sample

from pipeline.closed_loop.matching.base import FieldView, MatchResult, outlines
from pipeline.closed_loop.matching.field_to_field import match_registered
from pipeline.closed_loop.matching.registration import (
    GRID_UM,
    NORMALIZE_UM,
    Registration,
    correlations,
    field_features,
    normalize_locally,
    peaks_of,
)

PLANE_UM = 4.0  # distance of the planes that the search looks at
SMOOTH_UM = 2.5  # sd along z: a field has the depth of its focus
STEPS, LINEAR_RATE, SHIFT_RATE = 120, 0.002, 0.4  # of the ascent; rates per um and in um
MAX_TILT = 0.15  # a field more oblique than this is no field of the stack


@dataclass(frozen=True)
class StackView:
    """A structural volume.

    Attributes
    ----------
    volume : array, shape (slices, H, W)
    um_per_voxel : (float, float, float)
        z, y, x.
    """

    volume: NDArray
    um_per_voxel: tuple[float, float, float]

    def __post_init__(self) -> None:
        if np.ndim(self.volume) != 3 or min(self.um_per_voxel) <= 0:
            raise ValueError(
                f"a stack is (slices, H, W) with positive voxels, got {np.shape(self.volume)} and "
                f"{tuple(self.um_per_voxel)} um"
            )


@dataclass(frozen=True)
class StackRegistration:
    """Where a field lies in a stack.

    Attributes
    ----------
    transform : array, shape (3, 3)
        ``zyx_um = transform[:, :2] @ (y, x) + transform[:, 2]``: pixels of the field to um from
        the stack's first voxel.
    score : float
        Correlation of the field with the plane of the stack that it lies in.
    rival : float
        Largest correlation found elsewhere in the stack, over `score`.
    """

    transform: NDArray[np.float64]
    score: float
    rival: float

    def place(self, yx: NDArray) -> NDArray[np.float64]:
        """Map pixels (n, 2) of the field to (z, y, x) in the stack (um)."""
        return np.asarray(yx) @ self.transform[:, :2].T + self.transform[:, 2]


def register_to_stack(
    field: FieldView,
    stack: StackView,
    *,
    depth_um: float | None = None,
    search_um: float = 80.0,
    max_shift_um: float = 60.0,
    max_rotation_deg: float = 6.0,
    n_candidates: int = 4,
) -> StackRegistration:
    """Search depth, rotation and shift exhaustively, then fit an affine plane by gradient.

    Parameters
    ----------
    depth_um : float, optional
        Where in the stack the field should be (um from its first slice); None: anywhere.
    search_um : float
        Depths farther away are not looked at.
    max_shift_um, max_rotation_deg : float
        Range of the search, about the centers of field and stack.
    n_candidates : int
        Places that are refined.

    Notes
    -----
    The nine parameters of the plane (two columns of a linear map, and a translation) follow the
    gradient of the correlation, as Adam does; images are normalized locally as for fields.
    """
    features = _volume_features(stack)
    image = field_features(field, GRID_UM)
    step = max(1, round(PLANE_UM / stack.um_per_voxel[0]))
    planes = np.arange(0, len(features), step)
    if depth_um is not None:
        planes = planes[np.abs(planes * stack.um_per_voxel[0] - depth_um) <= search_um]
    if not len(planes):
        raise ValueError(f"no slice of the stack is within {search_um:g} um of {depth_um} um")
    turn = np.arange(-np.ceil(max_rotation_deg / 1.5), np.ceil(max_rotation_deg / 1.5) + 1) * 1.5
    found = []
    for plane in planes:
        surfaces = correlations(image, features[plane], turn, max_shift_um / GRID_UM)
        found += [
            (value, plane, angle, shift) for angle, shift, value in peaks_of(surfaces, turn, 2)
        ]
    found.sort(key=lambda place: -place[0])
    refined: list[tuple[float, NDArray]] = []
    starts: list[NDArray] = []
    for _, plane, angle, shift in found:
        z = plane * stack.um_per_voxel[0]
        start = _start(z, angle, np.asarray(shift) * GRID_UM, image.shape, features.shape[1:])
        middle = start @ _center(image.shape)
        if any(np.abs(middle - other).max() < 12 for other in starts):
            continue
        starts.append(middle)
        refined.append(_refine(image, features, stack.um_per_voxel[0], start))
        if len(refined) == n_candidates:
            break
    order = np.argsort([-score for score, _ in refined])
    score, plane_um = refined[order[0]]
    here = plane_um @ _center(image.shape)
    rival = max(
        (
            refined[k][0]
            for k in order[1:]
            if np.abs(refined[k][1] @ _center(image.shape) - here).max() > 8
        ),
        default=0.0,
    )
    # grid index -> pixels of the field: centers of pixels correspond
    scale = field.pixel_um / GRID_UM
    linear = plane_um[:, :2] * scale
    offset = plane_um[:, :2] @ (0.5 * scale - 0.5) + plane_um[:, 2]
    transform = np.column_stack([linear, offset])
    return StackRegistration(
        transform, float(score), float(np.clip(rival / max(score, 1e-6), 0, 1))
    )


def match_through_stack(
    source: FieldView,
    target: FieldView,
    placed: tuple[StackRegistration, StackRegistration],
    *,
    max_distance_um: float = 10.0,
    max_depth_um: float = 12.0,
    min_probability: float = 0.5,
    smooth_um: float = 50.0,
) -> MatchResult:
    """Match the units of two fields in the coordinates of a stack that both are registered to.

    Parameters
    ----------
    placed : (StackRegistration, StackRegistration)
        Of source and target.
    max_depth_um : float
        A unit whose place lies farther from the target's plane cannot be seen there.
    max_distance_um, min_probability, smooth_um : float
        As in `field_to_field`.

    Returns
    -------
    MatchResult
        `same_field` is the probability that both registrations are right.
    """
    one, two = placed
    back, offset = _flatten(two.transform)
    linear = back @ one.transform[:, :2]
    transform = np.column_stack([linear, back @ one.transform[:, 2] + offset])
    center = outlines(source.masks).centroid
    gap = one.place(center)[:, 0] - two.place(center @ linear.T + transform[:, 2])[:, 0]
    found = Registration(
        transform=transform,
        score=min(one.score, two.score),
        rival=max(one.rival, two.rival),
        overlap=1.0,
        area_um2=float(np.prod(np.array(source.shape) * source.pixel_um)),
    )
    return match_registered(
        source,
        target,
        found,
        max_distance_um=max_distance_um,
        min_probability=min_probability,
        smooth_um=smooth_um,
        hidden=~(np.abs(gap) <= max_depth_um),
    )


def _flatten(transform: NDArray) -> tuple[NDArray, NDArray]:
    """Return the map from (z, y, x) um to the field's pixels, straight down onto its plane."""
    inverse = np.linalg.inv(transform[1:, :2])
    back = np.column_stack([np.zeros(2), inverse])
    return back, -inverse @ transform[1:, 2]


def _volume_features(stack: StackView) -> NDArray[np.float32]:
    """Return the locally normalized slices on an isotropic grid in plane."""
    voxel = np.asarray(stack.um_per_voxel, float)
    volume = gaussian_filter1d(np.asarray(stack.volume, np.float32), SMOOTH_UM / voxel[0], axis=0)
    size = np.maximum(np.round(np.array(volume.shape[1:]) * voxel[1:] / GRID_UM).astype(int), 8)
    how = cv2.INTER_AREA if voxel[1:].min() < GRID_UM else cv2.INTER_LINEAR
    slices = [cv2.resize(s, (int(size[1]), int(size[0])), interpolation=how) for s in volume]
    return np.array([normalize_locally(s, NORMALIZE_UM / GRID_UM) for s in slices], np.float32)


def _start(
    z_um: float, angle_deg: float, shift_um: NDArray, field: tuple, plane: tuple
) -> NDArray[np.float64]:
    """Return the (3, 3) map of grid indices of the field to um in the stack, of a flat plane."""
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * GRID_UM
    middle = [(np.array(shape) - 1) / 2 for shape in (field, plane)]
    offset = (middle[1] + 0.5) * GRID_UM + shift_um - turn @ middle[0]
    return np.vstack([[0.0, 0.0, z_um], np.column_stack([turn, offset])])


def _center(shape: tuple) -> NDArray[np.float64]:
    return np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, 1.0])


def _refine(
    image: NDArray, features: NDArray, step_um: float, start: NDArray
) -> tuple[float, NDArray[np.float64]]:
    """Follow the gradient of the correlation; return its best value and the map there."""
    volume = torch.as_tensor(features)[None, None]
    wanted = torch.as_tensor(image).reshape(-1)
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    middle = _center(image.shape)
    points = torch.as_tensor(
        np.column_stack([yy.ravel() - middle[0], xx.ravel() - middle[1]]) * GRID_UM
    ).float()
    linear = torch.as_tensor(start[:, :2] / GRID_UM).float().requires_grad_(True)
    shift = torch.as_tensor(start @ middle).float().requires_grad_(True)
    size = torch.tensor(
        [
            (features.shape[0] - 1) * step_um,
            features.shape[1] * GRID_UM,
            features.shape[2] * GRID_UM,
        ]
    )
    optimizer = torch.optim.Adam(
        [{"params": [linear], "lr": LINEAR_RATE}, {"params": [shift], "lr": SHIFT_RATE}]
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    best, best_map = -1.0, start
    for _ in range(STEPS):
        place = points @ linear.T + shift  # um: z of slice centers, y and x of pixel edges
        z = 2 * place[:, 0] / size[0] - 1
        y, x = (2 * place[:, k] / size[k] - 1 for k in (1, 2))
        # slices are points (corners aligned), pixels are areas: bring y and x to the same rule
        y, x = (v * n / (n - 1) for v, n in zip((y, x), features.shape[1:], strict=True))
        sampled = grid_sample(
            volume,
            torch.stack([x, y, z], -1)[None, None, None],
            align_corners=True,
            padding_mode="zeros",
        ).reshape(-1)
        inside = (torch.stack([x, y, z]).abs() <= 1).all(0)
        if inside.float().mean() < 0.3:
            break
        a = wanted[inside] - wanted[inside].mean()
        b = sampled[inside] - sampled[inside].mean()
        score = (a * b).sum() / (a.norm() * b.norm() + 1e-9)
        tilt = linear[0].abs().max().item()
        if score.item() > best and tilt <= MAX_TILT:
            best = score.item()
            grid = linear.detach().double().numpy() * GRID_UM
            offset = shift.detach().double().numpy() - grid @ middle[:2]
            best_map = np.column_stack([grid, offset])
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
        schedule.step()
    return best, best_map
