"""The accept loop: connections counted, limited and turned into sessions, whatever the descriptors do."""

import asyncio
import errno
import os
import socket
from collections import Counter
from types import TracebackType
from typing import Self

import structlog
from anyio.abc import TaskGroup

from plugd.control.access import Peer
from plugd.control.context import Context
from plugd.control.session import Session
from plugd.errors import BUSY, CommandError
from plugd.rpc.codec import encode_response

log = structlog.get_logger()

ACCEPTS_PER_TURN = 32  # then the loop has others to serve
PAUSE = 0.1  # seconds without accepting when descriptors have run out


class ControlServer:
    """Serves clients on a listening Unix socket; a context manager round the time in which it does.

    anyio's own ``serve`` ends the process when descriptors run out: this loop gives back a reserved one, refuses
    the client, and goes on.

    Args:
        listener: non-blocking and listening; not closed by the server.
        context: the daemon's parts.
        tasks: where requests that take time run.
    """

    def __init__(self, listener: socket.socket, context: Context, tasks: TaskGroup) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._context = context
        self._tasks = tasks
        self._sessions: set[Session] = set()
        self._of_uid: Counter[int] = Counter()
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._resume: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop.add_reader(self._listener, self._handle_acceptable)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._listener)
        if self._resume is not None:
            self._resume.cancel()
        for session in list(self._sessions):
            session.close("plugd is stopping")
        os.close(self._reserve)

    def _handle_acceptable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._handle_exhaustion(error)
                return
            sock.setblocking(False)
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        try:
            peer = Peer.of(sock)
        except OSError:
            self._context.count("refused.no_credentials")
            sock.close()
            return
        limits = self._context.settings.config.control.limits
        room = limits.connections if peer.uid == 0 else limits.connections - 1  # One is kept for root.
        if len(self._sessions) >= room or self._of_uid[peer.uid] >= limits.connections_per_uid:
            self._context.count("refused.connections")
            _refuse(sock)
            return
        self._context.count("accepted")
        self._sessions.add(Session(sock, peer, self._context, self._tasks, self._handle_end))
        self._of_uid[peer.uid] += 1
        self._context.connections = len(self._sessions)

    def _handle_end(self, session: Session) -> None:
        self._sessions.discard(session)
        self._of_uid[session.peer.uid] -= 1
        if not self._of_uid[session.peer.uid]:
            del self._of_uid[session.peer.uid]
        self._context.connections = len(self._sessions)

    def _handle_exhaustion(self, error: OSError) -> None:
        """No descriptors, or no memory: refuse the client that waits, and rest."""
        log.error("accept_failed", reason=error.strerror)
        self._context.count("refused.accept_failed")
        if error.errno in (errno.EMFILE, errno.ENFILE):
            os.close(self._reserve)
            try:
                sock, _ = self._listener.accept()
                _refuse(sock)
            except OSError:
                pass  # It has gone away meanwhile, or another has taken the descriptor.
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._loop.remove_reader(self._listener)
        self._resume = self._loop.call_later(PAUSE, self._loop.add_reader, self._listener, self._handle_acceptable)


def _refuse(sock: socket.socket) -> None:
    with sock:
        try:
            sock.send(encode_response(None, CommandError(BUSY, "too many connections").as_dict(), None))
        except OSError:
            pass  # It does not listen; it is not served either way.
