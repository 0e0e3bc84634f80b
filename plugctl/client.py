"""A blocking client of the control socket.

It is made of ``_socket`` and msgpack alone, since a call's latency is its imports: ``socket`` brings selectors
and enum with it, and typing alone takes as long as msgpack and all of plugctl.
"""

from __future__ import annotations

import errno
import os
import struct
from _socket import AF_UNIX, SO_PEERCRED, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket  # noqa: N812 - a class
from time import monotonic

import msgpack

from plugctl.errors import CallError, error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

REQUEST = 0
RESPONSE = 1
NOTIFICATION = 2
FRAME_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
CANCEL_WAIT = 1.0  # seconds


def connect(paths: Sequence[str], timeout: float, is_trusted: Callable[[int], bool]) -> Client:
    """Connect to the first of the paths at which a daemon listens.

    Nothing is sent to a daemon that is not trusted, and no other is tried in its place: whoever can put a socket
    at one of the paths could otherwise choose which daemon is asked.

    Args:
        paths: paths of sockets, the likeliest first.
        timeout: seconds that connecting, and afterwards each request, may take.
        is_trusted: tells of a user's number whether a daemon may run as that.

    Raises:
        CallError: ``client.no_daemon``, ``client.denied``, ``client.untrusted``, or ``client.timeout``.
    """
    reasons = []
    denied = ""
    for path in paths:
        try:
            return Client(lambda path: _connect(path, timeout, is_trusted), path, timeout)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                denied = denied or path
            reasons.append(f"{path!r}: {_reason(error)}")
    if denied:
        raise CallError("client.denied", f"cannot open socket {denied!r}: permission denied", {"socket": denied})
    raise CallError("client.no_daemon", f"cannot reach plugd at {'; '.join(reasons)}", {"sockets": list(paths)})


def _connect(path: str, timeout: float, is_trusted: Callable[[int], bool]) -> Socket:
    connection = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        # Blocking, with the kernel's own timeout: a socket that does not block is refused with EAGAIN, and not
        # queued, while the daemon's backlog is full (unix(7)).
        connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _timeval(timeout))
        connection.connect(path)
        uid = _peer_uid(connection)
        if not is_trusted(uid):
            raise _untrusted(path, uid)
    except BlockingIOError:
        connection.close()
        message = f"cannot connect to {path!r} within {timeout:g} s"
        raise CallError("client.timeout", message, {"socket": path, "timeout": timeout}) from None
    except BaseException:
        connection.close()
        raise
    return connection


