"""What holds of the codec for any bytes and any values, with examples that hypothesis finds."""

import contextlib
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest import mock

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plugd.rpc import codec
from plugd.rpc.codec import (
    Decoder,
    FrameError,
    Limits,
    MessageError,
    TrustedDecoder,
    encode_notification,
    encode_request,
    encode_response,
)
from plugd.rpc.message import Message, Notification, Request, Response

modest = settings(
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

UNLIMITED = Limits(frame_bytes=1 << 62, depth=1 << 30, elements=1 << 62)

integers = st.integers(-(2**63), 2**64 - 1)
scalars = (
    st.none()
    | st.booleans()
    | integers
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999))
)
keys = st.text(max_size=5) | st.binary(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=30,
)
params = st.dictionaries(st.text(max_size=10), values, max_size=4)
messages: st.SearchStrategy[Message] = (
    st.builds(lambda i, m, p: Request(i, m, [p] if p else []), integers, st.text(max_size=10), params)
    | st.builds(lambda m, p: Notification(m, [p] if p else []), st.text(max_size=10), params)
    | st.builds(Response, st.none() | integers, values, values)
)


def _encode(message: Message) -> bytes:
    if isinstance(message, Request):
        return encode_request(message.id, message.method, *message.params)
    if isinstance(message, Notification):
        return encode_notification(message.method, *message.params)
    return encode_response(*message)


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, over and over."""
    start = i = 0
    while start < len(data):
        yield data[start : start + sizes[i % len(sizes)]]
        start += sizes[i % len(sizes)]
        i += 1


sizes = st.lists(st.integers(1, 30) | st.integers(1, 4096), min_size=1, max_size=10)


def _shape(value: Any) -> Any:
    """The value with its types, for 1, 1.0 and True are equal."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return type(value), value


def _shapes(sequence: list[Message]) -> list[Any]:
    return [(type(message), [_shape(part) for part in message]) for message in sequence]


@modest
@given(st.lists(messages, max_size=5), sizes)
def test_messages_survive_any_splitting(sent: list[Message], sizes: list[int]) -> None:
    """What is encoded is decoded, in the pieces in which it comes."""
    decoder, received = Decoder(UNLIMITED), list[Message]()
    for piece in _pieces(b"".join(map(_encode, sent)), sizes):
        decoder.feed(piece)
        while message := decoder.next_message():
            received.append(message)
    assert _shapes(received) == _shapes(sent)
    assert decoder.pending_bytes == 0


@modest
@given(st.lists(messages, max_size=5), sizes)
def test_the_trusted_decoder_agrees(sent: list[Message], sizes: list[int]) -> None:
    """The fast decoder reads the same messages."""
    decoder = TrustedDecoder()
    pieces = _pieces(b"".join(map(_encode, sent)), sizes)
    assert _shapes([message for piece in pieces for message in decoder.feed(piece)]) == _shapes(sent)


def _outcomes(data: bytes, sizes: list[int], limits: Limits | None = None, step: int | None = None) -> list[Any]:
    """Everything that a decoder makes of the data: messages and errors, up to a FrameError."""
    decoder, outcomes = Decoder(limits, step), list[Any]()
    for piece in _pieces(data, sizes):
        decoder.feed(piece)
        looks = 0
        while True:
            looks += 1
            assert looks <= 2 * len(data) + 2, "unfinished for ever"
            try:
                message = decoder.next_message()
            except MessageError as error:
                outcomes.append((str(error), error.id))
            except FrameError as error:
                return [*outcomes, (str(error), error.code)]
            else:
                if message is None and decoder.unfinished:
                    continue
                if message is None:
                    break
                outcomes.append(repr(message))  # NaN equals nothing, but it is always written so
    return [*outcomes, decoder.pending_bytes]


formats = st.sampled_from([bytes([byte]) for byte in [*range(0x80, 0xA4), *range(0xC0, 0xE0), 0x00, 0x01, 0xFF]])
garbage = st.binary(max_size=300) | st.lists(formats | st.binary(max_size=4), max_size=60).map(b"".join)


@modest
@given(garbage, sizes)
@example(b"\x94\x00\x01\xa1m\x91\xd4\xff\x00", [1])
@example(b"\x94\x00\x01\xa1m\x91\x81\x90\x01", [1])
def test_garbage_raises_nothing_else(data: bytes, sizes: list[int]) -> None:
    """Of any bytes come messages, FrameError and MessageError, and the pieces make no difference."""
    assert _outcomes(data, sizes) == _outcomes(data, [max(1, len(data))])


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Messages in which bytes are replaced, dropped or put in."""
    data = bytearray(b"".join(map(_encode, draw(st.lists(messages, min_size=1, max_size=3)))))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 3))] = draw(formats | st.binary(max_size=3))
    return bytes(data)


@modest
@given(mutations(), sizes)
def test_mutated_messages_raise_nothing_else(data: bytes, sizes: list[int]) -> None:
    """Nearly sound messages, which get further than garbage, raise nothing else either."""
    assert _outcomes(data, sizes) == _outcomes(data, [max(1, len(data))])


@modest
@given(garbage | mutations())
def test_garbage_raises_nothing_else_from_the_trusted_decoder(data: bytes) -> None:
    """The daemon's client may be connected to anything."""
    decoder = TrustedDecoder()
    pieces = _pieces(data, [7])
    with contextlib.suppress(FrameError):
        for piece in pieces:
            arrived = decoder.feed(piece)
            while True:
                with contextlib.suppress(MessageError):
                    for message in arrived:
                        assert isinstance(message, Request | Response | Notification)
                    break
                arrived = decoder.feed(b"")


