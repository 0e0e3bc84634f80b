"""What a peer may not send: every limit holds before anything is built of the frame."""

import struct
import tracemalloc

import pytest

from plugd.rpc.codec import Decoder, FrameError, Limits, MessageError
from plugd.rpc.message import Notification, Request

REQUEST = b"\x94\x00\x05\xa1m"  # [0, 5, "m", what is to be the params
LIMITS = Limits()


def _error(data: bytes, limits: Limits = LIMITS) -> FrameError:
    decoder = Decoder(limits)
    decoder.feed(data)
    with pytest.raises(FrameError) as caught:
        decoder.next_message()
    return caught.value


def _error_while_decoding(data: bytes) -> FrameError:
    """The error that the last byte brings, where each byte before it brought none."""
    decoder = Decoder()
    for i in range(len(data) - 1):
        decoder.feed(data[i : i + 1])
        assert decoder.next_message() is None
    decoder.feed(data[-1:])
    with pytest.raises(FrameError) as caught:
        decoder.next_message()
    return caught.value


def _accepted(data: bytes, limits: Limits = LIMITS) -> Request:
    decoder = Decoder(limits)
    decoder.feed(data)
    message = decoder.next_message()
    assert isinstance(message, Request)
    assert decoder.pending_bytes == 0
    return message


def _text(size: int) -> bytes:
    return struct.pack(">BI", 0xDB, size) + b"x" * size


def test_the_promised_limits_are_the_default() -> None:
    """64 KiB, 32 levels and 4,096 elements, as the wire's description says."""
    assert Decoder()._limits == Limits(frame_bytes=65536, depth=32, elements=4096)


@pytest.mark.parametrize("byte", [0xC6, 0xC9, 0xDB, 0xDD, 0xDF], ids=["bin", "ext", "str", "array", "map"])
@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**31 - 1, 65537])
def test_a_declared_length_is_refused_at_once(byte: int, length: int) -> None:
    """A length beyond the limit ends the stream with its last byte, before any of what it announces."""
    header = struct.pack(">BI", byte, length)
    assert _error_while_decoding(header).code == "request.too_large"
    assert _error_while_decoding(REQUEST + b"\x91" + header).code == "request.too_large"


@pytest.mark.parametrize("byte", [0xC5, 0xC8, 0xDA], ids=["bin16", "ext16", "str16"])
def test_a_short_length_counts_what_came_before(byte: int) -> None:
    """65,535 bytes behind a header are over the limit of the whole frame."""
    assert _error_while_decoding(REQUEST + b"\x91" + struct.pack(">BH", byte, 65535)).code == "request.too_large"


def test_a_frame_of_64_kib_is_accepted() -> None:
    """A frame of exactly the limit is a message."""
    head = REQUEST + b"\x91"
    message = _accepted(head + _text(65536 - len(head) - 5))
    assert len(message.params[0]) == 65536 - len(head) - 5


def test_a_frame_of_64_kib_and_a_byte_is_refused() -> None:
    """One byte more is too large, though all of it has arrived."""
    head = REQUEST + b"\x91"
    assert _error(head + _text(65536 - len(head) - 4)).code == "request.too_large"


def test_small_items_add_up_to_the_limit() -> None:
    """A frame of many small items is refused where the limit is passed, not at its end."""
    data = REQUEST + struct.pack(">BH", 0xDC, 1000) + (b"\xd9\xff" + b"x" * 255) * 256
    length = 5 + 3 + 254 * 257  # the most texts that fit
    assert _error_while_decoding(data[: length + 2]).code == "request.too_large"


def test_32_levels_are_accepted() -> None:
    """The frame and the params are the first two levels."""
    value = _accepted(REQUEST + b"\x91" * 30 + b"\x91\x07").params
    for _ in range(30):
        (value,) = value
    assert value == [7]


