"""FrameStream over real socket pairs: turns, deadlines, back-pressure, and how it ends."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from plugd.rpc.codec import Decoder, FrameError, Limits, MessageError, encode_request, encode_response
from plugd.rpc.message import Message, Request
from plugd.stream import FrameStream

pytestmark = pytest.mark.anyio

DEADLINE = 20.0  # seconds


class End:
    """A stream under test with the other end of its socket; it answers every request with ``result``."""

    def __init__(self, limits: Limits | None = None, *, result: Any = "pong", **options: Any) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.result = result
        self.messages: list[Message] = []
        self.errors: list[FrameError | MessageError] = []
        self.reasons: list[str] = []
        self.drains = 0
        self.most_queued = 0
        self.on_message: Callable[[Message], None] = self.answer
        self.stream = FrameStream(
            ours,
            limits or Limits(),
            on_message=self._handle_message,
            on_error=self._handle_error,
            on_close=self.reasons.append,
            on_drain=self._handle_drain,
            **options,
        )

    def answer(self, message: Message) -> None:
        if isinstance(message, Request):
            self.stream.send(encode_response(message.id, None, self.result))

    def _handle_message(self, message: Message) -> None:
        self.messages.append(message)
        self.on_message(message)
        self.most_queued = max(self.most_queued, self.stream.queued_bytes)

    def _handle_error(self, error: FrameError | MessageError) -> None:
        self.errors.append(error)
        identifier = error.id if isinstance(error, MessageError) else None
        self.stream.send(encode_response(identifier, error.code, None))

    def _handle_drain(self) -> None:
        self.drains += 1

    async def send(self, data: bytes) -> None:
        """Send from the peer's side."""
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    async def receive(self, count: int) -> list[list[Any]]:
        """Return the next frames that the peer is sent."""
        unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
        frames: list[list[Any]] = []
        while len(frames) < count:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.peer, 65536), DEADLINE)
            assert data, f"closed after {len(frames)} of {count} frames"
            unpacker.feed(data)
            frames.extend(unpacker)
        assert len(frames) == count
        return frames

    async def receive_all(self) -> list[list[Any]]:
        """Return all frames until the stream is closed; fail where the last one is cut off."""
        unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)
        frames: list[list[Any]] = []
        received = 0
        while True:
            try:
                data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.peer, 65536), DEADLINE)
            except ConnectionResetError:
                data = b""  # What the kernel says where the other end had not read everything: unix(7).
            if not data:
                assert unpacker.tell() == received, "the last frame is cut off"
                return frames
            received += len(data)
            unpacker.feed(data)
            frames.extend(unpacker)


@contextlib.asynccontextmanager
async def end(limits: Limits | None = None, **options: Any) -> AsyncIterator[End]:
    made = End(limits, **options)
    try:
        yield made
    finally:
        made.stream.close("the test is over")
        made.peer.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come true"
        await asyncio.sleep(0.001)


def pings(count: int) -> bytes:
    return b"".join(encode_request(number, "ping") for number in range(count))


async def test_answers_pipelined_requests_in_order() -> None:
    """Requests that arrive in one piece are answered one by one, in their order."""
    async with end() as one:
        await one.send(pings(100))
        assert await one.receive(100) == [[1, number, None, "pong"] for number in range(100)]


async def test_answers_a_flood_completely() -> None:
    """Ten thousand pipelined requests are all answered, in order."""
    async with end() as one:
        sending = asyncio.create_task(one.send(pings(10_000)))
        frames = await one.receive(10_000)
        await sending
        assert [frame[1] for frame in frames] == list(range(10_000))


async def test_a_flood_does_not_hold_the_loop() -> None:
    """While one stream is flooded, another one's request is answered."""
    async with end() as flooded, end() as other:
        await flooded.send(pings(10_000))
        while not flooded.messages:  # noqa: ASYNC110 - each single pass of the loop counts
            await asyncio.sleep(0)
        await other.send(pings(1))
        handled_meanwhile: list[int] = []
        other.on_message = lambda _: handled_meanwhile.append(len(flooded.messages))
        await until(lambda: handled_meanwhile, "the other's turn")
        assert handled_meanwhile[0] <= 1000
        await flooded.receive(10_000)


async def test_a_turn_is_bounded() -> None:
    """No more than a turn's messages are handled in one pass of the loop."""
    async with end() as one:
        await one.send(pings(1000))
        per_pass = []
        while sum(per_pass) < 1000:
            before = len(one.messages)
            await asyncio.sleep(0)
            per_pass.append(len(one.messages) - before)
        assert max(per_pass) <= 100


async def test_takes_a_frame_byte_by_byte() -> None:
    """A frame may arrive in pieces of any size."""
    async with end() as one:
        for byte in encode_request(7, "ping", {"text": "a" * 40}):
            await one.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.receive(1) == [[1, 7, None, "pong"]]
        assert one.messages == [Request(7, "ping", [{"text": "a" * 40}])]


