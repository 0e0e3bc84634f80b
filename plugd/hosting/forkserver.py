"""The daemon's end of the forkserver: starts it, asks it for workers, replaces it when it dies."""

import asyncio
import functools
import os
import signal
import socket
import sys
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import msgpack
import structlog

from plugd.hosting.confinement import forkserver_environment
from plugd.prctl import PR_SET_CHILD_SUBREAPER, prctl

log = structlog.get_logger()

SPAWN_TIMEOUT = 5.0  # seconds; a fork takes a few milliseconds, the first one waits for the imports
ATTEMPTS = 2  # the second with a new forkserver
PACKET_BYTES = 64 * 1024
SETTLED = 2.0  # seconds; one that dies sooner has something wrong with it, and is started again more slowly


class Spawned(NamedTuple):
    """A worker process that has just been forked. Whoever takes it closes all four descriptors."""

    pid: int
    pidfd: int
    channel: socket.socket  # non-blocking
    stdout: int  # read end of a pipe, non-blocking
    stderr: int


class ForkServerError(Exception):
    """No worker could be forked; the message says why."""


class ForkServer:
    """A context manager round the forkserver process; ends it on leaving.

    Workers do not depend on it once they are forked: they are children of this process, which is made a
    child subreaper, and die with it.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._channel: socket.socket | None = None
        self._pidfd = -1
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._asked: float | None = None  # when it was asked for a sign of life, and has not given it yet
        self._answer: asyncio.Future[tuple[int, int]]
        self._restart: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._early_deaths = 0
        self.pid = 0
        self.restarts = -1

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end("plugd is stopping")
        if self._restart is not None:
            self._restart.cancel()

    async def spawn(self, name: str, rules: dict[str, Any], image: int | None = None) -> Spawned:
        """Fork a worker for the plugin ``name``, which confines itself to ``rules`` before it does anything else.

        Args:
            name: what ps shows of it.
            rules: see ``plugd.worker.confine``.
            image: a descriptor that the worker gets a copy of: that of a sealed copy of a native plugin.

        Raises:
            ForkServerError: there are no processes, descriptors or memory for it; the message says which.
        """
        for _ in range(ATTEMPTS):
            if self._channel is None:
                self._start()
            try:
                return await self._spawn(name, rules, image)
            except (BrokenPipeError, ConnectionResetError) as error:
                reason = f"the forkserver is gone: {error.strerror}"
                self._end("died")  # Before its death has been told: the next attempt would meet it again.
            except ConnectionError as error:
                reason = str(error)
            except TimeoutError:
                reason = f"the forkserver did not answer within {SPAWN_TIMEOUT:.0f} s"
                self._replace_stuck()
            except OSError as error:
                raise ForkServerError(f"cannot make a worker's descriptors: {error.strerror}") from error
        raise ForkServerError(reason)

    async def answers(self, timeout: float) -> bool:
        """Return whether the forkserver answers within the time; one that has been silent for too long is replaced.

        Args:
            timeout: seconds.
        """
        if self._channel is None:
            return False
        if self._asked is None:
            self._sequence += 1
            self._asked = self._loop.time()
            self._answer = self._waiting[self._sequence] = self._loop.create_future()
            self._answer.add_done_callback(functools.partial(self._handle_sign_of_life, self._sequence))
            try:
                self._channel.send(msgpack.packb([self._sequence]))
            except OSError:
                pass  # It has ended, or there are thousands of requests before this one.
        answered, _ = await asyncio.wait([self._answer], timeout=timeout)
        if not answered and self._asked is not None and self._loop.time() - self._asked > SPAWN_TIMEOUT:
            self._replace_stuck()
        return bool(answered) and self._answer.exception() is None

    def _handle_sign_of_life(self, sequence: int, _: asyncio.Future[tuple[int, int]]) -> None:
        del self._waiting[sequence]
        self._asked = None

    def _replace_stuck(self) -> None:
        """End a forkserver that is stopped, or stuck: it is of no use to anybody."""
        log.warning("forkserver_stuck", pid=self.pid)
        self._end("no answer")
        self._start()

    def children(self) -> tuple[int, ...] | None:
        """Return the pid of the forkserver; None while a worker is being forked, and not known yet."""
        return None if self._waiting else (self.pid,)

    async def _spawn(self, name: str, rules: dict[str, Any], image: int | None) -> Spawned:
        opened: list[int] = []  # closed in any case but success
        theirs: list[int] = []  # closed in any case
        assert self._channel is not None
        try:
            ours, their_channel = socket.socketpair()
            theirs.append(their_channel.detach())
            channel = ours.detach()
            opened.append(channel)
            for _ in ("stdout", "stderr"):
                read, write = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(read, False)
                opened.append(read)
                theirs.append(write)
            self._sequence += 1
            sequence = self._sequence
            future: asyncio.Future[tuple[int, int]] = self._loop.create_future()
            self._waiting[sequence] = future
            try:
                packet = msgpack.packb([sequence, name, rules])
                if len(packet) > PACKET_BYTES:
                    raise ForkServerError(f"its environment and sandbox take {len(packet)} bytes of {PACKET_BYTES}")
                socket.send_fds(self._channel, [packet], theirs if image is None else [*theirs, image])
                with anyio.fail_after(SPAWN_TIMEOUT):
                    pid, pidfd = await future
            finally:
                del self._waiting[sequence]
            sock = socket.socket(fileno=channel)
            sock.setblocking(False)
            _, stdout, stderr = opened
            opened = []
            return Spawned(pid, pidfd, sock, stdout, stderr)
        finally:
            for descriptor in theirs + opened:
                os.close(descriptor)

    def _start(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        command = [sys.executable, "-I", "-B", "-m", "plugd.worker.forkserver", str(os.getpid())]
        with theirs:
            # A session of its own: Ctrl-C in the daemon's terminal is the daemon's business.
            self.pid = os.posix_spawn(
                sys.executable,
                command,
                forkserver_environment(os.environ),
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
                setsigmask=(),
            )
        self._channel = ours
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(ours, self._handle_answer)
        self._loop.add_reader(self._pidfd, self._handle_death)
        self.restarts += 1
        self._started = self._loop.time()
        log.debug("forkserver_started", pid=self.pid)

    def _handle_answer(self) -> None:
        assert self._channel is not None
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._channel, PACKET_BYTES, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._loop.remove_reader(self._channel)  # Its death is told by the pidfd.
            return
        sequence, pid, error = msgpack.unpackb(packet)
        future = self._waiting.get(sequence)
        if future is None or future.done():
            for descriptor in descriptors:  # Nobody waits any more: the worker ends when its channel closes.
                os.close(descriptor)
        elif error is not None:
            future.set_exception(ForkServerError(error))
        else:
            future.set_result((pid, descriptors[0] if descriptors else -1))

    def _handle_death(self) -> None:
        self._end("died")
        log.warning("forkserver_died", pid=self.pid)
        lived = self._loop.time() - self._started
        self._early_deaths = self._early_deaths + 1 if lived < SETTLED else 0
        delay = min(0.1 * 2**self._early_deaths, 10.0) if self._early_deaths else 0.0
        self._restart = self._loop.call_later(delay, self._start)

    def _end(self, reason: str) -> None:
        if self._channel is None:
            return
        self._loop.remove_reader(self._channel)
        self._loop.remove_reader(self._pidfd)
        self._channel.close()
        self._channel = None
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It is dead already, which is what was wanted.
        os.close(self._pidfd)
        os.waitpid(self.pid, 0)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(f"the forkserver is gone: {reason}"))
