"""Which program is at the other end: for the audit, which names a unit or a command and not a mere number."""

import errno
import os
import select
import socket
from typing import NamedTuple

from plugd.control.access import Peer

SO_PEERPIDFD = 77  # linux/socket.h; since Linux 6.5
_UNITS = (".service", ".scope", ".socket", ".timer", ".mount", ".slice")
_FILE_BYTES = 4096


class Caller(NamedTuple):
    """What runs there: its systemd unit, and its command name; None what is not known."""

    unit: str | None
    command: str | None


def caller_of(sock: socket.socket, peer: Peer) -> Caller:
    """Return which program a connected socket's peer is; nothing where that is not certain.

    Sources: /proc/PID/cgroup and /proc/PID/comm, cgroups(7), proc(5). A pid that has ended may be somebody else's by
    now: where the kernel has SO_PEERPIDFD, what was read counts only if the process is still there afterwards. A
    process gives itself whatever command name it likes.
    """
    try:
        pidfd = _pidfd_of(sock)
    except OSError:
        return Caller(None, None)  # It has ended: /proc has nothing of it, or a stranger.
    try:
        caller = Caller(
            unit_in(_read(f"/proc/{peer.pid}/cgroup")), _read(f"/proc/{peer.pid}/comm").rstrip("\n") or None
        )
        return Caller(None, None) if pidfd is not None and _has_ended(pidfd) else caller
    finally:
        if pidfd is not None:
            os.close(pidfd)


def unit_in(cgroups: str) -> str | None:
    """Return the systemd unit that the text of /proc/PID/cgroup names: ``a.service``, ``user@1000.service/b.scope``.

    What lies below a unit is named by whoever runs in it, and does not pass for a unit of the system.
    """
    for line in cgroups.split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or controllers == "name=systemd":
            parts = [part for part in path.split("/") if part.endswith(_UNITS)]
            if parts:
                return "/".join(part for part in parts if not part.endswith(".slice")) or parts[-1]
    return None


def _pidfd_of(sock: socket.socket) -> int | None:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None  # An older kernel.
        raise


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_FILE_BYTES).decode(errors="backslashreplace")
    except OSError:
        return ""
