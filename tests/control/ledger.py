"""A client that keeps account of what it has sent and been answered.

Every request is to be answered once, with its own id, in the shape that the wire has.

The fuzzers and the tests both use it.
"""

import contextlib
import socket
from collections import Counter
from typing import Any

import msgpack

from plugd import errors
from plugd.rpc.codec import Decoder, FrameError, Limits, MessageError
from plugd.rpc.message import Request

CODES = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)} - {errors.INTERNAL}
NOTIFICATIONS = {"sample", "event", "ping"}


class Violation(AssertionError):
    """The server has broken its contract."""


class Ledger:
    """The account of one connection.

    Attributes:
        owed: how often each id is still to be answered.
        broken: a frame was sent that ends the connection; what is behind it is nobody's, and what was in flight
            may have been given up.
        subscribed: it was asked for a subscription, perhaps in vain.
        excused: a deadline of the server's has passed: it may say so, and close.
        answers: how many there were.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.owed: Counter[int | None] = Counter()
        self.broken = False
        self.subscribed = False
        self.excused = False
        self.answers = 0
        self._ended = False  # by the answer to the broken frame
        self._decoder = Decoder(limits)
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=2**31 - 1)

    @property
    def settled(self) -> bool:
        """Whether everything is answered."""
        return not self.owed

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return not self.broken and self._decoder.pending_bytes > 0

    def send(self, data: bytes) -> None:
        """Note bytes that the server has been sent."""
        if self.broken:
            return
        self._decoder.feed(data)
        while True:
            try:
                message = self._decoder.next_message()
            except MessageError as error:
                self.owed[error.id] += 1
            except FrameError:
                self.owed[None] += 1
                self.broken = True
                return
            else:
                if message is None:
                    return
                if isinstance(message, Request):
                    self.owed[message.id] += 1
                    self.subscribed |= message.method == "subscribe"

    def receive(self, data: bytes) -> None:
        """Note bytes that the server has sent.

        Raises:
            Violation: what it has sent is no answer, or nobody's.
        """
        self._unpacker.feed(data)
        for frame in self._unpacker:
            self._take(frame)

    def close(self) -> None:
        """Note that the server has closed.

        Raises:
            Violation: it owed an answer, and was given no reason to close.
        """
        if self.owed and not (self.broken or self.excused):
            raise Violation(f"closed without an answer to {dict(self.owed)}")

    def _take(self, frame: Any) -> None:
        if self._ended:
            raise Violation(f"something comes behind the last answer: {_brief(frame)}")
        match frame:
            case [1, None | int() as identifier, error, result] if type(identifier) is not bool:
                _check_outcome(error, result)
                self._settle(identifier, frame)
            case [2, str() as method, [dict()]] if method in NOTIFICATIONS:
                pass
            case [2, "progress", [{"request": int() as identifier}]]:
                if not self.owed[identifier]:
                    raise Violation(f"nobody waits for {_brief(frame)}")
            case _:
                raise Violation(f"no answer and no notification: {_brief(frame)}")

    def _settle(self, identifier: int | None, frame: Any) -> None:
        self.answers += 1
        if self.owed[identifier]:
            self.owed[identifier] -= 1
        elif identifier is None and self.excused and frame[2] is not None:
            self._ended = True  # The deadline's own answer is the last.
        else:
            raise Violation(f"nobody asked for {_brief(frame)}")
        self.owed += Counter()  # Only what is above zero is kept.


class Client:
    """A connection that never waits, and the account of it.

    Attributes:
        ids: of all its requests.
        closed_by_server: it has been found to be.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self.ledger = Ledger(limits)
        self.ids: list[int] = []
        self.closed_by_server = False
        self.half_closed = False
        self._unsent = bytearray()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.socket.connect(path)

    def send(self, data: bytes) -> None:
        if not self.half_closed:
            self._unsent += data
            self.flush()

    def flush(self) -> None:
        """Send what the server takes."""
        if self._unsent and not self.closed_by_server:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._unsent.clear()
                return
            self.ledger.send(bytes(self._unsent[:sent]))
            del self._unsent[:sent]

    def read(self, size: int) -> bool:
        """Read what is there; whether there was anything."""
        if self.closed_by_server:
            return False
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # It had not read everything: unix(7)
            data = b""
        if data:
            self.ledger.receive(data)
        else:
            self.closed_by_server = True
            self.ledger.close()
        return True

    def shutdown(self) -> None:
        self.half_closed = True
        self._unsent.clear()
        with contextlib.suppress(OSError):  # It has been closed.
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


def _check_outcome(error: Any, result: Any) -> None:
    if error is None:
        return
    match error:
        case {"code": str() as code, "message": str() as message, "data": dict(), **more} if not more:
            if code not in CODES:
                raise Violation(f"{code}: {message}")
            if result is not None:
                raise Violation(f"an error and a result: {_brief([error, result])}")
        case _:
            raise Violation(f"no error object: {_brief(error)}")


def _brief(value: Any) -> str:
    return repr(value)[:300]
