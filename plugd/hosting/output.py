"""What a plugin prints: read without blocking, cut into lines, limited, and handed on as log lines."""

import asyncio
import os
from collections import deque
from collections.abc import Callable

LINE_BYTES = 1024  # a longer line is cut
LINES_PER_SECOND = 20
BURST_SECONDS = 5
BYTES_PER_SECOND = 1024 * 1024  # beyond it the pipe is left full, and the plugin waits in its own write
READ_BYTES = 64 * 1024
LAST_LINES = 20  # kept for `plugctl why`


class OutputReader:
    """Reads one pipe of a worker.

    Args:
        descriptor: the pipe's read end, non-blocking; the reader owns it.
        on_line: is called with each line, without its end.
        on_suppressed: is called at most once a second with the number of lines that were not passed on.
        last: receives the last lines, for whoever asks why the plugin died.
        rate: lines a second that are passed on; a burst of five seconds' worth comes first.
    """

    def __init__(
        self,
        descriptor: int,
        on_line: Callable[[str], None],
        on_suppressed: Callable[[int], None],
        last: deque[str],
        rate: int = LINES_PER_SECOND,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._on_line = on_line
        self._on_suppressed = on_suppressed
        self._last = last
        self._partial = b""
        self._rate = rate
        self._allowed = float(rate * BURST_SECONDS)
        self._second = self._loop.time()
        self._bytes = 0
        self._suppressed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(descriptor, self._handle_readable)

    def close(self) -> None:
        """Take what is still in the pipe, and close it."""
        if self._descriptor < 0:
            return
        if self._timer is None:
            self._handle_readable()
        if self._descriptor >= 0:
            self._end()

    def _handle_readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._refill()
        self._bytes += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        allowed = int(self._allowed)
        if len(lines) > allowed + LAST_LINES:  # Not worth a look at each: only the first and the last are told.
            self._suppressed += len(lines) - allowed - LAST_LINES
            lines = lines[:allowed] + lines[-LAST_LINES:]
        for line in lines:
            self._pass_on(line)
        if len(self._partial) > LINE_BYTES:
            self._pass_on(self._partial)
            self._partial = b""
        if self._bytes > BYTES_PER_SECOND or self._suppressed:
            self._rest()

    def _pass_on(self, line: bytes) -> None:
        if not line.strip():
            return
        text = line[:LINE_BYTES].decode("utf-8", "backslashreplace").rstrip()
        self._last.append(text)
        if self._allowed >= 1:
            self._allowed -= 1
            self._on_line(text)
        else:
            self._suppressed += 1

    def _refill(self) -> None:
        now = self._loop.time()
        if now - self._second >= 1.0:
            earned = (now - self._second) * self._rate
            self._allowed = min(self._rate * BURST_SECONDS, self._allowed + earned)
            self._second = now
            self._bytes = 0

    def _rest(self) -> None:
        """Read no more of a plugin that floods until a second has passed, then say how much was left out."""
        if self._bytes > BYTES_PER_SECOND:
            self._loop.remove_reader(self._descriptor)
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._wake)

    def _wake(self) -> None:
        self._timer = None
        suppressed, self._suppressed = self._suppressed, 0
        if suppressed:
            self._on_suppressed(suppressed)
        self._loop.add_reader(self._descriptor, self._handle_readable)

    def _end(self) -> None:
        if self._partial:
            self._pass_on(self._partial)
            self._partial = b""
        if self._timer is not None:
            self._timer.cancel()
        if self._suppressed:
            self._on_suppressed(self._suppressed)
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
