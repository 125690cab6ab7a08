"""Errors that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike


class DataError(ValueError):
    """A recording, file or data set that cannot be used as it is.

    The message is one line that names file, field, what was found, what was expected and what to
    do. Workers quarantine a job that raises it and do not retry.

    Parameters
    ----------
    problem : str
        What is wrong, in a few words.
    file, field : optional
        Where it is wrong.
    found, expected : optional
        The offending value and what would have been right.
    remedy : str, optional
        What the person should do.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike | None = None,
        field: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        where = ": ".join(str(part) for part in (file, field) if part is not None)
        text = f"{where}: {problem}" if where else problem
        if found is not None:
            text += f"; found {found}"
        if expected is not None:
            text += f"; expected {expected}"
        if remedy is not None:
            text += f"; {remedy}"
        super().__init__(" ".join(text.split()))


class MachineError(DataError):
    """A machine lacks what others may have: a mount, a driver, space, the right to write.

    Nothing is wrong with the data. Workers hand the job back, pause, and set nothing aside.
    """


@dataclass(frozen=True)
class Finding:
    """What a reader noticed in data that can still be used: said by name, never passed over.

    Attributes
    ----------
    name : str
        Of the kind, such as `frames-missing`, to be looked up in docs/formats.md.
    text : str
        One line: file, what was found, what was done.
    """

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"

    @property
    def remedy(self) -> str:
        """What a person can do about it; empty for a kind that only a plug-in knows."""
        return REMEDIES.get(self.name, "")


REMEDIES = {
    # frames and their times
    "frames-missing": "nothing, if they are few: trials on them have no response; else list all "
    "files of the movie",
    "frame-times-left-over": "nothing, if the counts are plausible",
    "frame-times-filled": "check the cable of the frame pulses",
    "frame-times-spurious": "check the cable of the frame pulses",
    "frame-times-per-page": "nothing",
    "frame-times-uneven": "keep the microscope's own files, which number their frames",
    "frame-times-gaps": "nothing, if they are few; else check the cable of the frame pulses",
    # the movie
    "rate-contradicted": "nothing: the time stamps are believed",
    "offset-kept": "subtract the digitizer's offset in ScanImage before the next scan",
    "acquisitions-joined": "nothing, if all belong to this scan; else list the files of one",
    "frame-split": "nothing, if all files are of one acquisition",
    "file-cut": "copy the file again; else its last pages are lost",
    "pages-missing": "list all files of the movie",
    "slices-as-frames": "nothing, if the pages are a movie",
    "stack-channel": "name the channel in stack.json",
    "stack-size-contradicted": "correct um_per_voxel in stack.json",
    "pixel-size-unknown": "give imaging.um_per_px in recording.json: masks have no size without",
    "pixel-size-contradicted": "correct imaging.um_per_px, or leave it out",
    "pixel-size-implausible": "correct imaging.um_per_px in recording.json",
    "movie-saturated": "lower the gain or the power of the laser",
    "movie-fixed": "nothing, if those are borders or bright lines: they are masked",
    # units of another program
    "units-left-out": "nothing: their traces are left out, too",
    "units-scaled": "nothing: responses are divided by the unit's own deviation",
    "units-smoothed": "save the residual (YrA) with the results",
    "units-all-kept": "say which were rejected, where the program knows",
    "units-kept": "nothing",
    "masks-turned": "give --rows-first or --no-rows-first if the masks lie wrongly",
    "field-size-unknown": "nothing, if the mean image looks right",
    # behavior
    "behavior-partial": "start the camera before the scan, and stop it after",
    "pupil-seldom": "track the pupil again, see docs/behavior.md",
    "pupil-still": "track the pupil again: a real one moves",
    "eye-times-uneven": "write one time for every frame of the video",
    "running-implausible": "check the wheel's diameter_cm and counts_per_rev, or the unit of speed",
    "rows-joined": "nothing: the last row of each time is taken",
    "clock-outliers": "nothing, if they are few, see docs/behavior.md",
    "clock-drift": "write pairs more often, see docs/behavior.md",
    "clock-rate": "check that both clocks count seconds, see docs/behavior.md",
    # trials, images, monitor
    "trials-outside": "nothing: they have no response",
    "images-repeated": "show more images once: a model needs some to train on",
    "images-never-repeated": "repeat some images: reliability needs a test tier",
    "images-beyond-monitor": "measure the monitor from the darkest to the brightest gray level",
    "images-flat": "check that the files hold the images that were shown",
    "photodiode-unseen": "check the diode's place and threshold: such trials are not scored",
    "photodiode-inverted": "nothing: the polarity is used",
    "photodiode-clock": "nothing, if the clocks differ; else give all times on one clock",
    "photodiode-ambiguous": "put photodiode.csv on the clock of the trials",
    "photodiode-one-level": "show the square of the package: white and gray in turn",
    # the answer to a plan
    "plan-not-shown": "nothing, if the session ended early",
    "plan-foreign": "nothing, if they were meant",
    "plan-unusable": "look for the cause while the animal is there",
    "player-worse": "see docs/day2.md",
    # a prepared data set
    "trials-left-out": "nothing, if they are few",
    "behavior-left-out": "nothing, if nothing of it was recorded",
    "file-not-read": "give it a name of docs/formats.md",
}
"""What a person can do about a finding, by its name: docs/formats.md explains each."""