async def test_a_partial_frame_has_a_deadline() -> None:
    """A frame that is begun and not completed in time is refused, and the stream ends."""
    async with end(partial_timeout=0.05) as one:
        await one.send(encode_request(1, "ping")[:-1])
        assert await one.receive_all() == [[1, None, "request.invalid", None]]
        assert len(one.reasons) == 1
        assert "0.05 s" in one.reasons[0]


async def test_a_trickle_does_not_extend_the_deadline() -> None:
    """The deadline counts from a frame's first byte, however many follow one by one."""
    async with end(partial_timeout=0.1) as one:
        frame = encode_request(1, "ping", {"text": "a" * 5000})
        sent = 0
        for byte in frame:
            if one.stream.closed:
                break
            await one.send(bytes([byte]))
            sent += 1
            await asyncio.sleep(0.005)
        assert one.stream.closed
        assert sent < len(frame)


async def test_the_deadline_ends_with_its_frame() -> None:
    """A stream that is idle between two frames is left alone for as long as it likes."""
    async with end(partial_timeout=0.05) as idle, end(partial_timeout=0.05) as partial:
        frame = encode_request(1, "ping")
        await idle.send(frame[:3])
        await partial.send(frame)  # Answered after the other's first bytes have been read.
        await partial.receive(1)
        await idle.send(frame[3:])
        await idle.receive(1)
        await partial.send(frame[:3])  # Its end tells that the deadline of the other would have passed as well.
        await partial.receive_all()
        assert not idle.stream.closed
        await idle.send(frame)
        assert await idle.receive(1) == [[1, 1, None, "pong"]]


async def test_every_frame_has_a_deadline_of_its_own() -> None:
    """Complete frames before a partial one, in one piece with it, do not save it."""
    async with end(partial_timeout=0.05) as one:
        await one.send(pings(3) + b"\x94")
        frames = await one.receive_all()
        assert frames == [*([1, number, None, "pong"] for number in range(3)), [1, None, "request.invalid", None]]


async def test_stops_reading_from_a_peer_that_does_not_read() -> None:
    """What waits for a peer is bounded: nothing more is read, and it is the peer's own send that waits."""
    async with end(result="x" * 10_000, queue_bytes=100_000) as one:
        sending = asyncio.create_task(one.send(pings(50_000)))
        await until(lambda: one.stream.queued_bytes > 100_000, "a full queue")
        handled = len(one.messages)
        async with end() as other:  # Many passes of the loop, in each of which it could go on.
            for _ in range(100):
                await other.send(pings(1))
                await other.receive(1)
        assert len(one.messages) == handled
        assert one.most_queued <= 100_000 + 10_100
        assert not sending.done()
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def test_goes_on_when_the_peer_reads_again() -> None:
    """A peer that had fallen behind is sent everything, in order; it is told when it has caught up."""
    async with end(result="x" * 10_000, queue_bytes=100_000) as one:
        sending = asyncio.create_task(one.send(pings(1000)))
        await until(lambda: one.stream.queued_bytes > 100_000, "a full queue")
        assert one.drains == 0
        frames = await one.receive(1000)
        await sending
        assert [frame[1] for frame in frames] == list(range(1000))
        assert one.drains > 0
        await until(lambda: one.stream.queued_bytes == 0, "an empty queue")


async def test_closes_when_a_peer_goes_that_does_not_read() -> None:
    """A peer that dies while reading from it is paused is noticed nevertheless."""
    async with end(result="x" * 10_000, queue_bytes=100_000) as one:
        await one.send(pings(200))
        await until(lambda: one.stream.queued_bytes > 100_000, "a full queue")
        one.peer.close()
        await until(lambda: one.reasons, "the end")
        assert one.stream.queued_bytes == 0


async def test_a_message_error_leaves_the_stream_open() -> None:
    """What is msgpack and no message is refused, with its id where it has one; the next request is answered."""
    async with end() as one:
        await one.send(msgpack.packb([0, 5, 7, []]) + msgpack.packb({}) + encode_request(6, "ping"))
        assert await one.receive(3) == [
            [1, 5, "request.invalid", None],
            [1, None, "request.invalid", None],
            [1, 6, None, "pong"],
        ]


async def test_a_frame_error_is_answered_and_ends_the_stream() -> None:
    """Requests ahead of a broken frame are answered, then the error is told, then the stream is closed."""
    async with end() as one:
        await one.send(pings(2) + b"\xc1" + pings(5))
        assert await one.receive_all() == [
            [1, 0, None, "pong"],
            [1, 1, None, "pong"],
            [1, None, "request.invalid", None],
        ]
        assert len(one.messages) == 2
        assert len(one.reasons) == 1


async def test_a_frame_error_is_told_to_a_slow_peer_too() -> None:
    """Closing waits until the peer has taken what was queued, the error included."""
    async with end(Limits(frame_bytes=1000), result="x" * 10_000, queue_bytes=10**9) as one:
        await one.send(pings(200) + encode_request(1, "ping", {"text": "a" * 2000}))
        await until(lambda: one.errors, "the error")
        assert not one.stream.closed
        frames = await one.receive_all()
        assert len(frames) == 201
        assert frames[-1] == [1, None, "request.too_large", None]


