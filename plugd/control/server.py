"""The accept loop: connections counted, limited and turned into sessions, whatever the descriptors do."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import structlog
from anyio.abc import TaskGroup

from plugd import memory
from plugd.control.access import Peer
from plugd.control.caller import Caller
from plugd.control.connections import Connections
from plugd.control.context import Context
from plugd.control.counts import ACCEPT_FAILED, NO_CREDENTIALS
from plugd.control.session import Session
from plugd.errors import BUSY, CommandError
from plugd.rpc.codec import encode_response

log = structlog.get_logger()

SPARE_DESCRIPTORS = 24  # that clients leave to the daemon's own work, such as a worker's start
SPARE_FOR_ROOT = 16
ACCEPTS_PER_TURN = 32  # then the loop has others to serve
PAUSE = 0.1  # seconds without accepting when descriptors have run out
CROWD = 32  # connections; when it has gone, what it needed is given back
DRAIN = 5.0  # seconds that requests have to be done when plugd stops; then they are cancelled
DRAIN_PERIOD = 0.05  # seconds between two looks whether they are
FAREWELL = 0.5  # seconds that clients have to take the last answers
DEADLINES_PERIOD = 1.0  # seconds between two looks at the deadlines of all connections


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
        self._connections = Connections()
        self._ended = anyio.Event()
        self._patience = anyio.CancelScope()
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._resume: asyncio.TimerHandle | None = None
        self._deadlines: asyncio.TimerHandle | None = None
        self._peak = 0  # of connections, since memory was last given back

    async def __aenter__(self) -> Self:
        return self

    def open(self) -> None:
        """Begin to accept clients; those who have connected before were waiting in the socket's backlog."""
        self._loop.add_reader(self._listener, self._handle_acceptable)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more clients, answer what was asked for, and end the connections.

        Who connects from now on waits in the backlog of the socket: where systemd holds it, for the next plugd.
        """
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._listener)
        try:
            if error is None:
                await self._drain()
        finally:
            if self._deadlines is not None:
                self._deadlines.cancel()
            for session in self._connections.all():
                session.close("plugd is stopping")
            os.close(self._reserve)

    def hasten(self) -> None:
        """Give up waiting for clients, now or when it comes to that: whoever stops plugd has no more patience."""
        self._patience.cancel()

    async def _drain(self) -> None:
        for session in self._connections.all():
            session.drain()
        with self._patience:
            await self._await_end(DRAIN, lambda session: session.awaited)
        for session in self._connections.all():
            session.requests.cancel_all()
        await self._await_end(FAREWELL, lambda _: True)

    async def _await_end(self, timeout: float, matters: Callable[[Session], bool]) -> None:
        """Wait, for so many seconds at most, until there is no session any more that matters."""
        with anyio.move_on_after(timeout):
            while any(map(matters, self._connections.all())):
                self._ended = anyio.Event()
                with anyio.move_on_after(DRAIN_PERIOD):  # One may cease to matter before its client has read all.
                    await self._ended.wait()

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
            self._context.counts.refuse(NO_CREDENTIALS)
            sock.close()
            return
        spare = SPARE_FOR_ROOT if peer.uid == 0 else SPARE_DESCRIPTORS
        if sock.fileno() >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - spare:
            self._context.counts.refuse(ACCEPT_FAILED)
            self._context.audit.record(peer, Caller(None, None), "connect", BUSY, 0.0, {"limit": "open_files"})
            _refuse(sock, "open_files")
            return
        limit = self._connections.make_room(peer.uid, self._context.settings.config.control.limits, self._loop.time())
        if limit is not None:
            self._context.counts.refuse(limit)
            self._context.audit.record(peer, Caller(None, None), "connect", BUSY, 0.0, {"limit": limit})
            _refuse(sock, limit)
            return
        self._context.counts.accept()
        self._connections.add(Session(sock, peer, self._context, self._tasks, self._handle_end))
        self._context.connections = len(self._connections)
        if self._deadlines is None:
            self._deadlines = self._loop.call_later(DEADLINES_PERIOD, self._keep_deadlines)

    def _handle_end(self, session: Session) -> None:
        self._connections.discard(session)
        self._ended.set()
        self._context.connections = len(self._connections)

    def _keep_deadlines(self) -> None:
        """See to it that nobody stays who neither reads nor asks; as long as there is anybody."""
        now = self._loop.time()
        for session in self._connections.all():
            session.keep_deadlines(now)
        self._peak = max(self._peak, len(self._connections))
        if self._peak >= CROWD > 4 * len(self._connections):
            memory.give_back()
            self._peak = 0
        self._deadlines = self._loop.call_later(DEADLINES_PERIOD, self._keep_deadlines) if self._connections else None

    def _handle_exhaustion(self, error: OSError) -> None:
        """No descriptors, or no memory: refuse the client that waits, and rest."""
        if not self._context.counts.as_dict()[f"refused.{ACCEPT_FAILED}"] % 100:
            log.error("accept_failed", reason=error.strerror)
        self._context.counts.refuse(ACCEPT_FAILED)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            os.close(self._reserve)
            try:
                sock, _ = self._listener.accept()
                _refuse(sock, "open_files")
            except OSError:
                pass  # It has gone away meanwhile, or another has taken the descriptor.
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._loop.remove_reader(self._listener)
        self._resume = self._loop.call_later(PAUSE, self._loop.add_reader, self._listener, self._handle_acceptable)


def _refuse(sock: socket.socket, limit: str) -> None:
    with sock:
        try:
            error = CommandError(BUSY, "too many connections", {"limit": limit})
            sock.send(encode_response(None, error.as_dict(), None))
        except OSError:
            pass  # It does not listen; it is not served either way.
