"""One run of a program: its output within bounds, its errors to the plugin's log, and nothing of it left at the end."""

import os
import select
import time
from collections import deque
from typing import NamedTuple

from plugd.worker.command_program import Program, kill_started
from plugd.worker.failure import CRASHED, Failure

TIMEOUT = "plugin.timeout"

OUTPUT_BYTES = 4 * 1024 * 1024
ERROR_BYTES = 16 * 1024  # of stderr that are passed on of one run; the daemon counts what is too much in a second
READ_BYTES = 256 * 1024
LINE_CHARACTERS = 400

_OWN_STDERR = 2
_PIPE_BYTES = 4096  # that a pipe takes at once if it takes anything: PIPE_BUF of pipe(7)


class Output(NamedTuple):
    """What a program has printed, and how it ended: its exit status, or the negative number of a signal."""

    stdout: bytes
    status: int
    error: str  # the last line of its stderr

    @property
    def ending(self) -> str:
        """How it ended, in words, with its last word."""
        return ending_of(self.status) + (f": {self.error}" if self.error else "")


def ending_of(status: int) -> str:
    """Return in words how a program ended."""
    if status >= 0:
        return f"exited with status {status}"
    import signal

    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def run(program: Program, *arguments: str, deadline: float) -> Output:
    """Run a program to its end, and end all that it has left behind.

    Args:
        program: what to run.
        arguments: behind its own.
        deadline: when it must have ended, in seconds of CLOCK_MONOTONIC.

    Raises:
        Failure: ``plugin.timeout``, or ``plugin.crashed`` where it prints more than 4 MiB; it has been killed then.
            ``plugin.invalid``: it cannot be run.
    """
    started = time.monotonic()
    reading, writing = _pipe()
    try:
        error_reading, error_writing = _pipe()
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    errors = _Errors()
    try:
        try:
            pid = program.start(*arguments, stdout=writing, stderr=error_writing)
        finally:
            os.close(writing)
            os.close(error_writing)
        try:
            stdout = _read(pid, reading, error_reading, errors, deadline, deadline - started)
        finally:
            kill_started(pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        errors.end()
        return Output(stdout, status, errors.last)
    finally:
        os.close(reading)
        os.close(error_reading)


def _read(pid: int, output: int, error_output: int, errors: "_Errors", deadline: float, allowed: float) -> bytes:
    """Read until the program has ended. What still holds its pipes then has been left behind by it."""
    chunks: list[bytes] = []
    size_bytes = 0
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        for descriptor in (pidfd, output, error_output):
            poll.register(descriptor, select.POLLIN)
        ended = False
        while not ended:
            left = deadline - time.monotonic()
            ready = {descriptor for descriptor, _ in poll.poll(max(0.0, 1000 * left))} if left > 0 else set()
            if not ready:
                raise Failure(TIMEOUT, f"took longer than {allowed:.3g} s, and was killed with what it had started")
            ended = pidfd in ready
            for descriptor in (output, error_output):
                if not ended and descriptor not in ready:
                    continue
                # Of a program that has ended, all that is in the pipes.
                while data := _available(descriptor):
                    if descriptor == error_output:
                        errors.take(data)
                    else:
                        chunks.append(data)
                        size_bytes += len(data)
                        if size_bytes > OUTPUT_BYTES:
                            raise Failure(CRASHED, f"printed more than {OUTPUT_BYTES >> 20} MiB, and was killed")
                    if not ended or time.monotonic() > deadline:
                        break
                else:
                    if data == b"" and not ended:
                        poll.unregister(descriptor)  # It has closed it, and goes on.
    finally:
        os.close(pidfd)
    return b"".join(chunks)


def _available(descriptor: int) -> bytes | None:
    """Return what is in a pipe: nothing (b"") at its end, and None where there is nothing yet."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None


def _pipe() -> tuple[int, int]:
    """Return both ends; reading does not block, and writing does, as programs expect."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


class _Errors:
    """The stderr of a run: passed on to the plugin's log as far as that takes it, and the last line kept."""

    def __init__(self) -> None:
        self._tail: deque[bytes] = deque(maxlen=2)
        self._passed_on = 0

    @property
    def last(self) -> str:
        """The last line that says anything, as a message quotes it."""
        for line in reversed(b"".join(self._tail).split(b"\n")):
            text = line.decode("utf-8", "backslashreplace").strip()
            if text:
                return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:LINE_CHARACTERS]
        return ""

    def end(self) -> None:
        """End its last line, so that the next run begins one of its own."""
        if self._passed_on and not self._tail[-1].endswith(b"\n"):
            write_out(_OWN_STDERR, b"\n")

    def take(self, data: bytes) -> None:
        self._tail.append(data[-READ_BYTES:])
        data = data[: ERROR_BYTES - self._passed_on]
        self._passed_on += len(data)
        write_out(_OWN_STDERR, data)


def write_out(descriptor: int, data: bytes) -> None:
    """Write to a pipe of this process what it takes without waiting: the daemon rests from a plugin that floods."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    for start in range(0, len(data), _PIPE_BYTES):
        if not poll.poll(0):
            return
        os.write(descriptor, data[start : start + _PIPE_BYTES])