@modest
@given(garbage | mutations() | st.lists(messages, max_size=3).map(lambda sent: b"".join(map(_encode, sent))))
@example(b"\x81\x01\x01")
@example(b"\x91\x93\x02\xa1m\x90")
def test_a_message_is_taken_as_msgpack_takes_it(data: bytes) -> None:
    """The first frame is refused where msgpack refuses it, or where a map has a key twice; else both read the same."""
    lengths = _frame_lengths_of_msgpack(data)
    decoder = Decoder(UNLIMITED)
    decoder.feed(data)
    try:
        wanted: Any = None
        if lengths:
            wanted = msgpack.unpackb(data[: lengths[0]], strict_map_key=True, object_pairs_hook=_without_twins)
            wanted = repr(codec.to_message(wanted))
    except MessageError as error:
        wanted = (str(error), error.id)
    except (ValueError, msgpack.UnpackException):
        wanted = FrameError
    try:
        message = decoder.next_message()
        found: Any = None if message is None else repr(message)
    except MessageError as error:
        found = (str(error), error.id)
    except FrameError:
        found = FrameError
    if lengths:
        assert found == wanted
    else:
        assert found in (None, FrameError)


def _without_twins(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("twins")
    return dict(pairs)


@modest
@given(garbage | mutations(), sizes, st.integers(1, 40))
@example(b"\xd9", [1], 1)
@example(b"\x93\x02\xc4", [3], 3)
def test_steps_make_no_difference(data: bytes, sizes: list[int], step: int) -> None:
    """Looked at in steps, the same comes of the bytes; "unfinished" is said only while there is more to look at."""
    assert _outcomes(data, sizes, step=step) == _outcomes(data, [max(1, len(data))])


heads = st.sampled_from(
    [
        b"",
        b"\x94\x00\x01\xa1m\xdc\x0f\xfc",  # a request with 4,092 params
        b"\x94\x00\x01\xa1m\xdc\x07\xfe",  # with half of them, so that each may be an array of one
        b"\x93\x02\xa1m\xdd\x00\x10\x00\x00",  # a notification with a million
    ]
)


@modest
@given(heads, st.lists(formats | st.binary(min_size=1, max_size=3), min_size=1, max_size=4).map(b"".join))
@example(b"\x93\x02\xa1m\xdd\x00\x10\x00\x00", b"\x80")
@example(b"\x94\x00\x01\xa1m\xdc\x07\xfe", b"\x91\xd6\xff\x00\x00\x00\x01")
def test_memory_is_bounded_for_any_bytes(head: bytes, unit: bytes) -> None:
    """However 1 MiB is made up, what a decoder builds of one frame stays below 2 MiB."""
    data = (head + unit * (2**20 // len(unit) + 1))[: 2**20]
    decoder = Decoder()
    decoder.feed(data)
    tracemalloc.start()
    try:
        with contextlib.suppress(FrameError):
            for _ in range(20):
                with contextlib.suppress(MessageError):
                    decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


def _frame_lengths(data: bytes, sizes: list[int]) -> list[int]:
    """The length of each complete frame, as the decoder measures it, whatever is in the frame."""
    decoder, lengths = Decoder(UNLIMITED), list[Any]()
    with mock.patch.object(codec, "_unpack", len), mock.patch.object(codec, "to_message", lambda length: length):
        for piece in _pieces(data, sizes):
            decoder.feed(piece)
            with contextlib.suppress(FrameError):
                while length := decoder.next_message():
                    lengths.append(length)
                continue
            break
    return lengths


def _frame_lengths_of_msgpack(data: bytes) -> list[int]:
    unpacker = msgpack.Unpacker(max_buffer_size=0)  # 0: 2 GiB
    unpacker.feed(data)
    ends = [0]
    with contextlib.suppress(msgpack.OutOfData, ValueError):
        while True:
            unpacker.skip()
            ends.append(unpacker.tell())
    return [end - start for start, end in pairwise(ends)]


@modest
@given(st.lists(values, max_size=8), sizes)
def test_frames_end_where_msgpack_ends_them(objects: list[Any], sizes: list[int]) -> None:
    """The decoder's own measure of an object is the length that msgpack gave it."""
    packed = [msgpack.packb(value) for value in objects]
    assert _frame_lengths(b"".join(packed), sizes) == [len(frame) for frame in packed]


@modest
@given(garbage | mutations(), sizes)
@example(b"\x91" * 300 + b"\xc0" * 5, [1000])
def test_garbage_ends_where_msgpack_ends_it(data: bytes, sizes: list[int]) -> None:
    """Two readers of the same bytes never see different frames in them."""
    assert _frame_lengths(data, sizes) == _frame_lengths_of_msgpack(data)


@pytest.mark.parametrize("byte", range(256))
def test_every_first_byte_is_measured_as_msgpack_does(byte: int) -> None:
    """An item of every kind, with small counts behind it, has one length."""
    for filler in (b"\x00", b"\x01", b"\x00\x00\x00\x02", b"\x00\x03"):
        data = bytes([byte]) + filler * 40
        assert _frame_lengths(data, [1]) == _frame_lengths_of_msgpack(data)
