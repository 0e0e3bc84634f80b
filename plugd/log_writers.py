"""Where records of the log go: to a descriptor as lines, or to systemd's journal as entries. Nothing of it waits."""

import os
import select

from plugd.journal import Journal
from plugd.log_text import Record, journal_entry, render_journal

_CHUNK = 4096  # bytes; PIPE_BUF: what a pipe that poll(2) calls writable takes at once


class LogWriter:
    """Writes lines to a descriptor, and neither waits nor fails: a log that nobody reads must not stop the daemon.

    The descriptor is not made non-blocking, since that would also hit others who have it open, such as the shell.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        """Messages that could not be written, or not whole."""
        self._torn = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, message: str) -> None:
        """Write a message and the end of its line, or lose what does not fit now."""
        data = f"{message}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        written = self._write_now(data)
        if written < len(data):
            self.lost += 1
        if written:
            self._torn = written < len(data)

    debug = info = warning = error = critical = write  # structlog calls the method that the level is named for

    def _write_now(self, data: bytes) -> int:
        fd = self._reopen() if is_terminal(self.fd) else self.fd
        written = 0
        try:
            while written < len(data) and self._poll.poll(0):
                written += os.write(fd, data[written : written + _CHUNK])
        except OSError:
            pass  # Full, closed, its reader gone: there is nobody left to tell
        finally:
            if fd != self.fd:
                os.close(fd)
        return written

    def _reopen(self) -> int:
        # A terminal that poll(2) calls writable has room for one byte, and blocks on the second when it is
        # stopped (Ctrl-S). Opened anew it can be non-blocking for us alone.
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # Another user's terminal, after su: better to risk waiting than to say nothing
            return self.fd


class JournalWriter:
    """Sends records to the journal, and writes as lines those that it does not take.

    Args:
        journal: is closed with the writer.
        lines: what else there is.
    """

    def __init__(self, journal: Journal, lines: LogWriter) -> None:
        self._journal = journal
        self._lines = lines
        self._told = 0

    @property
    def lost(self) -> int:
        """Records that went neither way."""
        return self._lines.lost

    def write(self, record: Record) -> None:
        """Send a record; once the journal takes some again, tell it how many were lost."""
        if not self._journal.send(journal_entry(record)):
            self._lines.write(render_journal(record))
        elif self.lost > self._told:
            loss: Record = {"level": "warning", "event": "log_records_lost", "records": self.lost - self._told}
            if self._journal.send(journal_entry(loss)):
                self._told = self.lost

    debug = info = warning = error = critical = write  # structlog calls the method that the level is named for

    def flush(self) -> None:
        """Wait until the journal has read what was sent."""
        self._journal.flush()

    def close(self) -> None:
        """Send nothing more; what comes all the same is written as lines."""
        self._journal.close()


def is_terminal(fd: int) -> bool:
    """Return whether a descriptor is an open terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False