class Client:
    """A connection to the daemon, and its owner: closed at the end of a ``with`` block.

    Args:
        connect_to: returns a connected socket to a path; raises OSError or CallError. It is called at once, and again
            where a daemon that stops takes no more.
        path: of the daemon's socket.
        timeout: seconds for each request.
    """

    def __init__(self, connect_to: Callable[[str], Socket], path: str, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._connect_to = connect_to
        self._last_id = 0
        self._begin()

    def _begin(self) -> None:
        self._connection = self._connect_to(self.path)
        self._unpacker = msgpack.Unpacker(max_buffer_size=FRAME_BYTES, strict_map_key=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        on_notification: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> Any:
        """Send a request and wait for its result.

        A daemon that stops refuses what it will not answer before it is sent: then the request is sent anew, to the
        one that takes its place at the same socket.

        Args:
            method: the method's name.
            params: its parameters, by name.
            on_notification: called with each notification that comes before the answer.

        Raises:
            CallError: the daemon's error; ``client.timeout``; ``client.closed``; ``client.protocol``.
        """
        deadline = monotonic() + self.timeout
        self._last_id += 1
        data = msgpack.packb([REQUEST, self._last_id, method, [params] if params else []])
        taken = self._send(data, deadline, method)
        while True:
            try:
                frame = self._receive(deadline, method)
            except CallError as error:
                if taken or monotonic() >= deadline:
                    raise
                self.reconnect(error)
                taken = self._send(data, deadline, method)
                continue
            if frame[0] == RESPONSE and frame[1] in (self._last_id, None):  # None: it could not even read our id
                if frame[2] is not None:
                    raise error_of(frame[2])
                return frame[3]
            if frame[0] == NOTIFICATION and on_notification is not None:
                on_notification(*_notification(frame))

    def cancel(self) -> None:
        """Cancel the request that is under way, and wait a moment for its answer; there may be nobody to give it."""
        deadline = monotonic() + CANCEL_WAIT
        request = self._last_id
        self._last_id += 1
        params = [{"request": request}]
        try:
            self._send(msgpack.packb([REQUEST, self._last_id, "cancel", params]), deadline, "cancel")
            while self._receive(deadline, "cancel")[:2] != [RESPONSE, request]:
                pass
        except CallError:
            pass  # It ends with the connection.

    def reconnect(self, error: CallError) -> None:
        """Connect anew, to the daemon that takes the place of one that has closed the connection.

        Raises:
            CallError: ``error`` itself, where that is no ``client.closed``, or nobody takes the place; or why the
                new one cannot be asked.
        """
        if error.code != "client.closed":
            raise error
        self._connection.close()
        try:
            self._begin()
        except OSError:
            raise error from None

    def next_notification(self) -> tuple[str, dict[str, Any]]:
        """Wait, without an end, for a notification; return its method and its parameters.

        Raises:
            CallError: ``client.closed`` or ``client.protocol``.
        """
        while True:
            frame = self._receive(None, "")
            if frame[0] == NOTIFICATION:
                return _notification(frame)

    def _send(self, data: bytes, deadline: float, method: str) -> bool:
        """Return whether the daemon has taken it; where not, it has hung up, and may have said why before."""
        self._connection.settimeout(max(deadline - monotonic(), 0.001))
        try:
            self._connection.sendall(data)
        except TimeoutError:
            raise self._timed_out(method) from None
        except OSError:
            return False
        return True

    def _receive(self, deadline: float | None, method: str) -> list[Any]:
        """Return the next frame; a deadline of None never comes."""
        while True:
            try:
                for frame in self._unpacker:
                    return _checked(frame, self.path)
            except (ValueError, msgpack.UnpackException):
                raise _not_plugd(self.path) from None
            self._connection.settimeout(None if deadline is None else max(deadline - monotonic(), 0.001))
            try:
                data = self._connection.recv(CHUNK_BYTES)
            except TimeoutError:
                raise self._timed_out(method) from None
            except OSError as error:
                raise self._closed(method, _reason(error)) from None
            if not data:
                raise self._closed(method, "")
            try:
                self._unpacker.feed(data)
            except (ValueError, msgpack.UnpackException):
                raise _not_plugd(self.path) from None

    def _timed_out(self, method: str) -> CallError:
        message = f"no answer to {method!r} from {self.path!r} within {self.timeout:g} s"
        return CallError("client.timeout", message, {"socket": self.path, "timeout": self.timeout})

    def _closed(self, method: str, reason: str) -> CallError:
        message = "plugd closed the connection"
        if method:
            message += f" before it answered {method!r}"
        return CallError("client.closed", f"{message}: {reason}" if reason else message, {"socket": self.path})


def _checked(frame: Any, path: str) -> list[Any]:
    sizes = {REQUEST: 4, RESPONSE: 4, NOTIFICATION: 3}
    if type(frame) is not list or not frame or type(frame[0]) is not int or len(frame) != sizes.get(frame[0]):
        raise _not_plugd(path)
    return frame


def _notification(frame: list[Any]) -> tuple[str, dict[str, Any]]:
    params = frame[2]
    return str(frame[1]), params[0] if type(params) is list and params and type(params[0]) is dict else {}


def _peer_uid(connection: Socket) -> int:
    """Return whose the socket at the other end is: who it was that listened there, be it for the daemon, as systemd."""
    _, uid, _ = struct.unpack("@iII", connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))  # struct ucred: unix(7)
    return uid  # type: ignore[no-any-return]


def _untrusted(path: str, uid: int) -> CallError:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = None  # A user that only the kernel knows
    user = f"{uid} ({name})" if name else str(uid)
    message = f"the daemon at {path!r} runs as user {user}, which is neither root nor you; --daemon-user NAME trusts it"
    return CallError("client.untrusted", message, {"socket": path, "uid": uid, "user": name})


def _not_plugd(path: str) -> CallError:
    return CallError("client.protocol", f"what answers at {path!r} does not speak msgpack-RPC", {"socket": path})


def _reason(error: OSError) -> str:
    if error.errno is None:
        return str(error)  # such as "AF_UNIX path too long"
    return os.strerror(error.errno).lower()


def _timeval(seconds: float) -> bytes:
    """``struct timeval``: seconds and microseconds, each a long."""
    whole, rest = divmod(max(int(seconds * 1e6), 1), 1_000_000)  # 0 would mean for ever
    return struct.pack("@ll", whole, rest)
