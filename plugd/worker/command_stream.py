"""A program that goes on: its lines are read as they come, and the latest of each series is given at the next tick."""

import os
import select
import signal
import socket
import time
from collections.abc import Callable

from plugd.formats.reading import Fault, Parsed, Reading
from plugd.worker.command_formats import Format
from plugd.worker.command_program import Program, kill_started
from plugd.worker.command_run import ending_of
from plugd.worker.failure import CRASHED, Failure
from plugd.worker.notifications import Notify

LINE_BYTES = 256 * 1024
READ_BYTES = 64 * 1024  # that are parsed before the daemon is listened to again
MOST_WAITING = 40_000  # series between two collections
MOST_NOTICES = 20  # likewise
FIRST_WAIT = 2.0  # seconds for its first lines, before the first collection goes without
STOP_WAIT = 1.0  # seconds to end by itself, when it is told to

Key = tuple[str, tuple[tuple[str, str], ...]]


class Companion:
    """A program that lives as long as its plugin does. Its end is the end of the worker, and the daemon restarts both.

    Args:
        program: what to run.
        notify: sends a notification to the daemon.
    """

    def __init__(self, program: Program, notify: Notify) -> None:
        self._program = program
        self._notify = notify
        self._pid = 0
        self._pidfd = -1
        self.output = -1  # non-blocking
        self.ended: str | None = None  # how

    def start(self, stdin: int = 0) -> None:
        """Start it.

        Raises:
            Failure: it cannot be run.
        """
        self.output, writing = os.pipe()
        os.set_blocking(self.output, False)
        try:
            self._pid = self._program.start(stdin=stdin, stdout=writing)
        finally:
            os.close(writing)
        self._pidfd = os.pidfd_open(self._pid)

    def read(self) -> bytes:
        """Return what it has printed since; nothing where there is nothing yet. See ``ended`` as well."""
        if self._pid == 0 or self.ended is not None:
            return b""
        try:
            data = os.read(self.output, READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self._end()
        return data

    def wait(self, timeout: float | None, *others: int) -> set[int]:
        """Wait until it has printed something or ended, or another descriptor can be read; return which can be."""
        poll = select.poll()
        running = self._pid != 0 and self.ended is None
        for descriptor in (self.output, *others) if running else others:
            poll.register(descriptor, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll(None if timeout is None else 1000 * timeout)}

    def wait_readable(self, channel: socket.socket, take: Callable[[], object]) -> None:
        """Wait until the daemon has something to say; ``take`` is called for what is printed meanwhile."""
        while channel.fileno() not in self.wait(None, channel.fileno()):
            take()

    def check(self) -> None:
        """Raise what its end means; and reap what it has started and left, which this process has inherited.

        Raises:
            Failure: ``plugin.crashed``: it has ended.
        """
        self._reap_orphans()
        if self.ended is not None:
            raise Failure(CRASHED, self.ended)

    def stop(self) -> None:
        """Have it end, and kill it with all that it has started where it does not."""
        if self._pid == 0 or self.ended is not None:
            return
        self.ended = "stopped"
        try:
            os.killpg(self._pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # It has ended.
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(1000 * STOP_WAIT)
        kill_started()

    def fail(self, reason: str) -> None:
        """End it for what it has done: the daemon restarts plugin and program."""
        if self.ended is None:
            self.ended = reason
            self._notify("ended", {"reason": reason})
            kill_started()

    def _reap_orphans(self) -> None:
        while self._pid != 0 and self.ended is None:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self._pid:
                return  # Its own end is seen by its output.
            os.waitpid(ended.si_pid, 0)

    def _end(self) -> None:
        """It has closed its output: either it has ended, or nothing will come of it any more."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if poll.poll(1000 * STOP_WAIT):
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self.fail(f"the program {ending_of(status)}")
        else:
            self.fail("the program closed its output, and went on")


class StreamSource:
    """The lines of such a program.

    Args:
        program: what to run.
        format_: of its lines.
        notify: sends a notification to the daemon.
    """

    def __init__(self, program: Program, format_: Format, notify: Notify) -> None:
        self._companion = Companion(program, notify)
        self._format = format_
        self._partial = b""
        self._skipping = False  # the rest of a line that is too long
        self._lines = 0  # so far
        self._latest: dict[Key, Reading] = {}
        self._faults: list[Fault] = []  # the first of those since the last collection
        self._fault_count = 0
        self._skipped = 0
        self._notices: list[str] = []
        self._is_first = True

    def start(self) -> None:
        """Start the program."""
        self._companion.start()

    def read(self, deadline: float) -> Parsed | None:
        """Return what has come since the last time; None: nothing.

        Raises:
            Failure: ``plugin.crashed``: the program has ended.
        """
        self._pump()
        if self._is_first:
            self._is_first = False
            end = min(deadline, time.monotonic() + FIRST_WAIT)
            while not self._anything() and self._companion.ended is None and (left := end - time.monotonic()) > 0:
                self._companion.wait(left)
                self._pump()
        self._companion.check()
        if not self._anything():
            return None
        parsed = Parsed(
            list(self._latest.values()),
            self._faults,
            self._notices,
            self._skipped,
            self._fault_count - len(self._faults),
        )
        self._latest, self._faults, self._notices = {}, [], []
        self._fault_count = self._skipped = 0
        return parsed

    def wait_readable(self, channel: socket.socket) -> None:
        """Read on until the daemon has something to say."""
        self._companion.wait_readable(channel, self._pump)

    def stop(self) -> None:
        """End the program."""
        self._companion.stop()

    def _anything(self) -> bool:
        return bool(self._latest or self._fault_count or self._notices or self._skipped)

    def _pump(self) -> None:
        data = self._companion.read()
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            if not newline:
                return
            self._skipping = False
            self._lines += 1
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            lines, self._partial = self._partial + lines, b""
            self._parse(lines)
        self._keep(rest)

    def _keep(self, partial: bytes) -> None:
        self._partial += partial
        if len(self._partial) > LINE_BYTES:
            self._fault(Fault(self._lines + 1, f"a line of more than {LINE_BYTES >> 10} KiB"))
            self._partial, self._skipping = b"", True

    def _parse(self, lines: bytes) -> None:
        parsed = self._format.parse(lines + b"\n", 0)
        for reading in parsed.readings:
            key = (reading.name, reading.labels)
            known = self._latest.get(key)
            if known is None and len(self._latest) >= MOST_WAITING:
                self._fault(Fault(self._lines + 1, f"more than {MOST_WAITING} series between two collections"))
                break
            if known is None or known.time is None or reading.time is None or reading.time >= known.time:
                self._latest[key] = reading
        for fault in parsed.faults:
            self._fault(Fault(self._lines + fault.line, fault.message))
        self._fault_count += parsed.unlisted
        self._skipped += parsed.skipped
        self._notices = (self._notices + parsed.notices)[-MOST_NOTICES:]
        self._lines += lines.count(b"\n") + 1

    def _fault(self, fault: Fault) -> None:
        self._fault_count += 1
        if not self._faults:
            self._faults.append(fault)
