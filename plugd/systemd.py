"""What plugd and systemd say to each other: sd_notify(3), sd_listen_fds(3). Silent where there is none."""

import os
import socket
import time
from collections.abc import MutableMapping

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def notify_ready(status: str = "") -> None:
    """Say that the daemon serves requests, or does so again after a reload."""
    _notify("READY=1", *_status(status))


def notify_reloading() -> None:
    """Say that a reload has begun; :func:`notify_ready` ends it."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def notify_stopping(status: str = "") -> None:
    """Say that the daemon is on its way out."""
    _notify("STOPPING=1", *_status(status))


def notify_status(status: str) -> None:
    """Set the line that ``systemctl status`` shows."""
    _notify(*_status(status))


def listen_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening Unix stream sockets that systemd handed over; the caller owns them.

    The environment's word on them is removed, so that no child takes it for its own. Descriptors that are
    anything else are closed: nobody would ever answer on them.
    """
    variables = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = variables["LISTEN_FDS"]
    # The variables are inherited, and may be meant for a parent of this process.
    if variables["LISTEN_PID"] != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return []
    adopted = [_adopt(fd) for fd in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count[:4]))]
    return [listener for listener in adopted if listener is not None]


def _notify(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(errors="replace"), address)
    except OSError:
        pass  # A manager that does not listen is no reason to stop serving


def _status(status: str) -> list[str]:
    # A line end would begin another assignment.
    return [f"STATUS={' '.join(status.split())}"] if status else []


def _adopt(fd: int) -> socket.socket | None:
    try:
        os.set_inheritable(fd, False)
    except OSError:  # Not open
        return None
    try:
        listener = socket.socket(fileno=fd)
    except OSError:  # Not a socket
        os.close(fd)
        return None
    kind = (listener.family, listener.type)
    if kind == (socket.AF_UNIX, socket.SOCK_STREAM) and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return listener
    listener.close()
    return None
