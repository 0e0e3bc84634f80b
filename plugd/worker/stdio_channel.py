"""msgpack-RPC with a program: requests on its stdin, answers from its stdout, one at a time."""

import os
import select
import socket
import time
from typing import Any

from plugd.rpc.codec import WORKER_LIMITS, Decoder, FrameError, MessageError, encode_request
from plugd.rpc.message import Response
from plugd.worker.command_program import Program
from plugd.worker.command_stream import Companion
from plugd.worker.failure import CRASHED, INVALID, REQUEST_INVALID, Failure
from plugd.worker.notifications import Notify
from plugd.worker.stdio_declaration import text

# Rows of samples have many more elements than the bytes that workers send; what they cost is this worker's own.
LIMITS = WORKER_LIMITS._replace(elements=262_144)

UNKNOWN_METHOD = "request.unknown_method"
STOP_WAIT = 1.0  # seconds for the answer to ``stop``

_CODES = (INVALID, CRASHED, REQUEST_INVALID, UNKNOWN_METHOD)


class StdioChannel:
    """A program that answers.

    Args:
        program: what to run.
        notify: sends a notification to the daemon.
    """

    def __init__(self, program: Program, notify: Notify) -> None:
        self._companion = Companion(program, notify)
        self._decoder = Decoder(LIMITS)
        self._stdin = -1
        self._last_id = 0

    def start(self) -> None:
        """Start the program.

        Raises:
            Failure: it cannot be run.
        """
        reading, self._stdin = os.pipe()
        os.set_blocking(self._stdin, False)
        try:
            self._companion.start(stdin=reading)
        finally:
            os.close(reading)

    def ask(self, method: str, params: dict[str, Any], wait: float | None = None) -> Any:
        """Return the result of a method.

        Args:
            method: its name.
            params: named; left out where there are none.
            wait: seconds for the answer; None: as long as the daemon waits for this worker.

        Raises:
            Failure: what the program answers; or ``plugin.crashed``: it has ended, or what it says is no answer.
        """
        self._last_id += 1
        waiting = encode_request(self._last_id, method, params)
        end = None if wait is None else time.monotonic() + wait
        while True:
            waiting = self._write(waiting)
            response = self._receive()
            if response is not None:
                return self._result(response)
            self._companion.check()
            left = -1.0 if end is None else end - time.monotonic()
            if end is not None and left <= 0:
                raise Failure(CRASHED, f"no answer to {method}")
            self._wait(left, writing=bool(waiting))

    def wait_readable(self, channel: socket.socket) -> None:
        """Wait until the daemon has something to say; a program that ends meanwhile, or speaks unasked, is told of."""
        self._companion.wait_readable(channel, self._take_unasked)

    def stop(self) -> None:
        """Have the program stop, and end it."""
        if self._companion.ended is None:
            try:
                self.ask("stop", {}, STOP_WAIT)
            except Failure:
                pass  # It is ended in any case.
            os.close(self._stdin)  # Which most programs take for the end.
        self._companion.stop()

    def _write(self, data: bytes) -> bytes:
        """Write what the pipe takes; return the rest."""
        try:
            return data[os.write(self._stdin, data) :] if data else data
        except BlockingIOError:
            return data
        except BrokenPipeError:
            return b""  # How it ended is told by its output.

    def _wait(self, timeout: float, *, writing: bool) -> None:
        poll = select.poll()
        poll.register(self._companion.output, select.POLLIN)
        if writing:
            poll.register(self._stdin, select.POLLOUT)
        poll.poll(None if timeout < 0 else 1000 * timeout)

    def _take_unasked(self) -> None:
        if self._receive() is not None:
            self._companion.fail("the program sent an answer to nothing")

    def _receive(self) -> Response | None:
        """Return a response that has come, or None."""
        self._decoder.feed(self._companion.read())
        try:
            message = self._decoder.next_message()
        except (FrameError, MessageError) as error:
            self._companion.fail(f"the program broke its protocol, which its stdout is for alone: {error}")
            return None
        if message is not None and not isinstance(message, Response):
            self._companion.fail("the program sent a request or a notification; it only answers")
            return None
        return message

    def _result(self, response: Response) -> Any:
        if response.id != self._last_id:
            self._companion.fail(f"the program answered request {response.id} and not {self._last_id}")
            self._companion.check()
        if response.error is not None:
            raise _failure(text(response.error))
        return response.result


def _failure(error: Any) -> Failure:
    """Take an error as the program has sent it: a map as plugd itself has it, or text."""
    if not isinstance(error, dict):
        return Failure(CRASHED, str(error))
    code, data = error.get("code"), error.get("data")
    fitting = code if code in _CODES else CRASHED
    details = {str(key): value for key, value in data.items()} if isinstance(data, dict) else {}
    failure = Failure(fitting, str(error.get("message", code or "failed")))
    failure.data = details
    return failure
