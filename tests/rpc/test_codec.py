"""Messages: what is encoded, what is understood, and what is answered to the rest."""

from typing import Any

import msgpack
import pytest

from plugd.rpc.codec import (
    Decoder,
    FrameError,
    MessageError,
    encode_notification,
    encode_request,
    encode_response,
    to_message,
)
from plugd.rpc.message import Message, Notification, Request, Response


def _decode(data: bytes) -> Message | None:
    decoder = Decoder()
    decoder.feed(data)
    return decoder.next_message()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encode_request(1, "list"), b"\x94\x00\x01\xa4list\x90", id="request"),
        pytest.param(encode_request(1, "m", {}), b"\x94\x00\x01\xa1m\x90", id="request with no params"),
        pytest.param(encode_request(1, "m", {"a": 2}), b"\x94\x00\x01\xa1m\x91\x81\xa1a\x02", id="request with params"),
        pytest.param(encode_response(1, None, "pong"), b"\x94\x01\x01\xc0\xa4pong", id="response"),
        pytest.param(encode_response(1, {"code": "busy"}, None), b"\x94\x01\x01\x81\xa4code\xa4busy\xc0", id="error"),
        pytest.param(encode_response(None, "e", None), b"\x94\x01\xc0\xa1e\xc0", id="error to nobody"),
        pytest.param(encode_notification("event"), b"\x93\x02\xa5event\x90", id="notification"),
        pytest.param(encode_notification("m", {"a": 2}), b"\x93\x02\xa1m\x91\x81\xa1a\x02", id="notification, params"),
    ],
)
def test_a_message_has_its_bytes(data: bytes, expected: bytes) -> None:
    """The bytes are those that any other client sends and expects."""
    assert data == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [(object(), TypeError), ({1, 2}, TypeError), ("\ud800", ValueError), (2**64, OverflowError)],
    ids=["object", "set", "surrogate", "large int"],
)
def test_what_msgpack_cannot_carry_is_refused(value: Any, error: type[Exception]) -> None:
    """The caller learns it, and the next response holds nothing of the one that failed."""
    with pytest.raises(error):
        encode_response(1, None, ["x" * 100, value])
    assert encode_response(2, None, True) == b"\x94\x01\x02\xc0\xc3"


def test_encoding_can_be_entered_again() -> None:
    """A value whose own methods encode something is not mixed up with it."""

    class Nested(dict[str, Any]):
        def items(self) -> Any:
            return [("inner", encode_notification("m"))]

    assert _decode(encode_response(1, None, Nested(a=1))) == Response(1, None, {"inner": b"\x93\x02\xa1m\x90"})


@pytest.mark.parametrize("identifier", [0, 1, -1, 2**32, 2**64 - 1, -(2**63)])
def test_any_integer_is_an_id(identifier: int) -> None:
    """A request's id comes back as it was given."""
    assert _decode(encode_request(identifier, "m")) == Request(identifier, "m", [])


def test_each_kind_of_message_is_understood() -> None:
    """The first element decides."""
    assert to_message([0, 7, "m", [{"a": 1}]]) == Request(7, "m", [{"a": 1}])
    assert to_message([1, 7, None, "r"]) == Response(7, None, "r")
    assert to_message([1, None, {"code": "busy"}, None]) == Response(None, {"code": "busy"}, None)
    assert to_message([2, "m", []]) == Notification("m", [])


NO_MESSAGES: list[tuple[Any, int | None]] = [
    (None, None),
    (7, None),
    ("list", None),
    ({"method": "list"}, None),
    ([], None),
    ([3, 7, "m", []], None),
    ([-1, 7, "m", []], None),
    ([False, 7, "m", []], None),
    ([0.0, 7, "m", []], None),
    (["0", 7, "m", []], None),
    ([0], None),
    ([0, 7], 7),
    ([0, 7, "m"], 7),
    ([0, 7, "m", [], None], 7),
    ([0, 7, b"\xff", []], 7),
    ([0, 7, None, []], 7),
    ([0, 7, "m", None], 7),
    ([0, 7, "m", {"a": 1}], 7),
    ([0, 0, "m", None], 0),
    ([0, True, "m", []], None),
    ([0, "7", "m", []], None),
    ([0, None, "m", []], None),
    ([0, 7.0, "m", []], None),
    ([1, 7, None], None),
    ([1, 7, None, None, None], None),
    ([1, "7", None, None], None),
    ([1, [], None, None], None),
    ([1, True, None, None], None),
    ([2], None),
    ([2, "m"], None),
    ([2, "m", [], None], None),
    ([2, 7, []], None),
    ([2, "m", {}], None),
]


@pytest.mark.parametrize(("frame", "identity"), NO_MESSAGES, ids=repr)
def test_the_stream_goes_on_behind_what_is_no_message(frame: Any, identity: int | None) -> None:
    """The error has the id of the request that was meant, and the message behind it arrives."""
    decoder = Decoder()
    decoder.feed(encode_request(1, "before") + msgpack.packb(frame) + encode_request(2, "behind"))
    assert decoder.next_message() == Request(1, "before", [])
    with pytest.raises(MessageError) as caught:
        decoder.next_message()
    assert (caught.value.id, caught.value.code) == (identity, "request.invalid")
    assert decoder.next_message() == Request(2, "behind", [])
    assert decoder.next_message() is None


def test_pipelined_messages_arrive_in_order() -> None:
    """A piece may hold many frames and the beginning of another."""
    decoder = Decoder()
    last = encode_request(1000, "last", {"a": [1, 2, 3]})
    decoder.feed(b"".join(encode_request(i, "m", {"i": i}) for i in range(1000)) + last[:-2])
    assert [decoder.next_message() for _ in range(1000)] == [Request(i, "m", [{"i": i}]) for i in range(1000)]
    assert decoder.next_message() is None
    assert decoder.pending_bytes == len(last) - 2
    decoder.feed(last[-2:])
    assert decoder.next_message() == Request(1000, "last", [{"a": [1, 2, 3]}])


def test_pending_bytes_tell_an_incomplete_frame() -> None:
    """Nothing is pending between frames; within one, what has arrived of it is."""
    decoder = Decoder()
    assert (decoder.next_message(), decoder.pending_bytes) == (None, 0)
    decoder.feed(b"\x94\x00")
    assert (decoder.next_message(), decoder.pending_bytes) == (None, 2)
    decoder.feed(b"\x01\xa1m\x90")
    assert (decoder.next_message(), decoder.pending_bytes) == (Request(1, "m", []), 0)


def test_two_decoders_share_nothing() -> None:
    """What one peer began, another does not continue."""
    one, other = Decoder(), Decoder()
    one.feed(b"\x94\x00")
    assert one.next_message() is None
    other.feed(encode_request(1, "m"))
    assert other.next_message() == Request(1, "m", [])
    other.feed(b"\xc1")
    with pytest.raises(FrameError):
        other.next_message()
    one.feed(b"\x02\xa1m\x90")
    assert one.next_message() == Request(2, "m", [])
