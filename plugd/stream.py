"""A msgpack-RPC stream over a non-blocking socket: the one edge where the daemon reads and writes frames.

Both the control sessions and the workers' channels are such streams. It stands on the event loop's readiness
callbacks, and not on a task per connection: measured on this project's benchmark, that answers twice as many
requests a second.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable

from plugd.rpc.codec import REQUEST_INVALID, Decoder, FrameError, Limits, MessageError
from plugd.rpc.message import Message

RECEIVE_BYTES = 64 * 1024
MESSAGES_PER_TURN = 32  # then others have theirs: a flood of pipelined requests must not hold the loop
TURN = 0.001  # seconds, after which a turn ends as well
ITEMS_PER_TURN = 4096  # of one frame
BUFFERS_AT_ONCE = 64  # pieces of what is sent
JOINED_BYTES = 64 * 1024  # up to which they are joined: that costs less than to send pieces
HANGUP_PERIOD = 0.5  # seconds
LINGER = 10.0  # seconds for a peer to take what is queued when the stream ends


class FrameStream:
    """Frames in, frames out, both bounded; everything happens on the event loop's thread.

    Args:
        sock: a connected, non-blocking stream socket; the stream owns it.
        limits: what a received frame may hold.
        on_message: is called with each message; MessageErrors go to ``on_error``.
        on_error: is called with what the peer got wrong; a FrameError is the last thing that is read.
        on_close: is called once, with the reason, when the peer is gone or :meth:`close` is called.
        on_eof: is called when the peer sends no more but still reads, as at the end of a pipe into socat; whether
            there is something left to send it. Without it the stream is closed.
        on_drain: is called when a peer that had fallen behind has taken all that was queued.
        queue_bytes: when more than this waits to be sent, nothing more is read until it has been.
        partial_timeout: seconds between the first byte of a frame and its last; None: as long as it takes.
    """

    def __init__(
        self,
        sock: socket.socket,
        limits: Limits,
        *,
        on_message: Callable[[Message], None],
        on_error: Callable[[FrameError | MessageError], None],
        on_close: Callable[[str], None],
        on_drain: Callable[[], None] | None = None,
        on_eof: Callable[[], bool] | None = None,
        queue_bytes: int = 256 * 1024,
        partial_timeout: float | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._decoder = Decoder(limits, ITEMS_PER_TURN)
        self._on_message = on_message
        self._on_error = on_error
        self._on_close = on_close
        self._on_drain = on_drain
        self._on_eof = on_eof
        self._eof = False
        self._queue_bytes = queue_bytes
        self._partial_timeout = partial_timeout
        self._partial_timer: asyncio.TimerHandle | None = None
        self._outgoing: list[bytes | memoryview] = []  # An empty deque takes 700 bytes.
        self._queued = 0
        self._corked = False
        self._reading = False
        self._writing = False
        self._sent_at = 0.0
        self._turn: asyncio.Handle | None = None
        self._finishing = False
        self._linger: asyncio.TimerHandle | None = None
        self._hangup: asyncio.TimerHandle | None = None
        self.closed = False
        self._resume_reading()

    @property
    def queued_bytes(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._queued

    def stalled_for(self, now: float) -> float:
        """Return for how many seconds the peer has taken nothing of what is queued; 0 where nothing is.

        Args:
            now: seconds of the loop's clock.
        """
        return now - self._sent_at if self._writing else 0.0

    def send(self, *data: bytes) -> None:
        """Send, or queue what the peer does not take now. The queue's bound is the caller's concern."""
        if self.closed or self._finishing:
            return
        for piece in data:
            self._outgoing.append(piece)
            self._queued += len(piece)
        if not self._corked and not self._writing:
            self._flush()

    def finish(self, reason: str) -> None:
        """Close as soon as what is queued has been sent; nothing more is read."""
        self._finishing = True
        self._pause_reading()
        if not self._outgoing and not self._corked:
            self.close(reason)
        elif self._linger is None:
            self._linger = self._loop.call_later(LINGER, self.close, reason)

    def end_reading(self) -> None:
        """Take no more from the peer than what it has sent already; at its end ``on_eof`` is called, as at any other.

        Nothing is lost between the two sides: what the peer's kernel took before is still read here, and what it
        sends from now on is refused there at once, with EPIPE (shutdown(2), SHUT_RD on a Unix socket).
        """
        with contextlib.suppress(OSError):  # It has gone already.
            self._socket.shutdown(socket.SHUT_RD)

    def close(self, reason: str) -> None:
        """Close now. Closing twice does nothing."""
        if self.closed:
            return
        self.closed = True
        self._pause_reading()
        if self._turn is not None:
            self._turn.cancel()
        self._watch_partial(begun=False)
        for timer in (self._linger, self._hangup):
            if timer is not None:
                timer.cancel()
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self._outgoing.clear()
        self._queued = 0
        self._on_close(reason)
        # Whoever has these has the stream: without the circle it is freed at once, and not when it is next looked for.
        self._on_message = self._on_error = self._on_close = _ignore
        self._on_drain = self._on_eof = None

    def _handle_readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(f"cannot receive: {error.strerror}")
            return
        if not data:
            self._handle_eof()
            return
        self._decoder.feed(data)
        self._take_turn()

    def _handle_eof(self) -> None:
        self._eof = True
        self._pause_reading()
        if _hung_up(self._socket):
            self.close("closed by the peer")
        elif self._on_eof is not None and self._on_eof():
            self._await_hangup()
        else:
            self.finish("closed by the peer")  # What is queued is still read, perhaps.

    def _await_hangup(self) -> None:
        """A peer that sends no more cannot be waited for, only asked after."""
        if self.closed:
            return
        if _hung_up(self._socket):
            self.close("closed by the peer")
        else:
            self._hangup = self._loop.call_later(HANGUP_PERIOD, self._await_hangup)

    def _take_turn(self) -> None:
        """Handle some of the messages that have arrived, and the rest in a later turn of the loop."""
        self._turn = None
        self._corked = True
        waiting = False
        end = time.monotonic() + TURN
        for _ in range(MESSAGES_PER_TURN):
            if time.monotonic() > end:
                break
            if self.closed or self._finishing or self._queued > self._queue_bytes:
                break
            try:
                message = self._decoder.next_message()
            except MessageError as error:
                self._watch_partial(begun=False)
                self._on_error(error)
                continue
            except FrameError as error:
                self._on_error(error)
                self.finish(str(error))
                break
            if message is None:
                self._watch_partial(begun=self._decoder.pending_bytes > 0)
                waiting = not self._decoder.unfinished
                break
            if self._partial_timer is not None:
                self._watch_partial(begun=False)
            self._on_message(message)
        self._corked = False
        if self._outgoing and not self._writing and not self.closed:
            self._flush()
        if self.closed or self._finishing:
            return
        if self._queued > self._queue_bytes:
            self._pause_reading()  # The next turn is taken when the peer has read what it asked for.
        elif waiting:
            self._resume_reading()
        else:
            self._pause_reading()
            self._schedule_turn()

    def _watch_partial(self, *, begun: bool) -> None:
        """Start the deadline of a frame that has begun, once; end it when the frame is complete."""
        if begun and self._partial_timer is None and self._partial_timeout is not None:
            self._partial_timer = self._loop.call_later(self._partial_timeout, self._give_up_partial)
        elif not begun and self._partial_timer is not None:
            self._partial_timer.cancel()
            self._partial_timer = None

    def _give_up_partial(self) -> None:
        self._partial_timer = None
        reason = f"a request was not complete within {self._partial_timeout:g} s"
        self._on_error(FrameError(REQUEST_INVALID, reason, limit="partial_request"))
        self.finish(reason)

    def _schedule_turn(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _flush(self) -> None:
        try:
            if len(self._outgoing) > 1 and self._queued <= JOINED_BYTES:
                self._outgoing = [b"".join(self._outgoing)]
            if len(self._outgoing) == 1:
                sent = self._socket.send(self._outgoing[0])
            else:
                sent = self._socket.sendmsg(self._outgoing[:BUFFERS_AT_ONCE])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.close(f"cannot send: {error.strerror}")
            return
        self._drop_sent(sent)
        if self._outgoing:
            if sent or not self._writing:
                self._sent_at = self._loop.time()
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._socket, self._flush)
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)
            if not self._finishing:
                self._schedule_turn()
                if self._on_drain is not None:
                    self._on_drain()
        if self._finishing:
            self.close("finished")

    def _drop_sent(self, sent: int) -> None:
        self._queued -= sent
        if not self._queued:
            self._outgoing.clear()
            return
        whole = 0
        while whole < len(self._outgoing) and sent >= len(self._outgoing[whole]):
            sent -= len(self._outgoing[whole])
            whole += 1
        del self._outgoing[:whole]
        if sent:
            self._outgoing[0] = memoryview(self._outgoing[0])[sent:]

    def _resume_reading(self) -> None:
        if not self._reading and not self.closed and not self._eof:
            self._reading = True
            self._loop.add_reader(self._socket, self._handle_readable)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)


def _ignore(_: object) -> None:
    """What comes of a stream that is closed is nobody's affair."""


def _hung_up(sock: socket.socket) -> bool:
    """Whether the peer has closed its socket, and not only the one direction: poll(2), POLLHUP."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
