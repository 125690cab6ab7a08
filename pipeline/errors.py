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
