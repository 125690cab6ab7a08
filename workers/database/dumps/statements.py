"""SQL that a backup may hold, read word by word.

A dump is not handed to a server as it is: whoever wrote it could do there what the account may,
run programs and write files too. Every statement is read as one of the few that `backup` writes,
and made again from its names, types and literal values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from pipeline.errors import DataError

_LONGEST = 256 << 20  # of one line
REFUSED = "is no statement that `inception backup` writes"


class Statement:
    """The words of one statement, taken one after the other.

    Parameters
    ----------
    text : str
    words : pattern
        With one group for each kind of word; whatever it does not match is refused.
    file, line : where it stands.
    """

    def __init__(self, text: str, words: re.Pattern, file: Path, line: int) -> None:
        self.file, self.line = file, line
        self.words: list[tuple[str, str]] = []
        place = 0
        while place < len(text):
            found = words.match(text, place)
            if found is None or found.end() == place:
                self.refuse(text[place : place + 40])
            place = found.end()
            if found.lastgroup != "space":
                self.words.append((found.lastgroup or "", found.group()))
        self.words.reverse()  # the next is the last

    def refuse(self, found: str | None = None) -> NoReturn:
        """Raise the error that names file and line."""
        text = self.words[-1][1] if found is None and self.words else found or "its end"
        raise DataError(
            REFUSED,
            file=self.file,
            field=f"line {self.line}",
            found=ascii(text[:60]),
            expected="tables, keys, comments and rows",
            remedy="use a backup that you trust",
        )

    def next(self, *kinds: str) -> str:
        """Take a word of one of some kinds."""
        if not self.words or self.words[-1][0] not in kinds:
            self.refuse()
        return self.words.pop()[1]

    def comes(self, kind: str) -> bool:
        """Tell whether the next word is of a kind."""
        return bool(self.words) and self.words[-1][0] == kind

    def maybe(self, phrase: str) -> bool:
        """Take some words and signs, such as `NOT NULL`, if they come next."""
        wanted = phrase.split()
        there = [word for kind, word in self.words[: -len(wanted) - 1 : -1] if kind in _PLAIN]
        if [word.upper() for word in there] != [word.upper() for word in wanted]:
            return False
        del self.words[-len(wanted) :]
        return True

    def need(self, phrase: str) -> None:
        """Take some words and signs, or refuse."""
        if not self.maybe(phrase):
            self.refuse()

    def end(self) -> None:
        """Refuse if anything is left."""
        if self.words:
            self.refuse()

    def one_of(self, phrases: tuple[str, ...]) -> str:
        """Take the first of some phrases that comes next."""
        for phrase in phrases:
            if self.maybe(phrase):
                return phrase
        self.refuse()

    def listed(self, take: Callable[[], str]) -> str:
        """Take what stands in brackets, with commas between; return it so."""
        self.need("(")
        found = [take()]
        while self.maybe(","):
            found.append(take())
        self.need(")")
        return f"({', '.join(found)})"

    def numbers(self) -> str:
        """Take what may follow a type, such as (16) or (10,2)."""
        if self.words[-1:] == [("sign", "(")]:
            return self.listed(lambda: self.next("number"))
        return ""


_PLAIN = ("word", "sign")


def numbered_lines(stream: BinaryIO, file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, none of them without an end to its length."""
    number = 0
    while line := stream.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST:
            raise DataError("has a line that is too long", file=file, field=f"line {number}")
        yield number, line


def decoded(line: bytes, file: Path, number: int) -> str:
    """Return a line as text, or raise DataError."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("is no UTF-8", file=file, field=f"line {number}", found=error) from error
