"""The folder of a structural stack: `stack.json` and the volume beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.structural import read_stack
from pipeline.jsonfile import read_object
from pipeline.npy import read_npy
from pipeline.recording.summary import Summary

FORMAT = "inception-stack/1"
SIZES_APART = 0.05  # by which the header's and stack.json's sizes may differ


@dataclass(frozen=True)
class StackFolder:
    """A structural stack as its folder has it.

    Attributes
    ----------
    animal_id, session, stack_idx : int
    volume : array float32, shape (slices, H, W)
    um_per_voxel : list of float
        z, y, x (um).
    file : Path
        That the volume came from.
    repeats : int
        Pages that were averaged for each slice.
    findings : list of Finding
    """

    animal_id: int
    session: int
    stack_idx: int
    volume: NDArray[np.float32]
    um_per_voxel: list[float]
    file: Path
    repeats: int = 1
    findings: list[Finding] = field(default_factory=list)

    def summary(self) -> Summary:
        """Return what was understood, in lines that a person can check."""
        slices, height, width = self.volume.shape
        depth, y, x = (f"{size:.4g}" for size in self.um_per_voxel)
        means = self.volume.mean((1, 2))
        facts = (
            ("stack", f"{self.stack_idx} of animal {self.animal_id}, session {self.session}"),
            ("file", f"{self.file.name}, {self.file.stat().st_size / 1e6:,.1f} MB"),
            ("slices", f"{slices} of {height} x {width} px, {self.repeats} pages averaged at each"),
            ("voxel", f"z {depth}, y {y}, x {x} um"),
            ("levels", f"means of the slices {means.min():.4g} to {means.max():.4g}"),
        )
        return Summary(facts, tuple(self.findings))


def read_stack_folder(folder: str | Path) -> StackFolder:
    """Read and check the stack of a folder that holds `stack.json`.

    ``{"format": "inception-stack/1", "animal_id", "session", "stack_idx", "file": name of a
    TIFF or npy (slices, H, W), "um_per_voxel": [z, y, x]}``, optionally "channel". Pages that a
    TIFF holds of one slice are averaged.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    path = Path(folder).expanduser().resolve() / "stack.json"
    if not path.is_file():
        raise DataError("file is missing", file=path)
    content = read_object(path)
    try:
        names = ("animal_id", "session", "stack_idx")
        animal, session, stack = (int(content[name]) for name in names)
        file, size = path.parent / content["file"], [float(v) for v in content["um_per_voxel"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "cannot be read",
            file=path,
            found=repr(error),
            expected=f"{FORMAT} with animal_id, session, stack_idx, file and um_per_voxel",
        ) from error
    if content.get("format") != FORMAT or len(size) != 3 or not min(size) > 0:
        raise DataError(
            "is not a stack",
            file=path,
            field="format, um_per_voxel",
            found=f"{content.get('format')}, {size}",
            expected=f"{FORMAT}, three positive sizes",
        )
    if not file.is_file():
        raise DataError("file is missing", file=file)
    repeats, findings = 1, list[Finding]()
    if file.suffix == ".npy":
        volume = read_npy(file)
    else:
        volume, repeats, findings = _read_tiff(file, content, size)
    if volume.ndim != 3:
        raise DataError("is not a stack", file=file, found=volume.shape, expected="(slices, H, W)")
    volume = np.asarray(volume, np.float32)
    return StackFolder(animal, session, stack, volume, size, file, repeats, findings)


def _read_tiff(
    file: Path, content: Mapping[str, Any], size: list[float]
) -> tuple[NDArray, int, list[Finding]]:
    """Read a stack by its header, and say where that contradicts `stack.json`."""
    channel = content.get("channel")
    if channel is not None and (type(channel) is not int or channel < 1):
        raise DataError("is no channel", file=file, field="channel", found=channel, expected="1, 2")
    found = read_stack(file, channel=channel)
    findings = list(found.findings)
    for axis, own, said in zip("zyx", found.um_per_voxel, size, strict=True):
        if own is not None and abs(own / said - 1) > SIZES_APART:
            text = f"{file.name}: {axis} is {own:.4g} um by the header, {said:.4g} um by stack.json"
            findings.append(Finding("stack-size-contradicted", f"{text}, which is believed"))
    return found.volume, found.repeats, findings