async def test_finishing_reads_no_more() -> None:
    """After finish() nothing more is handled or sent."""
    async with end(result="x" * 1_000_000) as one:
        await one.send(pings(1))
        await until(lambda: one.stream.queued_bytes, "a queue")
        one.stream.finish("enough")
        await one.send(pings(1))
        one.stream.send(b"\xc0")
        assert [frame[:2] for frame in await one.receive_all()] == [[1, 0]]
        assert len(one.messages) == 1
        assert len(one.reasons) == 1


async def test_finishing_with_nothing_queued_closes_at_once() -> None:
    """finish() is close() where nothing waits."""
    async with end() as one:
        one.stream.finish("enough")
        assert one.reasons == ["enough"]
        assert await one.receive_all() == []


async def test_closing_twice_is_closing_once() -> None:
    """The first reason is told, once."""
    async with end() as one:
        one.stream.close("first")
        one.stream.close("second")
        one.stream.finish("third")
        one.stream.send(b"\xc0")
        assert one.reasons == ["first"]
        assert one.stream.closed
        assert await one.receive_all() == []


async def test_closing_from_a_message_handles_no_further_one() -> None:
    """A handler may close the stream that it was called from."""
    async with end() as one:
        one.on_message = lambda _: one.stream.close("enough")
        await one.send(pings(100))
        await until(lambda: one.reasons, "the end")
        assert one.reasons == ["enough"]
        assert len(one.messages) == 1


async def test_closing_between_two_turns_handles_no_further_message() -> None:
    """Messages that have arrived and wait for their turn go with the stream."""
    async with end() as one:
        await one.send(pings(1000))
        await until(lambda: one.messages, "the first turn")
        handled = len(one.messages)
        assert handled < 1000
        one.stream.close("enough")
        await asyncio.sleep(0)
        assert len(one.messages) == handled


async def test_the_peers_end_is_told_once() -> None:
    """A peer that closes is reported with a reason."""
    async with end() as one:
        one.peer.close()
        await until(lambda: one.reasons, "the end")
        assert one.reasons == ["closed by the peer"]


async def test_a_peer_that_has_said_all_still_gets_its_answer() -> None:
    """`printf … | socat - UNIX:…` closes its sending half at once, and waits for the answer."""
    async with end() as one:
        await one.send(pings(3))
        one.peer.shutdown(socket.SHUT_WR)
        assert len(await one.receive_all()) == 3


async def test_a_peer_that_has_said_all_gets_a_long_answer_completely() -> None:
    """An answer beyond the socket's buffer is not cut off because its asker's sending half is closed."""
    async with end(result="x" * 2_000_000, queue_bytes=4_000_000, on_eof=lambda: False) as one:
        await one.send(pings(1))
        one.peer.shutdown(socket.SHUT_WR)
        await until(lambda: one.messages, "the request")
        frames = await one.receive_all()
        assert [len(frame[3]) for frame in frames] == [2_000_000]


async def test_a_peer_that_has_said_all_is_sent_what_comes_later() -> None:
    """As long as there is something left for it, the stream stays open, and finish() is its end."""
    asked: list[bool] = []

    def left() -> bool:
        asked.append(True)
        return True

    async with end(on_eof=left) as one:
        one.peer.shutdown(socket.SHUT_WR)
        await until(lambda: asked, "the question whether there is more")
        one.stream.send(encode_response(5, None, "later"))
        assert await one.receive(1) == [[1, 5, None, "later"]]
        one.stream.finish("that was all")
        assert await one.receive_all() == []
        assert asked == [True]


async def test_a_peer_that_goes_for_good_is_not_asked_for() -> None:
    """One that has closed both directions is gone, whatever was left for it."""
    async with end(on_eof=lambda: True) as one:
        one.peer.close()
        await until(lambda: one.reasons, "the end")


async def test_a_peer_that_goes_after_it_has_said_all_is_noticed() -> None:
    """First the one direction, later the other: the stream ends although nothing is being sent."""
    asked: list[bool] = []

    def left() -> bool:
        asked.append(True)
        return True

    async with end(on_eof=left) as one:
        one.peer.shutdown(socket.SHUT_WR)
        await until(lambda: asked, "the question whether there is more")
        one.peer.close()
        await until(lambda: one.reasons, "the end")


async def test_what_is_sent_is_what_arrives() -> None:
    """Small and large answers in any order arrive as they were sent."""
    async with end() as one:
        sizes = [1, 300_000, 0, 70_000, 5, 1_000_000, 2]
        for size in sizes:
            one.stream.send(encode_response(size, None, "x" * size))
        frames = await one.receive(len(sizes))
        assert [(frame[1], len(frame[3])) for frame in frames] == [(size, size) for size in sizes]


async def test_the_other_end_can_be_a_stream() -> None:
    """Two streams understand each other: requests from both sides at once."""
    async with end() as one:
        decoder = Decoder()
        one.stream.send(encode_request(1, "ping"))
        await one.send(encode_request(2, "ping"))
        seen: list[Message] = []
        while len(seen) < 2:
            decoder.feed(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one.peer, 100), DEADLINE))
            while (message := decoder.next_message()) is not None:
                seen.append(message)
        assert [message[0] for message in seen] == [1, 2]
