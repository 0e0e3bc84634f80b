"""The decoder for what the daemon itself sends: large frames, and the same two errors."""

import msgpack
import pytest

from plugd.rpc import codec
from plugd.rpc.codec import (
    FrameError,
    MessageError,
    TrustedDecoder,
    encode_notification,
    encode_request,
    encode_response,
)
from plugd.rpc.message import Notification, Request, Response


def test_messages_arrive_whatever_the_pieces() -> None:
    """Several in one piece, and one in several."""
    data = encode_request(1, "m", {"a": 1}) + encode_response(1, None, "r") + encode_notification("n")
    messages = [Request(1, "m", [{"a": 1}]), Response(1, None, "r"), Notification("n", [])]
    assert list(TrustedDecoder().feed(data)) == messages
    decoder = TrustedDecoder()
    assert [message for byte in data for message in decoder.feed(bytes([byte]))] == messages


def test_bytes_are_taken_even_if_nobody_asks_for_messages() -> None:
    """What was fed is not lost with the iterator that was not used, or used halfway."""
    decoder = TrustedDecoder()
    data = encode_notification("n")
    decoder.feed(data[:3])
    assert next(decoder.feed(data[3:] + encode_notification("o"))) == Notification("n", [])
    assert list(decoder.feed(b"")) == [Notification("o", [])]


def test_frames_beyond_the_limits_of_clients_arrive() -> None:
    """An answer may be larger, deeper and of more elements than a request."""
    result = {"many": [0.5] * 20_000, "text": "x" * 200_000, "deep": [[]]}
    for _ in range(100):
        result["deep"] = [result["deep"]]
    assert list(TrustedDecoder().feed(encode_response(1, None, result))) == [Response(1, None, result)]


def test_keys_may_be_numbers() -> None:
    """Samples go by their ids."""
    result = {1: 2.0, "a": 3.0}
    assert list(TrustedDecoder().feed(encode_response(1, None, result))) == [Response(1, None, result)]


def test_a_frame_beyond_all_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer has an end, too, and says so in the codec's own error."""
    monkeypatch.setattr(codec, "TRUSTED_FRAME_BYTES", 1000)
    decoder = TrustedDecoder()
    assert list(decoder.feed(b"\x94\x01\x01\xc0\xc5\x03\x00" + bytes(500))) == []
    with pytest.raises(FrameError) as caught:
        decoder.feed(bytes(1000))
    assert caught.value.code == "request.too_large"


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"\xa1\xff", b"\x81\x90\x07", b"\xd4\xff\x00", b"\xd4\xfe\x00", b"\xdd\xff\xff\xff\xff", b"\x91" * 2000],
    ids=["0xc1", "not UTF-8", "list as key", "timestamp", "reserved ext", "huge array", "very deep"],
)
def test_a_peer_that_does_not_speak_msgpack_is_told_apart(data: bytes) -> None:
    """Whatever msgpack raises is one FrameError, with a reason, behind the messages that were good."""
    messages = TrustedDecoder().feed(encode_notification("n") + data)
    assert next(messages) == Notification("n", [])
    with pytest.raises(FrameError, match=r"^not msgpack: .") as caught:
        next(messages)
    assert caught.value.code == "request.invalid"


def test_the_stream_goes_on_behind_what_is_no_message() -> None:
    """The next call delivers what came behind."""
    decoder = TrustedDecoder()
    messages = decoder.feed(msgpack.packb([0, 7, None, []]) + encode_notification("n"))
    with pytest.raises(MessageError) as caught:
        next(messages)
    assert caught.value.id == 7
    assert list(decoder.feed(b"")) == [Notification("n", [])]