@pytest.mark.parametrize("innermost", [b"\x91", b"\x81", b"\x90", b"\x80", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x00"])
def test_33_levels_are_refused(innermost: bytes) -> None:
    """A level too many is refused with the header that opens it, be it empty, an array or a map."""
    assert "deeper than 32" in str(_error_while_decoding(REQUEST + b"\x91" * 31 + innermost))


def test_levels_of_maps_count() -> None:
    """A map is a level like an array."""
    key = b"\x81\xa1k"
    _accepted(REQUEST + b"\x91" + key * 30 + b"\x07")
    assert _error_while_decoding(REQUEST + b"\x91" + key * 30 + b"\x81").code == "request.too_large"


def test_levels_are_left_again() -> None:
    """Depth is nesting: a thousand deep branches side by side are as deep as one."""
    branch = b"\x91" * 3 + b"\x07"
    _accepted(REQUEST + struct.pack(">BH", 0xDC, 1000) + branch * 1000, Limits(depth=5))
    _error(REQUEST + struct.pack(">BH", 0xDC, 1000) + branch * 1000, Limits(depth=4))


def test_4096_elements_are_accepted() -> None:
    """The four of the frame itself count."""
    message = _accepted(REQUEST + struct.pack(">BH", 0xDC, 4092) + b"\x07" * 4092)
    assert message.params == [7] * 4092


def test_4097_elements_are_refused_at_the_header() -> None:
    """An element too many is refused with the count that announces it."""
    assert "4096 elements" in str(_error_while_decoding(REQUEST + struct.pack(">BH", 0xDC, 4093)))


def test_elements_of_all_containers_count_together() -> None:
    """Many small arrays are as many elements as a large one; an empty one holds none."""
    _accepted(REQUEST + struct.pack(">BH", 0xDC, 2046) + b"\x91\x07" * 2046)
    assert _error(REQUEST + struct.pack(">BH", 0xDC, 2047) + b"\x91\x07" * 2047).code == "request.too_large"
    _accepted(REQUEST + struct.pack(">BH", 0xDC, 4092) + b"\x80" * 4092)


def test_a_map_entry_is_two_elements() -> None:
    """A key counts as its value does."""
    entries = b"".join(b"\xa1" + bytes([letter]) + b"\x07" for letter in b"abcdefghij")
    _accepted(REQUEST + b"\x91\x8a" + entries, Limits(elements=25))
    assert _error(REQUEST + b"\x91\x8a", Limits(elements=24)).code == "request.too_large"


def test_the_limits_count_per_frame() -> None:
    """A frame at the limit does not weigh on the next."""
    frame = REQUEST + struct.pack(">BH", 0xDC, 4092) + b"\x07" * 4092
    decoder = Decoder()
    decoder.feed(frame * 20)
    assert [type(decoder.next_message()) for _ in range(20)] == [Request] * 20
    assert decoder.next_message() is None


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"\x82\xa1a\x01\xa1a\x02", id="str"),
        pytest.param(b"\x82\xc4\x01a\x01\xc4\x01a\x02", id="bytes"),
        pytest.param(b"\x82\xa1a\x01\xd9\x01a\x02", id="str in two encodings"),
        pytest.param(b"\x83\xa1a\x01\xa1b\x01\xa1a\x02", id="apart"),
        pytest.param(b"\x81\xa1k\x82\xa0\x01\xa0\x02", id="nested"),
        pytest.param(b"\xde\x00\x02\xa1a\x01\xa1a\x01", id="map16 with equal values"),
    ],
)
def test_a_key_given_twice_is_refused(packed: bytes) -> None:
    """Two readers of a doubled key could understand two different things."""
    error = _error(REQUEST + b"\x91" + packed)
    assert (error.code, "same key twice" in str(error)) == ("request.invalid", True)


@pytest.mark.parametrize(
    "key",
    [
        b"\x01",
        b"\xe0",
        b"\xcf" + bytes(8),
        b"\xc0",
        b"\xc3",
        b"\xcb" + bytes(8),
        b"\x90",
        b"\x80",
        b"\xd4\x01x",
        b"\xd6\xff" + bytes(4),
    ],
    ids=["fixint", "negative", "uint64", "nil", "true", "float", "array", "map", "ext", "timestamp"],
)
def test_a_key_is_text_or_bytes(key: bytes) -> None:
    """Other keys are refused: their hashes can be chosen so that they collide."""
    assert _error(REQUEST + b"\x91\x81" + key + b"\x07").code == "request.invalid"


@pytest.mark.parametrize("before", [b"", REQUEST, REQUEST + b"\x92", REQUEST + b"\x91\x81\xa1k"])
def test_the_byte_that_is_never_used_is_refused_at_once(before: bytes) -> None:
    """0xc1 starts nothing, wherever it stands."""
    error = _error_while_decoding(before + b"\xc1")
    assert (error.code, "0xc1" in str(error)) == ("request.invalid", True)


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\x80a", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(text: bytes) -> None:
    """Neither in values, nor in keys, nor in the method's name."""
    packed = bytes([0xA0 + len(text)]) + text
    for frame in (
        REQUEST + b"\x91" + packed,
        REQUEST + b"\x91\x81" + packed + b"\x07",
        REQUEST[:3] + packed + b"\x90",
    ):
        assert _error(frame).code == "request.invalid"


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"\xd4\xff\x00", id="timestamp of one byte"),
        pytest.param(b"\xc7\x00\xff", id="timestamp of no bytes"),
        pytest.param(b"\xd7\xff" + b"\xff" * 8, id="timestamp with too many nanoseconds"),
        pytest.param(b"\xc7\x0c\xff" + b"\xff" * 12, id="timestamp96 with too many nanoseconds"),
        pytest.param(b"\xd4\xfe\x00", id="type -2, which means nothing yet"),
        pytest.param(b"\xc7\x00\x80", id="type -128, which means nothing yet"),
    ],
)
def test_an_extension_without_a_meaning_is_refused(packed: bytes) -> None:
    """Negative types are the specification's own; only timestamps exist, in three lengths."""
    error = _error(REQUEST + b"\x91" + packed)
    assert (error.code, str(error).startswith("not msgpack: ")) == ("request.invalid", True)


