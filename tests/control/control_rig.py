"""What the control tests share: a raw connection, plugins to ask, and a control server in this process."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import anyio
import msgpack
import pytest
from harness import Daemon, wait_until

from plugd.catalog.discovery import Found
from plugd.config import validate
from plugd.control.access import AccessPolicy, Peer, Role
from plugd.control.context import Context
from plugd.control.listener import listening_socket
from plugd.control.server import ControlServer
from plugd.hosting.cgroups import Cgroups
from plugd.hosting.environment import Environment
from plugd.hosting.events import EventLog
from plugd.hosting.registry import Registry
from plugd.log import LogRing
from plugd.sampling.scheduler import Scheduler
from plugd.sampling.store import MetricStore
from plugd.sampling.subscription import Broker
from plugd.settings import Flags, resolve
from plugd.settings_files import merge, parse

DEADLINE = 20.0  # seconds, for what must happen

PLAIN = '''"""A plain plugin."""

from plugd.plugin import Gauge, Plugin


class {title}(Plugin):
    interval = 3600.0

    value = Gauge("test.value")

    def collect(self):
        yield self.value(1)
'''

DEMO = '''"""A plugin with everything.

And more of its docstring.
"""

import sys

from plugd.plugin import Counter, Gauge, Plugin, command, setting


class Demo(Plugin):
    version = "1.2.3"
    interval = 3600.0
    timeout = 9.0

    level = Gauge("test.level", unit="By", labels=("place", "number"), help="How high it stands.")
    events = Counter("test.events", unit="{event}", labels={"kind": "event.kind"}, help="How many there were.")

    colour: str = setting("red", help="Of the display.", choices=("red", "green"))
    gain: float = setting(1.5, minimum=0.0, maximum=10.0)
    loud: bool = setting(False)

    class Options:
        greeting: str = "hello"
        limit: int = 3

    def collect(self):
        print("collecting")
        yield self.level(12, place="here", number=0)
        yield self.level(0.5, place="there", number=1)
        yield self.events(7, kind="good")

    @command
    def add(self, first: int, second: int = 2) -> int:
        """Add two numbers.

        Nothing else.
        """
        return first + second

    @command
    def echo(self, value):
        """Give back what was given."""
        return value

    @command
    def fail(self):
        raise ValueError("on purpose")

    @command
    def impossible(self):
        return {1, 2}
'''


# Waits for SIGUSR1, however early that comes: a worker may not reach the files of a test. Not with sigwait, in
# which the signal does not count as blocked.
_WAITING = """
import signal
import time

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def wait():
    while signal.SIGUSR1 not in signal.sigpending():
        time.sleep(0.005)
"""

HOLD = f'''"""Waits."""
{_WAITING}
from plugd.plugin import Gauge, Plugin, command


class Hold(Plugin):
    interval = 3600.0

    value = Gauge("test.value")
    done = 0

    def collect(self):
        yield self.value(1)

    @command
    def hold(self) -> int:
        if not self.done:
            wait()
        self.done += 1
        return self.done
'''


def importing(title: str) -> str:
    """Return a plugin that is imported when it is released."""
    head, _, rest = PLAIN.format(title=title).partition("\n\n")
    return f"{head}\n{_WAITING}\n\nwait()\n\n{rest}"


def release(running: Daemon, name: str) -> None:
    """Let the worker of this plugin go on that waits, or is about to."""

    def waiting() -> list[int]:  # Its source is analysed in a process of the same name, which lives for a moment.
        workers = [pid for pid, process in running.processes().items() if process == f"plugd:{name}"]
        return [pid for pid in workers if _blocks(pid, signal.SIGUSR1)]

    (pid,) = wait_until(waiting, "a worker that is ready for a signal")
    os.kill(pid, signal.SIGUSR1)


def _blocks(pid: int, number: int) -> bool:
    """Whether the signal is blocked: /proc/PID/status, SigBlk."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # It has ended.
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask, 16) >> number - 1 & 1)


class Wire:
    """A blocking connection on which anything may be sent."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # With a timeout it would not wait where the backlog is full.
        self.socket.settimeout(DEADLINE)
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=2**31 - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: Any) -> None:
        """Send frames; bytes are sent as they are."""
        self.socket.sendall(b"".join(each if isinstance(each, bytes) else msgpack.packb(each) for each in frames))

    def frame(self) -> list[Any]:
        """Return the next frame."""
        while True:
            for frame in self._unpacker:
                return cast("list[Any]", frame)
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._unpacker.feed(data)

    def rest(self) -> list[list[Any]]:
        """Return the frames until the other end closes."""
        frames = []
        while True:
            try:
                frames.append(self.frame())
            except ConnectionError:  # Reset, where the other end had not read everything: unix(7).
                return frames

    @property
    def closed(self) -> bool:
        """Whether the other end has closed; what it had sent before may be unread."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def ask(self, method: Any, *params: Any, id: Any = 1) -> tuple[Any, Any]:
        """Return the error and the result of a request."""
        self.send([0, id, method, list(params)])
        kind, identifier, error, result = self.frame()
        assert (kind, identifier) == (1, id)
        return error, result


