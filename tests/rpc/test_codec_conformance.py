"""Every type of msgpack in every encoding, at the boundaries, as a parameter of a request.

https://github.com/msgpack/msgpack/blob/master/spec.md
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from plugd.rpc.codec import Decoder, Limits
from plugd.rpc.message import Message, Request

WIDE = Limits(frame_bytes=1 << 20, depth=32, elements=1 << 20)


def _number(byte: int, layout: str, value: float) -> tuple[bytes, Any]:
    return bytes([byte]) + struct.pack(">" + layout, value), value


def _numbers() -> Iterator[tuple[str, bytes, Any]]:
    yield "nil", b"\xc0", None
    yield "false", b"\xc2", False
    yield "true", b"\xc3", True
    for value in range(0x80):
        yield f"fixint {value}", bytes([value]), value
    for value in range(-32, 0):
        yield f"fixint {value}", bytes([value & 0xFF]), value
    for byte, bits, layout in ((0xCC, 8, "B"), (0xCD, 16, "H"), (0xCE, 32, "I"), (0xCF, 64, "Q")):
        for value in (0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1):
            yield f"uint{bits} {value}", *_number(byte, layout, value)
    for byte, bits, layout in ((0xD0, 8, "b"), (0xD1, 16, "h"), (0xD2, 32, "i"), (0xD3, 64, "q")):
        for value in (-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1):
            yield f"int{bits} {value}", *_number(byte, layout, value)
    for byte, layout in ((0xCA, "f"), (0xCB, "d")):
        for real in (0.0, 1.0, -1.5, float("inf"), float("-inf"), 2.0**-126):
            yield f"float{struct.calcsize(layout) * 8} {real}", *_number(byte, layout, real)


def _texts() -> Iterator[tuple[str, bytes, Any]]:
    for size in range(32):
        yield f"fixstr {size}", bytes([0xA0 + size]) + b"x" * size, "x" * size
    for first, kind, letter in ((0xD9, "str", "x"), (0xC4, "bin", b"x")):
        for width, layout in enumerate("BHI"):
            for size in (0, 1, 31, 32, 255, 256, 65535, 65536):
                if size < 256 ** struct.calcsize(layout):
                    name = f"{kind}{8 * struct.calcsize(layout)} {size}"
                    yield name, struct.pack(">B" + layout, first + width, size) + b"x" * size, letter * size
    yield "str8 of several bytes to the letter", b"\xd9\x09" + "aé€\U0001f600"[1:].encode(), "é€\U0001f600"
    yield "bin8 that is no text", b"\xc4\x02\xff\xc1", b"\xff\xc1"


def _containers() -> Iterator[tuple[str, bytes, Any]]:
    def pairs(count: int) -> bytes:
        return b"".join(struct.pack(">BH", 0xA2, i) + b"\x07" for i in range(count))

    def mapping(count: int) -> dict[str, int]:
        return {struct.pack(">H", i).decode(): 7 for i in range(count)}

    for count in range(16):
        yield f"fixarray {count}", bytes([0x90 + count]) + b"\x07" * count, [7] * count
        yield f"fixmap {count}", bytes([0x80 + count]) + pairs(count), mapping(count)
    for byte, bits, layout in ((0xDC, 16, "H"), (0xDD, 32, "I")):
        for count in (0, 1, 15, 16, 255, 256, 65535, 65536):
            if count < 2**bits:
                yield (
                    f"array{bits} {count}",
                    struct.pack(">B" + layout, byte, count) + b"\x07" * count,
                    [7] * count,
                )
        for count in (0, 1, 15, 16, 127):
            yield (
                f"map{bits} {count}",
                struct.pack(">B" + layout, byte + 2, count) + pairs(count),
                mapping(count),
            )
    yield "map with a bytes key", b"\x81\xc4\x01k\x07", {b"k": 7}
    yield "map with the same text as str and as bytes", b"\x82\xa1k\x01\xc4\x01k\x02", {"k": 1, b"k": 2}
    yield "nested", b"\x92\x91\x81\xa1k\x92\x01\x90\x02", [[{"k": [1, []]}], 2]


def _extensions() -> Iterator[tuple[str, bytes, Any]]:
    for i, size in enumerate((1, 2, 4, 8, 16)):
        for code in (0, 127):
            name = f"fixext{size} of type {code}"
            yield name, bytes([0xD4 + i, code]) + b"x" * size, msgpack.ExtType(code, b"x" * size)
    for i, layout in enumerate("BHI"):
        for size in (0, 1, 3, 17, 255, 256, 65535, 65536):
            if size < 256 ** struct.calcsize(layout):
                header = struct.pack(">B" + layout + "b", 0xC7 + i, size, 5)
                name = f"ext{8 * struct.calcsize(layout)} {size}"
                yield name, header + b"x" * size, msgpack.ExtType(5, b"x" * size)
    for seconds in (0, 1, 2**32 - 1):
        yield f"timestamp32 {seconds}", b"\xd6\xff" + struct.pack(">I", seconds), msgpack.Timestamp(seconds)
    for seconds, nanoseconds in ((0, 0), (2**34 - 1, 999_999_999)):
        yield (
            f"timestamp64 {seconds}.{nanoseconds}",
            b"\xd7\xff" + struct.pack(">Q", nanoseconds << 34 | seconds),
            msgpack.Timestamp(seconds, nanoseconds),
        )
    for seconds, nanoseconds in ((-(2**63), 0), (-1, 999_999_999), (2**63 - 1, 1)):
        yield (
            f"timestamp96 {seconds}.{nanoseconds}",
            b"\xc7\x0c\xff" + struct.pack(">Iq", nanoseconds, seconds),
            msgpack.Timestamp(seconds, nanoseconds),
        )


ITEMS = [*_numbers(), *_texts(), *_containers(), *_extensions()]
SHORT = [item for item in ITEMS if len(item[1]) <= 1024]


def _cases(items: list[tuple[str, bytes, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("packed", "value"), [pytest.param(*rest, id=name) for name, *rest in items])


def _around(packed: bytes) -> bytes:
    """A request with the item between two others, so that a wrong length shows."""
    return b"\x94\x00\x05\xa4ping\x93\x2a" + packed + b"\x2b"


def _same(message: Message | None, value: Any) -> bool:
    if not isinstance(message, Request) or message[:2] != (5, "ping"):
        return False
    before, item, behind = message.params
    return (before, type(item), item, behind) == (42, type(value), value, 43)


@_cases(ITEMS)
def test_an_item_arrives_in_one_piece(packed: bytes, value: Any) -> None:
    """Whatever its encoding, a value is what the specification says, and ends where it says."""
    decoder = Decoder(WIDE)
    decoder.feed(_around(packed))
    assert _same(decoder.next_message(), value)
    assert decoder.pending_bytes == 0


@_cases(SHORT)
def test_an_item_arrives_byte_by_byte(packed: bytes, value: Any) -> None:
    """A frame that comes in the smallest pieces is complete with its last byte, and is the same."""
    decoder = Decoder(WIDE)
    frame = _around(packed)
    for i in range(len(frame) - 1):
        decoder.feed(frame[i : i + 1])
        assert decoder.next_message() is None
    decoder.feed(frame[-1:])
    assert _same(decoder.next_message(), value)


@_cases([item for item in ITEMS if len(item[1]) > 1024])
def test_a_long_item_arrives_in_pieces(packed: bytes, value: Any) -> None:
    """A long item, fed in pieces of a prime length, is the same item."""
    decoder = Decoder(WIDE)
    frame = _around(packed)
    message = None
    for start in range(0, len(frame), 997):
        assert message is None
        decoder.feed(frame[start : start + 997])
        message = decoder.next_message()
    assert _same(message, value)


def test_every_first_byte_is_covered() -> None:
    """Every byte with which an item can start occurs above; 0xc1 starts none."""
    assert {packed[0] for _, packed, _ in ITEMS} == set(range(256)) - {0xC1}


def test_not_a_number_arrives() -> None:
    """NaN, which equals nothing, arrives as NaN in both widths."""
    decoder = Decoder()
    decoder.feed(b"\x93\x02\xa1m\x92\xca\x7f\xc0\x00\x00\xcb\x7f\xf8" + bytes(6))
    message = decoder.next_message()
    assert message is not None
    assert [value != value for value in message[1]] == [True, True]
