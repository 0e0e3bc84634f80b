"""Fuzzes the decoder of what clients send: plugd.rpc.codec.Decoder.

What must hold of any bytes:

- only FrameError and MessageError are raised, and nothing comes after a FrameError;
- in whatever pieces the bytes come, and however many items are looked at in one go, the outcome is the same;
- a frame that is taken is what msgpack takes, with the same limits, and is the same value; one that is refused
  msgpack refuses, or its limits, or plugd's own rules: no key twice.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from engine import arguments, engine_of, fuzz, instrumented
from material import HEADS, ODD, Reader, pack

FLAGS = arguments(__doc__.partition("\n")[0])
ENGINE = engine_of(FLAGS.engine)

with instrumented(ENGINE):
    from plugd.rpc.codec import REQUEST_TOO_LARGE, Decoder, FrameError, Limits, MessageError, to_message
    from plugd.rpc.message import Message, Request, Response

import msgpack

LIMITS = [Limits(), Limits(256, 4, 32), Limits(64, 32, 4096), Limits(4096, 2, 4096), Limits(65536, 32, 8)]
MESSAGES = 200  # of one program


def make_bytes(reader: Reader) -> bytes:
    """Return frames, whole, changed and none at all."""
    data = bytearray()
    while reader.left and len(data) < 8192:
        match reader.below(12):
            case 0:
                data += reader.take(reader.below(64))
            case 1:
                data += reader.choice(HEADS)
            case 2:
                data += reader.choice(ODD)
            case 3:
                data += reader.change(pack(reader.value()))
            case 4:
                data += pack(reader.value())
            case 5 | 6:
                data += pack([2, reader.value(4), [reader.value(3)]])
            case 7 if reader.below(2):
                data += pack([0, reader.value(4), reader.value(4), reader.value(3)])
            case 7:
                data += pack([1, reader.integer(), reader.value(4), reader.value(4)])
            case 8:
                data += reader.change(pack([0, reader.integer(), reader.text(), [{reader.text(): reader.value()}]]))
            case _:
                data += pack([0, reader.integer(), reader.text(), [{reader.text(): reader.value(3)}]])
    return bytes(data)


def outcomes(data: bytes, limits: Limits, pieces: list[int], step: int | None = None) -> list[Any]:
    """Return what a decoder makes of the data when it comes in these pieces, over and over, looked at in steps."""
    decoder, found, at, turn = Decoder(limits, step), list[Any](), 0, 0
    while at < len(data):
        size = pieces[turn % len(pieces)]
        decoder.feed(data[at : at + size])
        at += size
        turn += 1
        looks = 0
        while len(found) < MESSAGES:
            looks += 1
            assert looks <= at + MESSAGES, ("looks at the same bytes for ever", data[:at], limits, step)
            try:
                message = decoder.next_message()
            except MessageError as error:
                found.append(("refused", str(error), error.id))
            except FrameError as error:
                return [*found, ("broken", error.code, str(error))]
            else:
                if message is None and decoder.unfinished:
                    continue
                if message is None:
                    break
                check_types(message)
                found.append(("message", repr(message)))  # NaN equals nothing, but is always written so
    return found


def check_types(message: Message) -> None:
    """See that a message is what its type says: True is no id, though it is an int."""
    if not isinstance(message, Response):
        assert type(message.method) is str, message
        assert type(message.params) is list, message
    if isinstance(message, Request):
        assert type(message.id) is int, message


def expected(data: bytes, limits: Limits) -> list[Any]:
    """Return what msgpack makes of the data: each frame, and why a frame is none."""
    found = list[Any]()
    at = 0
    while at < len(data) and len(found) < MESSAGES:
        unpacker = msgpack.Unpacker(max_buffer_size=0)  # 0: 2 GiB
        unpacker.feed(data[at:])
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            return found if _fits_so_far(data[at:], limits) else [*found, ("broken",)]
        except (ValueError, msgpack.UnpackException):
            return [*found, ("broken",)]
        frame = data[at : at + unpacker.tell()]
        at += len(frame)
        try:
            value = msgpack.unpackb(frame, strict_map_key=True, object_pairs_hook=_Pairs)
        except (ValueError, msgpack.UnpackException):
            return [*found, ("broken",)]
        elements, depth, unique = _measure(value)
        if len(frame) > limits.frame_bytes or elements > limits.elements or depth > limits.depth or not unique:
            return [*found, ("broken",)]
        try:
            found.append(("message", repr(to_message(_plain(value)))))
        except MessageError as error:
            found.append(("refused", str(error), error.id))
    return found


class _Pairs(list[Any]):
    """A map as it came."""


def _measure(value: Any) -> tuple[int, int, bool]:
    """Return how many elements a value has, how deep it is, and whether no map has a key twice."""
    elements, depth, unique = 0, 0, True
    level = [value]
    while level := [each for each in level if isinstance(each, list)]:
        depth += 1
        inner = []
        for each in level:
            if isinstance(each, _Pairs):
                unique = unique and len({key for key, _ in each}) == len(each)
                inner += [part for pair in each for part in pair]
            else:
                inner += each
        elements += len(inner)
        level = inner
    return elements, depth, unique


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(item) for key, item in value}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _fits_so_far(data: bytes, limits: Limits) -> bool:
    """Whether an incomplete frame is within the limits yet: walked by hand, as slowly and plainly as can be."""
    at, stack, elements = 0, [1], 0
    while at < len(data):
        byte = data[at]
        at += 1
        stack[-1] -= 1
        width, size, entries = _head(byte)
        if byte == 0xC1:
            return False
        if len(data) - at < width:
            return True
        count = int.from_bytes(data[at : at + width], "big") if width else size
        at += width
        if entries:
            elements += count * entries
            if elements > limits.elements or len(stack) > limits.depth or at > limits.frame_bytes:
                return False
            stack.append(count * entries)
        else:
            at += count + (size if width else 0)
        if at > limits.frame_bytes:
            return False
        while stack and not stack[-1]:
            stack.pop()
    return True


def _head(byte: int) -> tuple[int, int, int]:
    """Return the width of the length behind a first byte, the size without one, and entries for each of a length."""
    if byte <= 0x7F or byte >= 0xE0 or 0xC0 <= byte <= 0xC3:
        return 0, 0, 0
    if byte <= 0x8F:
        return 0, byte & 15, 2
    if byte <= 0x9F:
        return 0, byte & 15, 1
    if byte <= 0xBF:
        return 0, byte & 31, 0
    if byte <= 0xC6:
        return 1 << (byte - 0xC4), 0, 0
    if byte <= 0xC9:
        return 1 << (byte - 0xC7), 1, 0
    if byte <= 0xD3:
        return 0, (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)[byte - 0xCA], 0
    if byte <= 0xD8:
        return 0, (2, 3, 5, 9, 17)[byte - 0xD4], 0
    if byte <= 0xDB:
        return 1 << (byte - 0xD9), 0, 0
    return 2 << (byte & 1), 0, 1 + (byte >= 0xDE)


def same(found: list[Any], wanted: list[Any]) -> bool:
    """Whether both have the same; of a broken frame, msgpack does not say why as plugd does."""
    return [each[:1] if each[0] == "broken" else each for each in found] == wanted


def decode(program: bytes) -> int:
    """Do one program; return how many frames there were."""
    reader = Reader(program)
    limits = reader.choice(LIMITS)
    pieces = [1 + reader.below(1 + reader.below(64)) for _ in range(1 + reader.below(6))]
    step = reader.choice([None, 1, 2, 5, 50])
    data = make_bytes(reader)
    whole = outcomes(data, limits, [len(data) + 1])
    split = outcomes(data, limits, pieces, step)
    assert split == whole, (data, limits, pieces, step, split, whole)
    wanted = expected(data, limits)
    assert same(whole, wanted), (data, limits, whole, wanted)
    for each in whole:
        assert each[0] != "broken" or each[1] in ("request.invalid", REQUEST_TOO_LARGE), each
    return len(whole)


if __name__ == "__main__":
    fuzz("decoder", decode, FLAGS, ENGINE)
