"""The file of the points of all series: its frames, as bytes and back.

A line that says what it is, then frames: length and CRC-32 of each, as 32-bit numbers, little-endian, and a msgpack
array. Numbers of many series are columns of eight bytes each, as memory has them; times that series have in common
are there once. A frame is bounded, and so is all that is made of it: what is read may have been written by anybody.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Union

import msgspec

from plugd.hosting.collection import LABEL_CHARACTERS, MetricDeclaration

MAGIC = b"plugd points "
VERSION = b"1\n"
FILE_BYTES = 64 * 1024 * 1024
FRAME_BYTES = 4 * 1024 * 1024
POINTS = 65_536  # of a series
SERIES = 100_000  # of all plugins
BLOCK_SERIES = 256

_HEAD = struct.Struct("<II")


class Header(msgspec.Struct, array_like=True, tag="header", frozen=True):
    """Where the file was written.

    Attributes:
        order: of the bytes of a number.
        boot: what CLOCK_MONOTONIC began with.
    """

    order: str
    boot: str


class Opening(msgspec.Struct, array_like=True, tag="plugin", frozen=True):
    """A plugin, whose series follow."""

    name: str


class Block(msgspec.Struct, array_like=True, tag="series", frozen=True):
    """Some series of the plugin, in columns.

    Attributes:
        metrics: further ones, which blocks know by their number.
        times: of points, further ones, likewise.
        metric: of each series, 32 bits.
        labels: the values of the labels of one series after the other.
        seen: the last collection with it.
        monotonic: seconds of CLOCK_MONOTONIC, of its last point.
        rates: NaN where there is none.
        time: of its points, 32 bits.
        values: one series after the other.
    """

    metrics: Annotated[list[MetricDeclaration], msgspec.Meta(max_length=BLOCK_SERIES)]
    times: Annotated[list[bytes], msgspec.Meta(max_length=BLOCK_SERIES)]
    metric: bytes
    labels: list[Annotated[str, msgspec.Meta(max_length=LABEL_CHARACTERS)]]
    seen: bytes
    monotonic: bytes
    rates: bytes
    time: bytes
    values: bytes


class Closing(msgspec.Struct, array_like=True, tag="latest", frozen=True):
    """The end of a plugin: how many collections there were, and of the last the numbers of its series as they came."""

    collections: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    time: float
    series: bytes
    values: bytes
    rates: bytes


class End(msgspec.Struct, array_like=True, tag="end", frozen=True):
    """The end of the file, without which something is missing."""

    plugins: int


Frame = Union[Header, Opening, Block, Closing, End]  # noqa: UP007 - msgspec takes it as it is

_decoder = msgspec.msgpack.Decoder(Frame)
encode = msgspec.msgpack.Encoder().encode


def frame(payload: bytes) -> bytes:
    """Return a frame's head; for a thread, as it reads all of the payload."""
    return _HEAD.pack(len(payload), zlib.crc32(payload))


def read_frames(file: BinaryIO) -> Iterator[Frame]:
    """Yield the frames of a file, the last of which is its end.

    Raises:
        ValueError: it is no such file, or of another version, or damaged.
    """
    first = file.read(len(MAGIC) + len(VERSION))
    if not first.startswith(MAGIC):
        raise ValueError("it is something else")
    if first != MAGIC + VERSION:
        raise ValueError("it is of another version of plugd")
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError("it ends too early")
        length, crc = _HEAD.unpack(head)
        if length > FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes")
        payload = file.read(length)
        if len(payload) < length:
            raise ValueError("it ends too early")
        if zlib.crc32(payload) != crc:
            raise ValueError("a checksum is wrong")
        each: Frame = _decoder.decode(payload)
        if isinstance(each, End) and file.read(1):
            raise ValueError("something follows its end")
        yield each
        if isinstance(each, End):
            return