def test_a_refused_frame_costs_only_its_bytes() -> None:
    """A piece of empty maps, worth megabytes of objects, allocates next to nothing."""
    data = REQUEST + struct.pack(">BI", 0xDD, 1 << 20) + b"\x80" * (1 << 20)
    tracemalloc.start()
    try:
        decoder = Decoder()
        decoder.feed(data)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        with pytest.raises(FrameError):
            decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 16 * 1024


@pytest.mark.parametrize(
    "item", [b"\x80", b"\x90", b"\xa1\x61", b"\xcb" + bytes(8), b"\xd6\xff" + bytes(4), b"\xd4\x01x"]
)
def test_the_costliest_frame_within_the_limits_is_bounded(item: bytes) -> None:
    """All the elements that are allowed, of any type, become less than 2 MiB."""
    frame = REQUEST + struct.pack(">BH", 0xDC, 4092) + item * 4092
    decoder = Decoder()
    decoder.feed(frame)
    tracemalloc.start()
    try:
        message = decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(message, Request)
    assert peak < 2 * 1024 * 1024


def test_messages_before_a_broken_frame_are_delivered() -> None:
    """The stream is good up to the byte that breaks it."""
    decoder = Decoder()
    decoder.feed(b"\x93\x02\xa1m\x90" * 2 + b"\xc1")
    assert [decoder.next_message(), decoder.next_message()] == [Notification("m", [])] * 2
    with pytest.raises(FrameError):
        decoder.next_message()


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        pytest.param(REQUEST + b"\x91" + _text(65536), "request_bytes", id="bytes"),
        pytest.param(REQUEST + b"\x91" * 33, "depth", id="depth"),
        pytest.param(REQUEST + struct.pack(">BH", 0xDC, 4093), "elements", id="elements"),
        pytest.param(b"\xc1", None, id="no msgpack"),
        pytest.param(REQUEST + b"\x91\x82\xa1a\x01\xa1a\x02", None, id="the same key twice"),
        pytest.param(REQUEST + b"\x91\xa1\xff", None, id="no UTF-8"),
    ],
)
def test_the_limit_that_was_broken_is_named(data: bytes, limit: str | None) -> None:
    """As the configuration has it; what breaks none has None."""
    assert _error(data).limit == limit


def test_what_is_no_message_breaks_no_limit() -> None:
    """A MessageError has the attribute as well, so that both can be counted in one way."""
    decoder = Decoder()
    decoder.feed(b"\x07")
    with pytest.raises(MessageError) as caught:
        decoder.next_message()
    assert caught.value.limit is None


def test_a_large_frame_is_looked_at_in_steps() -> None:
    """A decoder with steps says that it is unfinished, and goes on where it was; it is the same message at last."""
    frame = REQUEST + struct.pack(">BH", 0xDC, 4000) + b"\x07" * 4000
    decoder = Decoder(step=1000)
    decoder.feed(frame + frame)
    for _ in range(2):
        calls = 0
        while (message := decoder.next_message()) is None:
            assert decoder.unfinished
            calls += 1
        assert (calls, message) == (4, Request(5, "m", [7] * 4000))
    assert (decoder.next_message(), decoder.unfinished) == (None, False)


def test_waiting_for_bytes_is_not_unfinished() -> None:
    """Whether they end between two items, amid one, or with the last of a step."""
    frame = REQUEST + struct.pack(">BH", 0xDC, 1000) + b"\xd9\x02xx" * 1000
    for end in (1, 7, 8, 8 + 4 * 5, *range(8 + 4 * 93, 8 + 4 * 97), len(frame) - 1):
        decoder = Decoder(step=100)
        decoder.feed(frame[:end])
        for _ in range(11):
            assert decoder.next_message() is None
        assert not decoder.unfinished
        decoder.feed(frame[end:])
        while (message := decoder.next_message()) is None:
            assert decoder.unfinished
        assert message == Request(5, "m", ["xx"] * 1000)


def test_limits_hold_in_steps() -> None:
    """An element too many is refused in whichever step it comes."""
    decoder = Decoder(step=100)
    decoder.feed(REQUEST + struct.pack(">BH", 0xDC, 2047) + b"\x91\x07" * 2047)
    for _ in range(40):
        assert decoder.next_message() is None
        assert decoder.unfinished
    with pytest.raises(FrameError) as caught:
        decoder.next_message()
    assert caught.value.limit == "elements"


def test_a_frame_may_be_followed_by_a_part_of_the_next() -> None:
    """What has been taken is neither lost nor given twice, whether the buffer ends with the frame or not."""
    frame = b"\x93\x02\xa1m\x91\xc4\x02xy"
    decoder = Decoder()
    for pieces in ([frame], [frame + frame[:4], frame[4:]], [frame + frame], [frame[:-1], frame[-1:] + frame]):
        for piece in pieces:
            decoder.feed(piece)
        count = b"".join(pieces).count(b"xy")
        assert [decoder.next_message() for _ in range(count + 1)] == [Notification("m", [b"xy"])] * count + [None]
        assert decoder.pending_bytes == 0