class AsyncWire:
    """The same on the event loop of this process, on which the server runs as well."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.notifications: list[tuple[str, dict[str, Any]]] = []
        self._loop = asyncio.get_running_loop()
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=2**31 - 1)
        self._last_id = 0

    async def send(self, *frames: Any) -> None:
        data = b"".join(each if isinstance(each, bytes) else msgpack.packb(each) for each in frames)
        await self._loop.sock_sendall(self.socket, data)

    async def frame(self) -> list[Any]:
        while True:
            for frame in self._unpacker:
                return cast("list[Any]", frame)
            with anyio.fail_after(DEADLINE):
                data = await self._loop.sock_recv(self.socket, 65536)
            if not data:
                raise ConnectionError("closed")
            self._unpacker.feed(data)

    async def ask(self, method: str, **params: Any) -> tuple[Any, Any]:
        """Return the error and the result of a request; notifications that come before are kept."""
        self._last_id += 1
        await self.send([0, self._last_id, method, [params] if params else []])
        while True:
            frame = await self.frame()
            if frame[0] == 2:
                self.notifications.append((frame[1], frame[2][0]))
                continue
            assert frame[:2] == [1, self._last_id]
            return frame[2], frame[3]

    async def call(self, method: str, **params: Any) -> Any:
        error, result = await self.ask(method, **params)
        assert error is None, error
        return result

    async def notification(self) -> tuple[str, dict[str, Any]]:
        """Return the next notification."""
        if not self.notifications:
            frame = await self.frame()
            assert frame[0] == 2, frame
            self.notifications.append((frame[1], frame[2][0]))
        return self.notifications.pop(0)


class FixedRole(AccessPolicy):
    """A policy that gives everybody one role."""

    __slots__ = ("_role",)

    def __init__(self, role: Role) -> None:
        super().__init__(0)
        object.__setattr__(self, "_role", role)

    def role_of(self, peer: Peer) -> Role:
        return cast("Role", self._role)


class Serving:
    """A control server in this process, with no plugins; ``store`` and ``events`` feed its subscriptions."""

    def __init__(self, path: Path, context: Context) -> None:
        self.path = path
        self.context = context
        self.store = context.store
        self.events = context.events
        self._stack = contextlib.ExitStack()

    async def connect(self) -> AsyncWire:
        """Connect; the connection is closed at the end."""
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(self.path))
        return AsyncWire(sock)

    def close(self) -> None:
        self._stack.close()


@contextlib.asynccontextmanager
async def serving(role: Role = Role.ADMIN, config: str = "") -> AsyncIterator[Serving]:
    """Run a control server in this process, whose clients all have one role."""
    store, events = MetricStore(), EventLog()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pt-")))
        path = directory / "control.sock"
        environ = {"HOME": str(directory), "CONFIGURATION_DIRECTORY": str(directory / "etc")}
        settings = resolve(Flags(socket=str(path)), environ, 1000)
        if config:
            settings = settings._replace(config=validate(merge([parse(config.encode(), "test.toml")])))
        parts = SimpleNamespace(forkserver=SimpleNamespace(restarts=0), cgroups=Cgroups())
        registry = Registry(cast("Environment", parts), lambda: Found({}, []))

        async def reload_settings(_dry_run: bool) -> Callable[[], Found]:
            return lambda: Found({}, [])

        context = Context(
            settings=settings,
            registry=registry,
            store=store,
            scheduler=Scheduler(),
            broker=Broker(store, events),
            events=events,
            ring=LogRing(),
            policy=FixedRole(role),
            reload_settings=reload_settings,
            started_at=time.time(),
            started_monotonic=time.monotonic(),
            boot_id=uuid.uuid4().hex,
        )
        listener = stack.enter_context(listening_socket(str(path), 0o600, None))
        async with anyio.create_task_group() as tasks, ControlServer(listener, context, tasks) as control:
            control.open()
            server = Serving(path, context)
            stack.callback(server.close)
            yield server
            tasks.cancel_scope.cancel()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true"
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def as_user(uid: int, gid: int | None = None) -> Iterator[None]:
    """Be another user meanwhile, if this one is root: who connects then is that one to the daemon, unix(7)."""
    if os.getuid() != 0:
        pytest.skip("takes root: it becomes another user")
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextlib.contextmanager
def wires(path: Path, count: int) -> Iterator[list[Wire]]:
    """Open several connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Wire(path)) for _ in range(count)]
