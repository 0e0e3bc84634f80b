"""What plugd and systemd say to each other: sd_notify(3), sd_listen_fds(3). Silent where there is none."""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

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


def notify_extend_timeout(seconds: float) -> None:
    """Ask for so many seconds from now, at least, before a start, reload or stop that lasts is given up."""
    _notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")


def notify_watchdog() -> None:
    """Say that the daemon does what it is for; without it for :func:`watchdog_seconds` it is killed."""
    _notify("WATCHDOG=1")


def listens(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether there is a manager to tell anything."""
    return environ.get("NOTIFY_SOCKET", "").startswith(("/", "@"))


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return within how many seconds the manager wants :func:`notify_watchdog`: sd_watchdog_enabled(3).

    None: it does not want it, or of another process.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):  # It is a parent of ours that is watched.
        return None
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and int(microseconds) else None


class HandedOver(NamedTuple):
    """A descriptor that LISTEN_FDS told of.

    Either ``listener`` is a listening Unix stream socket at an absolute ``path``, and the caller owns it; or it
    is None, ``fault`` says what is wrong with the descriptor, and that has been closed.
    """

    descriptor: int
    listener: socket.socket | None
    path: str = ""
    fault: str = ""


def listen_sockets(environ: MutableMapping[str, str] = os.environ) -> list[HandedOver]:
    """Return what systemd, or whoever speaks its protocol, handed over; empty if nothing is meant for this process.

    The environment's word on it is removed, so that no child takes it for its own, and no child inherits the
    descriptors.
    """
    variables = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = variables["LISTEN_FDS"]
    # The variables are inherited, and may be meant for a parent of this process.
    if variables["LISTEN_PID"] != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return []
    return [_adopt(fd) for fd in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count[:4]))]


def _notify(*lines: str) -> None:
    if not listens():
        return
    address = os.environ["NOTIFY_SOCKET"]
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


def _adopt(fd: int) -> HandedOver:
    try:
        os.set_inheritable(fd, False)
    except OSError:
        return HandedOver(fd, None, fault="it is not open")
    try:
        listener = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return HandedOver(fd, None, fault="it is no socket")
    fault = _fault(listener)
    if fault:
        listener.close()
        return HandedOver(fd, None, fault=fault)
    return HandedOver(fd, listener, listener.getsockname())


def _fault(listener: socket.socket) -> str:
    """Say why nobody can be served there; nothing where one can."""
    if listener.family != socket.AF_UNIX:
        return "it is no Unix socket"
    if listener.type != socket.SOCK_STREAM:
        return "it is no stream socket"
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it does not listen; a socket unit must have Accept=no"
    address = listener.getsockname()
    if isinstance(address, bytes):  # unix(7): that of an abstract socket begins with a zero byte
        return "its address is abstract, which no permissions guard; it must be a path"
    if not address.startswith("/"):
        return f"its path is not absolute: {address!r}" if address else "it has no address; it must be a path"
    return ""
