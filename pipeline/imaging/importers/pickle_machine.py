"""The stack machine that pickles are programs for, less the instructions that could do harm."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .pickle_values import CALLS, KNOWN, TYPES, Name, Refused, Unfinished, key, short

MAX_STEPS = 20_000_000  # instructions: 10,000 units of suite2p take 2.5 million
MAX_MADE = 4_000_000  # containers and calls, and as many entries of the memo
MAX_MARKS = 1000
MAX_INTEGER = 64  # bytes, or digits in a line of text
MAX_LINE = 1 << 16  # bytes of text in a line
MAX_ARRAYS = 8  # arrays of objects directly within each other, which Python frees recursively
_INSTRUCTIONS = {one.code: one.name for one in pickletools.opcodes}


class _Machine:
    """The stack, the marks on it and the memo of a pickle.

    What a file of some bytes may ask for is in proportion to them: an instruction of one byte
    makes a list of 56, and content that is kept once may be copied again and again.
    """

    def __init__(self, content: memoryview, steps: Mapping[int, Step]) -> None:
        self.content, self.place, self.steps = content, 0, steps
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.heights: dict[int, tuple[int, np.ndarray]] = {}  # of arrays of objects, by id
        self.room = (1 << 20) + min(64 * len(content), len(content) + (1 << 30))  # to be copied
        self.left = min(MAX_MADE, 1000 + len(content) // 4)

    def run(self) -> Any:
        most = min(MAX_MADE, 1000 + len(self.content) // 3)
        for _ in range(MAX_STEPS):
            if self.place >= len(self.content):
                raise Refused("it is damaged: it ends too early")
            code = self.content[self.place]
            self.place += 1
            if code == _STOP:
                if len(self.stack) != 1 or self.marks:
                    raise Refused("it is damaged: it ends with a stack that is not clear")
                return self.stack[0]
            step = self.steps.get(code)
            if step is None:
                known = _INSTRUCTIONS.get(chr(code))
                what = f"the instruction {known}" if known else f"byte {code} as instruction"
                raise Refused(f"it uses {what}, which arrays are not written with")
            step(self)
            if len(self.memo) > most or len(self.marks) > MAX_MARKS:
                raise Refused("it keeps more than a file of its size can need")
        raise Refused(f"it is of more than {MAX_STEPS} instructions")

    def take(self, size: int) -> memoryview:
        """Return the next bytes; no length is believed that the file does not have."""
        if not 0 <= size <= len(self.content) - self.place:
            raise Refused("it is damaged: it ends too early")
        self.place += size
        return self.content[self.place - size : self.place]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def line(self, most: int = 256, encoding: str = "ascii") -> str:
        end = bytes(self.content[self.place : self.place + most]).find(b"\n")
        if end < 0:
            raise Refused("it is damaged: a name does not end")
        return bytes(self.take(end + 1)[:-1]).decode(encoding, "replace")

    def digits(self) -> int:
        text = self.line()
        if not text.removeprefix("-").isdigit() or len(text) > MAX_INTEGER:
            raise Refused("it is damaged: a number is none")
        return int(text)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int = 1) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise Refused("it is damaged: it takes what is not there")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("it is damaged: it takes what is not there")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def last(self, kind: type) -> Any:
        (value,) = self.pop()
        if type(value) is not kind:
            raise Refused("it is damaged: it fills what is no container")
        self.push(value)
        return value

    def make(self, value: Any) -> None:
        """Push a container, or what a call has made; there may be so many only."""
        self.left -= 1
        if self.left < 0:
            raise Refused("it makes more than a file of its size can hold")
        self.push(value)

    def charge(self, parts: tuple) -> None:
        """Count what is about to be copied."""
        for part in parts:
            many = isinstance(part, list | tuple)
            sized = many or isinstance(part, str | bytes | bytearray)
            self.room -= 16 + (len(part) * (8 if many else 1) if sized else 0)
            if self.room < 0:
                raise Refused("written out it would be far larger than the file")

    def keep(self, place: int) -> None:
        (value,) = self.pop()
        self.push(value)
        self.memo[place] = value
        if isinstance(value, Unfinished):
            value.places.append(place)

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise Refused("it is damaged: it recalls what it never kept")
        self.push(self.memo[place])

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:  # and no repr, which may not end
            raise Refused("it names something by what is no text")
        text = f"{module} {name}"
        if text in TYPES:
            self.push(TYPES[text])
        elif text in KNOWN:
            self.push(Name(text))
        else:
            raise Refused(f"it names {short(module)}.{short(name)}")

    def named(self) -> None:
        module = self.line()
        self.name(module, self.line())

    def call(self) -> None:
        name, args = self.pop(2)
        if not isinstance(name, Name) or name.text not in CALLS or type(args) is not tuple:
            raise Refused("it calls what it has made itself")
        self.charge(args)
        self.make(CALLS[name.text](args))

    def build(self) -> None:
        unfinished, state = self.pop(2)
        if not isinstance(unfinished, Unfinished) or type(state) is not tuple:
            raise Refused("it sets the state of something else than an array")
        self.charge(state)
        value = unfinished.finish(state)
        for place in unfinished.places:
            if self.memo.get(place) is unfinished:
                self.memo[place] = value
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            within = (self.heights[id(one)][0] for one in state[4] if id(one) in self.heights)
            height = 1 + max(within, default=0)
            if height > MAX_ARRAYS:
                raise Refused(f"it holds arrays of objects within each other, {height} deep")
            self.heights[id(value)] = height, value
        self.make(value)

    def append(self, values: list[Any]) -> None:
        self.last(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise Refused("it is damaged: a key without a value")
        target = self.last(dict)
        for one, value in zip(values[::2], values[1::2], strict=True):
            target[key(one)] = value

    def add(self, values: list[Any]) -> None:
        self.last(set).update(map(key, values))

    def integer(self, size: int) -> None:
        if size > MAX_INTEGER:
            raise Refused(f"it holds a whole number of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def text(self, size: int) -> None:
        self.push(bytes(self.take(size)).decode("utf-8", "replace"))

    def old_text(self, size: int) -> None:
        """Push a string of Python 2, which held text and bytes alike."""
        self.push(bytes(self.take(size)).decode("latin1"))


def follow(content: memoryview, *, oldest: bool = False) -> Any:
    """Return the value that a pickle describes.

    Parameters
    ----------
    content : memoryview
    oldest : bool
        Whether it may be of protocol 0, whose numbers and names are lines of text.

    Raises
    ------
    Refused
        If it is damaged, or asks for anything but numbers, text, arrays and plain containers.
    ValueError
        If numpy or a date refuses what it was given.
    """
    return _Machine(content, _STEPS | _OLDEST if oldest else _STEPS).run()


Step = Callable[[_Machine], Any]
_BY_NAME: dict[str, Step] = {
    "PROTO": lambda m: m.take(1),
    "FRAME": lambda m: m.take(8),
    "MARK": lambda m: m.marks.append(len(m.stack)),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "BININT": lambda m: m.integer(4),
    "BININT1": lambda m: m.push(m.number(1)),
    "BININT2": lambda m: m.push(m.number(2)),
    "LONG1": lambda m: m.integer(m.number(1)),
    "LONG4": lambda m: m.integer(m.number(4)),
    "BINFLOAT": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    "SHORT_BINUNICODE": lambda m: m.text(m.number(1)),
    "BINUNICODE": lambda m: m.text(m.number(4)),
    "BINUNICODE8": lambda m: m.text(m.number(8)),
    "SHORT_BINBYTES": lambda m: m.push(bytes(m.take(m.number(1)))),
    "BINBYTES": lambda m: m.push(bytes(m.take(m.number(4)))),
    "BINBYTES8": lambda m: m.push(bytes(m.take(m.number(8)))),
    "BYTEARRAY8": lambda m: m.push(bytearray(m.take(m.number(8)))),
    "SHORT_BINSTRING": lambda m: m.old_text(m.number(1)),
    "BINSTRING": lambda m: m.old_text(m.number(4)),
    "EMPTY_LIST": lambda m: m.make([]),
    "EMPTY_DICT": lambda m: m.make({}),
    "EMPTY_SET": lambda m: m.make(set()),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "APPEND": lambda m: m.append(m.pop()),
    "APPENDS": lambda m: m.append(m.since_mark()),
    "SETITEM": lambda m: m.set_items(m.pop(2)),
    "SETITEMS": lambda m: m.set_items(m.since_mark()),
    "ADDITEMS": lambda m: m.add(m.since_mark()),
    "FROZENSET": lambda m: m.make(frozenset(map(key, m.since_mark()))),
    "TUPLE": lambda m: m.make(tuple(m.since_mark())),
    "TUPLE1": lambda m: m.make(tuple(m.pop())),
    "TUPLE2": lambda m: m.make(tuple(m.pop(2))),
    "TUPLE3": lambda m: m.make(tuple(m.pop(3))),
    "BINGET": lambda m: m.recall(m.number(1)),
    "LONG_BINGET": lambda m: m.recall(m.number(4)),
    "BINPUT": lambda m: m.keep(m.number(1)),
    "LONG_BINPUT": lambda m: m.keep(m.number(4)),
    "MEMOIZE": lambda m: m.keep(len(m.memo)),
    "GLOBAL": lambda m: m.named(),
    "STACK_GLOBAL": lambda m: m.name(*m.pop(2)),
    "REDUCE": lambda m: m.call(),
    "BUILD": lambda m: m.build(),
}
_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_STOP = _CODES["STOP"]
_STEPS = {_CODES[name]: step for name, step in _BY_NAME.items()}
_OLDEST: dict[int, Step] = {
    _CODES["INT"]: lambda m: m.push(m.digits()),
    _CODES["UNICODE"]: lambda m: m.push(m.line(MAX_LINE, "raw_unicode_escape")),
    _CODES["LIST"]: lambda m: m.make(m.since_mark()),
    _CODES["PUT"]: lambda m: m.keep(m.digits()),
    _CODES["GET"]: lambda m: m.recall(m.digits()),
}
