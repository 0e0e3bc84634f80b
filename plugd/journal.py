"""systemd's journal, by its native protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.

An entry is a datagram of fields, or the descriptor of a sealed file that holds them. Nothing is opened before the
first entry is sent.
"""

import errno
import fcntl
import os
import socket
import stat
import struct
import termios
import time
from collections.abc import Iterable, Mapping

from plugd.sealed import SealedCopy

SOCKET = "/run/systemd/journal/socket"
FLUSH_TIMEOUT = 0.5  # seconds
_FLUSH_PERIOD = 0.001  # seconds

Entry = list[tuple[str, str]]
"""Fields, each a name of ``[A-Z0-9_]`` that no ``_`` begins and a value; a name may come several times."""

# One for each change of the daemon's or a plugin's state, for ever: catalogs and other people's searches know them.
# docs/logs.md lists them, and systemd/plugd.catalog explains them to `journalctl -x`.
MESSAGE_IDS: Mapping[str, str] = {
    "plugd_started": "781edb53da104c969629a4cb87b6bb3b",
    "plugd_ready": "87a839546e0f4659821c745c747827fd",
    "signal_received": "d848f59f60f94eb0aaf5943c10051285",
    "plugd_stopped": "addd48b5b3174b14bdf5798c7e938dad",
    "configuration_invalid": "65f6e86230224bbb99ffa70005147fee",
    "socket_in_use": "31de7bafef0e4054a3c3c52d10e3dd40",
    "socket_failed": "002477cff1764261be22dade007dc4cc",
    "reloaded": "3734214c011243358a2eb1cd95f3f358",
    "reload_failed": "41aa93d134674f0285d8690c031c9f18",
    "watchdog_not_fed": "41bce75fc7724a189c375324761f6580",
    "forkserver_stuck": "c16fc188d04a4fb88d40b33b4077301e",
    "forkserver_died": "5bcd6ecb5c8740bc9abd5942c081294c",
    "plugd_died_while_starting": "014716f8ea04420cb2203b2aa7c33f77",
    "plugin_starting": "001f16221ef34579842859f6283cfc51",
    "plugin_running": "78c429c7083d4028aca2768c78289e63",
    "plugin_reloaded": "39bd22dd985a4626b0769072c1ba7696",
    "plugin_reload_failed": "3c0e4288650e4cb6b475ef431b787292",
    "plugin_rolled_back": "2fa697fd4818417f825003d4ce0e1538",
    "plugin_backoff": "943caff02b1d44af83b250e5c54b6fb5",
    "plugin_quarantined": "963ced25306949449c08a185fc342771",
    "plugin_failed": "6107dc1be6a6483cb9199bd3d4ebbab8",
    "plugin_paused": "952bc2733d8e4c0b9504fc6076a9181f",
    "plugin_resumed": "579fef6d5ed84cd08120e4b1142713c5",
    "plugin_stopping": "319a5a92dbe9440ca7d226816792102a",
    "plugin_stopped": "c2049213211649b7bdaac5996c82a4d5",
}


def leads_to_journal(descriptor: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether what is written to a descriptor goes to the journal: $JOURNAL_STREAM, systemd.exec(5)."""
    stream = environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    # The variable is inherited, and the descriptor may have been redirected since.
    return stream == f"{status.st_dev}:{status.st_ino}"


class Journal:
    """Sends entries, and neither waits nor fails.

    Args:
        path: of the journal's socket; None: systemd's.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path or SOCKET
        self._socket: socket.socket | None = None

    def there(self) -> bool:
        """Return whether there is a socket to send to."""
        try:
            return stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            return False

    def send(self, entry: Entry) -> bool:
        """Send an entry; return whether it is on its way: not if nobody listens, or too many wait to be read."""
        data = encode([("SYSLOG_IDENTIFIER", "plugd"), *entry])
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            try:
                self._socket.sendto(data, self._path)  # Never connected: it outlives a restart of the journal.
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                copy = SealedCopy(data, "plugd-journal")
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", copy.descriptor))
                self._socket.sendmsg([], [rights], 0, self._path)
        except OSError:
            return False
        return True

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until the journal has read all that was sent, and return whether it has.

        For those who are about to end: who sent an entry, and in which unit, is looked up as it is read.

        Args:
            timeout: seconds.
        """
        end = time.monotonic() + timeout
        while self._unread():
            if time.monotonic() > end:
                return False
            time.sleep(_FLUSH_PERIOD)
        return True

    def close(self) -> None:
        """Close the socket; nothing can be sent any more."""
        if self._socket is not None:
            self._socket.close()

    def _unread(self) -> int:
        """Return how much of what was sent has not been read, in bytes of the kernel's; SIOCOUTQ, unix(7)."""
        if self._socket is None or self._socket.fileno() < 0:
            return 0
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(count)


def encode(entry: Iterable[tuple[str, str]]) -> bytes:
    """Return an entry as the protocol has it: a value with line ends is told its length, and is no other field."""
    return b"".join(
        _encode_field(name.encode("ascii"), value.encode(errors="backslashreplace")) for name, value in entry
    )


def _encode_field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, struct.pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name, value)
