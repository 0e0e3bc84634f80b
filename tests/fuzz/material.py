"""What the fuzzers' bytes become: decisions, values, frames, and changes to frames.

Everything is decided by the bytes alone, so that the same bytes are the same test again.
"""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import msgpack

T = TypeVar("T")

BOUNDARIES = [
    *(2**n + d for n in (7, 8, 15, 16, 31, 32, 63) for d in (-1, 0, 1)),
    *(-(2**n) + d for n in (5, 7, 15, 31) for d in (-1, 0, 1)),
    -(2**63),
    2**64 - 1,
]
TEXTS = [
    "",
    "demo",
    "held",
    "nosuch",
    "demo@1",
    "echo",
    "hold",
    "fail",
    "large",
    "*",
    "[",
    "[!a-",
    "**?",
    "test.*",
    "name",
    "names",
    "__class__",
    "../demo",
    "demo\0",
    "\uff44\uff45\uff4d\uff4f",
    "\u202e",
    "💥",
    "x" * 600,
]
HEADS = [bytes([byte]) for byte in (*range(0x80, 0xA4), *range(0xC0, 0xE0), 0x00, 0x01, 0xFF)]
ODD = [
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00",
    b"\xdc\x0f\xfc",
    b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp whose nanoseconds are too many
    b"\xd7\xff" + b"\xff" * 8,
    b"\xca\x7f\xc0\x00\x00",  # not a number
    b"\x82\xa1a\x01\xa1a\x02",
    b"\x81\x01\x01",
    b"\x81\x90\x01",
    b"\x81\xc0\x01",
    b"\xa2\xff\xff",
    b"\xa3\xed\xa0\x80",  # a lone surrogate
    b"\x91" * 40,
]
"""Bytes on which decoders have come to grief."""


class Reader:
    """Decisions out of bytes; when they have run out, each is the first that there is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def byte(self) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count`` - 1."""
        number = self.byte() if count <= 256 else self.byte() << 8 | self.byte()
        return number % count

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def integer(self) -> int:
        kind = self.below(8)
        if kind < 4:
            return self.below(4)
        if kind < 6:
            return BOUNDARIES[self.below(len(BOUNDARIES))]
        return int.from_bytes(self.take(8), "big", signed=kind == 6)

    def text(self) -> str:
        if self.below(4):
            return self.choice(TEXTS)
        return self.take(self.below(24)).decode("utf-8", "replace")

    def value(self, depth: int = 0) -> Any:
        """Return a value of any type that msgpack has."""
        kind = self.below(16 if depth < 6 else 12)
        match kind:
            case 0 | 1:
                return self.text()
            case 2 | 3:
                return self.integer()
            case 4:
                return None
            case 5:
                return True
            case 6:
                return False
            case 7:
                return self.choice([0.0, -0.0, 0.5, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324])
            case 8:
                return self.take(self.below(24))
            case 9:
                return msgpack.ExtType(self.below(128), self.take(self.choice([0, 1, 2, 3, 4, 8, 16, 17])))
            case 10:
                return msgpack.Timestamp(self.below(256) - 128, self.below(1000))
            case 11:
                return self.choice(["demo", ["demo"], "held", 1])
            case 12 | 13:
                return [self.value(depth + 1) for _ in range(self.below(6))]
            case _:
                keys = (self.text() if self.below(3) else self.take(self.below(4)) for _ in range(self.below(6)))
                return {key: self.value(depth + 1) for key in keys}

    def change(self, frame: bytes) -> bytes:
        """Return a frame with some of its bytes changed."""
        changed = bytearray(frame)
        for _ in range(1 + self.below(3)):
            at = self.below(len(changed) + 1)
            match self.below(7):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << self.below(8)
                case 1 if at < len(changed):
                    changed[at] = self.choice(HEADS)[0]
                case 2:
                    changed[at:at] = self.choice(ODD)
                case 3:
                    del changed[at : at + 1 + self.below(8)]
                case 4:
                    del changed[at:]
                case 5:
                    changed[at:at] = changed[max(0, at - 1 - self.below(32)) : at]
                case _:
                    changed[at:at] = self.take(1 + self.below(4))
        return bytes(changed)


def pack(value: Any) -> bytes:
    return msgpack.packb(value)


def seeds(count: int = 64) -> list[bytes]:
    """Return programs to begin with: short and long, always the same."""
    source = random.Random(1)
    return [source.randbytes(2 ** (3 + number % 8)) for number in range(count)] + [b"\0", *(head * 8 for head in HEADS)]


def mutate(source: random.Random, pool: Sequence[bytes], longest: int) -> bytes:
    """Return a new program, as a fuzzer without coverage makes them: of old ones, or of nothing."""
    kind = source.random()
    if kind < 0.5:
        return source.randbytes(source.randrange(1, longest))
    program = bytearray(source.choice(pool))
    if kind < 0.7:
        other = source.choice(pool)
        program[source.randrange(len(program) + 1) :] = other[source.randrange(len(other) + 1) :]
    for _ in range(source.randrange(1, 8)):
        at = source.randrange(len(program) + 1)
        match source.randrange(4):
            case 0:
                program[at:at] = source.choice(ODD)
            case 1:
                program[at:at] = source.randbytes(source.randrange(1, 64))
            case 2:
                del program[at : at + source.randrange(1, 16)]
            case _ if at < len(program):
                program[at] = source.randrange(256)
    return bytes(program[:longest])
