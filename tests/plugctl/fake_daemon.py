"""A daemon for plugctl's tests: a real socket in a thread, with answers that a test chooses."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

DEADLINE = 10.0  # seconds, for what must happen

CPU = {
    "name": "cpu",
    "kind": "python",
    "state": "running",
    "version": "1.0.0",
    "api": 1,
    "description": "CPU time of the host.",
    "path": "/plugins/cpu.py",
    "sha256": "ab" * 32,
    "generation": 1,
    "pid": 4711,
    "interval": 10.0,
    "loaded_at": 1700000000.0,
    "collects": 12345,
    "failures": 0,
    "last_error": None,
}
DISK = {**CPU, "name": "disk", "state": "failed", "pid": None, "failures": 3, "last_error": "boom"}

Handler = Callable[["Connection", int, str, dict[str, Any]], None]


class Outcome(NamedTuple):
    """What a call of plugctl came to."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


class Refusal(Exception):
    """What an answer function raises to send an error."""

    def __init__(self, code: str, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "data": data or {}}


class Connection:
    """The daemon's end of one connection."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream

    def respond(self, identifier: int | None, error: Any, result: Any) -> None:
        self.stream.sendall(msgpack.packb([1, identifier, error, result]))

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self.stream.sendall(msgpack.packb([2, method, [params]]))

    def wait_closed(self) -> None:
        """Wait until the client has gone."""
        self.stream.settimeout(DEADLINE)
        while self.stream.recv(4096):
            pass


class FakeDaemon:
    """Serves one connection after the other; ``requests`` holds what it was asked: (method, params)."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = str(path)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[BaseException] = []
        self._handler = handler
        self._closing = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "FakeDaemon":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._listener.close()
        assert not self._thread.is_alive()
        assert not self.errors, self.errors

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return  # shut down: the test is over
            with stream:
                stream.settimeout(DEADLINE)
                try:
                    self._converse(Connection(stream))
                except OSError:
                    pass  # the client has gone
                except BaseException as error:
                    self.errors.append(error)

    def _converse(self, connection: Connection) -> None:
        unpacker = msgpack.Unpacker()
        while data := connection.stream.recv(65536):
            unpacker.feed(data)
            for kind, identifier, method, params in unpacker:
                assert kind == 0
                assert params == [] or (len(params) == 1 and isinstance(params[0], dict))
                named = params[0] if params else {}
                self.requests.append((method, named))
                self._handler(connection, identifier, method, named)


@contextlib.contextmanager
def answering(path: Path, answers: dict[str, Any]) -> Iterator[FakeDaemon]:
    """A daemon that has an answer for each method: a value, or a function of the params; a Refusal is an error."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        answer = answers[method]
        try:
            result = answer(params) if callable(answer) else answer
            if isinstance(result, Refusal):
                raise result
        except Refusal as refusal:
            connection.respond(identifier, refusal.error, None)
        else:
            connection.respond(identifier, None, result)

    with FakeDaemon(path, handle) as daemon:
        yield daemon


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
