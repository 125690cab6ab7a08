"""The training set: trials of images, responses, behavior and gaze."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError, Finding
from pipeline.files import written_whole

from .checks import check_one_image_one_id, check_pixels, wild_trials, wild_values

SD_FLOOR = 1e-6  # of the unit's own rms: one that varies less is left as it is
TIERS = ("train", "validation", "test")


@dataclass(frozen=True)
class Statistics:
    """Means and standard deviations (ddof 1) over the trials of the train tier only.

    `response_mean` and `response_sd` have shape (units,); `behavior_*` (columns,) and `pupil_*`
    (2,) are None where the data set has none.
    """

    image_mean: float
    image_sd: float
    response_mean: NDArray[np.float64]
    response_sd: NDArray[np.float64]
    behavior_mean: NDArray[np.float64] | None
    behavior_sd: NDArray[np.float64] | None
    pupil_mean: NDArray[np.float64] | None
    pupil_sd: NDArray[np.float64] | None

    @property
    def response_scale(self) -> NDArray[np.float64]:
        """What responses are divided by: the unit's own sd, or 1 for one that never varies.

        No unit's scale depends on another unit: one wild trial would else silence all others.
        """
        floor = SD_FLOOR * np.hypot(self.response_mean, self.response_sd)
        return np.where(self.response_sd > floor, self.response_sd, 1.0)

    def normalize_responses(self, responses: NDArray) -> NDArray:
        """Divide responses (trials, units) by their scale; they are not centered."""
        return responses / self.response_scale

    def restore_responses(self, normalised: NDArray) -> NDArray:
        """Undo `normalize_responses`."""
        return normalised * self.response_scale

    def normalize_images(self, images: NDArray) -> NDArray:
        """Z-score gray levels."""
        return (images - self.image_mean) / self.image_sd

    def restore_images(self, normalised: NDArray) -> NDArray:
        """Undo `normalize_images`."""
        return normalised * self.image_sd + self.image_mean


def _positive(sd: NDArray) -> NDArray:
    """Replace the sd of what never varies by 1, so that it is only centered."""
    return np.where(sd > 0, sd, 1.0)


class Dataset:
    """Trials of one scan or prepared file; images are held once however often they were shown.

    Parameters
    ----------
    images : array, shape (images, height, width)
        Unique images, gray levels 0-255 (uint8 or floating).
    image_index : int array, shape (trials,)
        Which of `images` was on.
    image_id : array, shape (trials,)
        Name (str or int) of the image; equal names mean repeats.
    responses : array, shape (trials, units)
        Response of every unit (a.u.).
    tiers : array of str, shape (trials,)
        'train', 'validation' or 'test'.
    behavior : array, shape (trials, 3), optional
        Pupil radius, its derivative, running speed, in any units.
    pupil_center : array, shape (trials, 2), optional
        Gaze (x, y) in pixels of the eye camera.
    unit_ids : array of int or str, shape (units,), optional
        Default 0, 1, ...
    um_xyz : array, shape (units, 3), optional
        Positions in the cortex (um).

    Attributes
    ----------
    findings : tuple of Finding
        What was left out when it was read or completed.

    Raises
    ------
    DataError
        If shapes disagree, a tier is unknown, one image is in two tiers, one id stands for
        different images, or a pixel is NaN or infinite.
    """

    findings: tuple[Finding, ...] = ()

    def __init__(
        self,
        images: NDArray,
        image_index: ArrayLike,
        image_id: ArrayLike,
        responses: NDArray,
        tiers: ArrayLike,
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
        unit_ids: ArrayLike | None = None,
        um_xyz: NDArray | None = None,
    ) -> None:
        self.images = np.asarray(images)
        self.image_index = np.asarray(image_index, dtype=np.int64)
        self.image_id = np.asarray(image_id)
        self.responses = np.asarray(responses, dtype=np.float32)
        self.tiers = np.asarray(tiers).astype(str)
        self.behavior = _optional(behavior)
        self.pupil_center = _optional(pupil_center)
        n_units = self.responses.shape[1] if self.responses.ndim == 2 else 0
        self.unit_ids = np.arange(n_units) if unit_ids is None else np.asarray(unit_ids)
        self.um_xyz = _optional(um_xyz)
        self._check()

    def _check(self) -> None:
        if self.responses.ndim != 2 or self.responses.size == 0:
            raise DataError(
                "no responses",
                field="responses",
                found=f"shape {self.responses.shape}",
                expected="(trials, units), neither of them 0",
            )
        trials, units = self.responses.shape
        if self.images.ndim != 3 or not len(self.images):
            raise DataError(
                "wrong shape",
                field="images",
                found=self.images.shape,
                expected="(images, height, width) of gray images",
            )
        expected = {
            "image_index": (trials,),
            "image_id": (trials,),
            "tiers": (trials,),
            "pupil_center": (trials, 2),
            "unit_ids": (units,),
            "um_xyz": (units, 3),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(
                    "does not fit responses", field=name, found=array.shape, expected=shape
                )
        if self.behavior is not None and (
            self.behavior.ndim != 2 or len(self.behavior) != trials or not self.behavior.shape[1]
        ):
            raise DataError(
                "does not fit responses",
                field="behavior",
                found=self.behavior.shape,
                expected=f"({trials}, 3)",
            )
        if self.image_index.min() < 0 or self.image_index.max() >= len(self.images):
            raise DataError(
                "points outside of images",
                field="image_index",
                found=(int(self.image_index.min()), int(self.image_index.max())),
                expected=f"0 to {len(self.images) - 1}",
            )
        unknown = sorted(set(self.tiers) - set(TIERS))
        if unknown:
            raise DataError("unknown tier", field="tiers", found=unknown, expected=list(TIERS))
        pairs = np.unique(
            np.stack([self._image_number, np.unique(self.tiers, return_inverse=True)[1]]), axis=1
        )
        split = np.flatnonzero(np.bincount(pairs[0]) > 1)
        if len(split):
            name = self.image_id[np.flatnonzero(self._image_number == split[0])[0]]
            raise DataError(
                "an image is in more than one tier",
                field="tiers",
                found=f"image {name!s} and {len(split) - 1} more",
                remedy="give all trials of one image the same tier",
            )
        check_one_image_one_id(self.image_index, self._image_number, self.image_id, self.tiers)
        check_pixels(self.images)

    @cached_property
    def _image_number(self) -> NDArray[np.int64]:
        return np.unique(self.image_id, return_inverse=True)[1].reshape(-1)

    @property
    def n_trials(self) -> int:
        """Number of trials, all tiers together."""
        return len(self.responses)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.responses.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images as stored."""
        return self.images.shape[1], self.images.shape[2]

    def trials(self, tier: str) -> NDArray[np.int64]:
        """Return the trials of a tier, in order of presentation."""
        if tier not in TIERS:
            raise ValueError(f"no tier {tier!r}; there are {TIERS}")
        return np.flatnonzero(self.tiers == tier)

    @cached_property
    def stats(self) -> Statistics:
        """Statistics of the train tier.

        Raises
        ------
        DataError
            If fewer than two trials are in it.
        """
        train = self.trials("train")
        if len(train) < 2:
            raise DataError(
                "too few training trials", field="tiers", found=len(train), expected="2 or more"
            )
        shown = np.bincount(self.image_index[train], minlength=len(self.images))
        present = np.flatnonzero(shown)
        sums = np.zeros(2)
        for start in range(0, len(present), 256):  # never a floating copy of all images
            part = present[start : start + 256]
            pixels = self.images[part].astype(np.float64).reshape(len(part), -1)
            sums += shown[part] @ np.stack([pixels.mean(1), (pixels**2).mean(1)], axis=1)
        mean, square = sums / shown.sum()
        sd = float(np.sqrt(max(square - mean**2, 0.0)))
        responses = self.responses[train].astype(np.float64)

        def moments(array: NDArray | None) -> tuple[NDArray | None, NDArray | None]:
            if array is None:
                return None, None
            return array[train].mean(0), _positive(array[train].std(0, ddof=1))

        behavior_mean, behavior_sd = moments(self.behavior)
        pupil_mean, pupil_sd = moments(self.pupil_center)
        return Statistics(
            image_mean=float(mean),
            image_sd=sd if sd > 0 else 1.0,
            response_mean=responses.mean(0),
            response_sd=responses.std(0, ddof=1),
            behavior_mean=behavior_mean,
            behavior_sd=behavior_sd,
            pupil_mean=pupil_mean,
            pupil_sd=pupil_sd,
        )

    def repeats(self, tier: str = "test") -> list[tuple[object, NDArray[np.int64]]]:
        """Return (image_id, trials) for every image of a tier, in order of first presentation."""
        trials = self.trials(tier)
        numbers = self._image_number[trials]
        order = np.argsort(numbers, kind="stable")
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        groups = [trials[part] for part in np.split(order, cuts)] if len(trials) else []
        groups.sort(key=lambda group: group[0])
        return [(self.image_id[group[0]].item(), group) for group in groups]

    def complete(self) -> tuple[Dataset, int]:
        """Drop trials with a missing, infinite or wild value, and columns without any value.

        Returns
        -------
        Dataset
            Without those trials; behavior columns, gaze or units that never have a finite value
            are taken out first (a whole stream may be missing, a unit may lie outside of the
            scan). Its `findings` count what was left out.
        int
            How many trials were dropped.
        """
        behavior, pupil_center = self.behavior, self.pupil_center
        findings = list(self.findings)
        if behavior is not None:
            there = np.isfinite(behavior).any(axis=0)
            if not there.all():
                text = f"{(~there).sum()} of {there.size} columns of behavior have no value"
                findings.append(Finding("behavior-left-out", text))
            behavior = behavior[:, there] if there.any() else None
        if pupil_center is not None and not np.isfinite(pupil_center).any(0).all():
            findings.append(Finding("behavior-left-out", "gaze has no value"))
            pupil_center = None
        finite = np.isfinite(self.responses)
        units = finite.any(0)
        if not units.all():
            text = f"{(~units).sum()} of {units.size} units have no response"
            findings.append(Finding("units-left-out", text))
        reasons = {"a response that is missing or infinite": ~finite[:, units].all(1)}
        for name, array in (("behavior", behavior), ("gaze", pupil_center)):
            if array is not None:
                reasons[f"{name} that is missing or infinite"] = ~np.isfinite(array).all(1)
        drop = np.logical_or.reduce(list(reasons.values()))
        good = np.flatnonzero(~drop)
        wild = np.zeros(self.n_trials, bool)
        wild[good] = wild_trials(self.responses[np.ix_(good, np.flatnonzero(units))])
        reasons["a wild response"] = wild
        for name, array in (("behavior", behavior), ("gaze", pupil_center)):
            if array is not None:
                odd = np.zeros(self.n_trials, bool)
                odd[good] = wild_values(array[good])
                reasons[f"a wild value of {name}"] = odd
        findings += [
            Finding("trials-left-out", f"{rows.sum()} of {self.n_trials} trials have {name}")
            for name, rows in reasons.items()
            if rows.any()
        ]
        keep = ~np.logical_or.reduce(list(reasons.values()))
        if not keep.any():
            raise DataError(
                "every trial lacks a response, behavior or gaze",
                field="responses",
                found="; ".join(finding.text for finding in findings),
                remedy="check that trials, frames, eye and treadmill share the rig clock",
            )
        whole = Dataset(
            self.images,
            self.image_index,
            self.image_id,
            self.responses[:, units],
            self.tiers,
            behavior,
            pupil_center,
            self.unit_ids[units],
            None if self.um_xyz is None else self.um_xyz[units],
        )
        whole.findings = tuple(findings)
        return whole.select(trials=np.flatnonzero(keep)), int((~keep).sum())

    def select(self, *, trials: ArrayLike | None = None, units: ArrayLike | None = None) -> Dataset:
        """Return the data set of some trials or units (indices or boolean), in the given order."""
        rows = np.arange(self.n_trials)[slice(None) if trials is None else np.asarray(trials)]
        columns = np.arange(self.n_units)[slice(None) if units is None else np.asarray(units)]
        used, index = np.unique(self.image_index[rows], return_inverse=True)
        part = Dataset(
            self.images if len(used) == len(self.images) else self.images[used],
            index.reshape(-1),
            self.image_id[rows],
            self.responses[np.ix_(rows, columns)],
            self.tiers[rows],
            None if self.behavior is None else self.behavior[rows],
            None if self.pupil_center is None else self.pupil_center[rows],
            self.unit_ids[columns],
            None if self.um_xyz is None else self.um_xyz[columns],
        )
        part.findings = self.findings
        return part

    def save(self, path: str | os.PathLike) -> None:
        """Write the data set to an npz file that `pipeline.dataset.load` reads.

        The file appears whole or not at all.
        """
        path = Path(path)
        names = "images image_index image_id responses tiers behavior pupil_center unit_ids um_xyz"
        arrays = {name: getattr(self, name) for name in names.split()}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        for name in ("image_id", "unit_ids"):
            if arrays[name].dtype == object:
                arrays[name] = arrays[name].astype(str)
        with written_whole(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)


def _optional(array: NDArray | None) -> NDArray[np.float64] | None:
    return None if array is None else np.asarray(array, dtype=np.float64)
