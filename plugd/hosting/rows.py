"""Rows of a file as JSON, one to a line, below a line that says how many: people read it, and nothing of it is large.

What is read may have been written by anybody: lines are counted before one of them is taken for anything.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")

FORMAT = 1
TEXT_CHARACTERS = 600  # of one text
LATEST = 253_402_300_799.0  # Unix seconds: the end of the year 9999

Text = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
UnixTime = Annotated[float, msgspec.Meta(ge=0, le=LATEST)]


class _Head(msgspec.Struct):
    version: int
    rows: int


def encode(rows: Sequence[Any]) -> bytes:
    """Return the file that holds these rows."""
    lines = [msgspec.json.encode(row) for row in (_Head(FORMAT, len(rows)), *rows)]
    return b"\n".join([*lines, b""])


def decode(data: bytes, kind: type[T], maximum: int) -> list[T]:
    """Return the rows of a file.

    Raises:
        ValueError, msgspec.MsgspecError, RecursionError: they are something else, or more than ``maximum``.
    """
    count = data.count(b"\n")
    if not count or not data.endswith(b"\n"):
        raise ValueError("it ends too early")
    if count - 1 > maximum:
        raise ValueError(f"{count - 1} rows")
    first, *lines, _ = data.split(b"\n")
    head = msgspec.json.decode(first, type=_Head)
    if head.version != FORMAT:
        raise ValueError(f"version {head.version}, and this plugd knows {FORMAT}")
    if head.rows != len(lines):
        raise ValueError(f"{len(lines)} rows of {head.rows}")
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in lines]


def bounded(text: str) -> str:
    """Return text that a file can hold, and that does not fill it."""
    return text[:TEXT_CHARACTERS].encode(errors="replace").decode()


def time_of(seconds: float) -> float:
    """Return a time that a file can hold: a clock may say anything."""
    return min(max(seconds, 0.0), LATEST) if math.isfinite(seconds) else 0.0
