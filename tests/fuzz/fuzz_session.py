"""Fuzzes whole sessions: several clients on a real control server, over real sockets, on a real event loop.

Each program is a batch of clients, which connect, ask everything that there is to ask, rightly and wrongly, in
pieces and all at once, read or do not, close one half or all, in any order, while time passes and plugins change.
What must hold:

- every request is answered once, with its id, or its connection is closed after an error;
- no answer is ``internal``, nothing is logged as an error, nothing reaches the event loop's handler;
- when the clients are gone, so are their sessions, subscriptions, tasks, timers and descriptors.
"""

import asyncio
import contextlib
import os
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
for folder in (TESTS, TESTS / "control", TESTS / "fuzz"):
    sys.path.insert(0, str(folder))

from engine import arguments, engine_of, fuzz, instrumented
from material import ODD, Reader, pack

if __name__ == "__main__":
    FLAGS = arguments(__doc__.partition("\n")[0])
    ENGINE = engine_of(FLAGS.engine)
else:
    ENGINE = "random"

with instrumented(ENGINE):
    from control_rig import serving
    from standins import Plugins

    from plugd.control.access import Role
    from plugd.control.commands import COMMANDS
    from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
    from plugd.rpc.codec import Limits

import anyio
import structlog
from ledger import Client, Violation

CLIENTS = 4
FRAMES = 96  # of one program
PATIENCE = 20.0  # seconds of the clock on the wall for what must happen; nothing waits so long unless it fails
METHODS = [*COMMANDS]
REQUIRED = {"name", "names", "command", "setting", "value", "subscription", "request"}
DEAR = {"methods", "status"}  # half a millisecond each
QUIET = 4  # turns of the loop
HANGUP = 0.6  # seconds, after which the server finds that a client has gone which had half closed
KEYS = tuple(
    SeriesKey(MetricDeclaration("test.value", "gauge", "By", ("number",), "A value."), (str(n),)) for n in range(20)
)
LOGGED = ("error", "critical", "exception")


class Clock:
    """The event loop's time, which can be set forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ahead = 0.0
        self._time: Callable[[], float] = loop.time
        loop.time = self.time  # type: ignore[method-assign]

    def time(self) -> float:
        return self._time() + self._ahead

    def pass_by(self, seconds: float) -> None:
        self._ahead += seconds


class Sessions:
    """A control server, and the batches of clients that it serves."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._clock = Clock(self.loop)
        self._faults: list[str] = []
        self._baseline: dict[str, int] = {}
        self.loop.set_exception_handler(lambda _loop, context: self._faults.append(repr(context)))
        structlog.configure(processors=[self._note])
        self._stop = asyncio.Event()
        ready: asyncio.Future[None] = self.loop.create_future()
        self._serving = self.loop.create_task(self._serve(ready))
        self.loop.run_until_complete(ready)

    def run(self, program: bytes) -> int:
        """Do one program; return how many frames it has sent."""
        return self.loop.run_until_complete(self._run(Reader(program)))

    def close(self) -> None:
        self._stop.set()
        self.loop.run_until_complete(self._serving)
        self.loop.close()

    async def _serve(self, ready: "asyncio.Future[None]") -> None:
        async with serving() as self._server, anyio.create_task_group() as tasks:
            self._context = self._server.context
            self._context.reload_settings = self._reload_settings
            self._plugins = Plugins(self._context.events, tasks)
            self._path = str(self._server.path)
            limits = self._context.settings.config.control.limits
            self._limits = Limits(limits.request_bytes, limits.depth, limits.elements)
            ready.set_result(None)
            await self._stop.wait()

    async def _reload_settings(self, _dry_run: bool = False) -> Callable[[], Any]:
        await asyncio.sleep(0)
        return lambda: None

    def _note(self, _logger: object, method: str, event: Any) -> Any:
        if method in LOGGED:
            self._faults.append(repr(event))
        raise structlog.DropEvent

    # One batch

    async def _run(self, reader: Reader) -> int:
        registry = self._registry = self._plugins.registry()
        self._context.registry = registry
        self._context.replies = type(self._context.replies)()  # No batch hears what was answered in another.
        object.__setattr__(self._context.policy, "_role", reader.choice([Role.ADMIN, Role.OPERATE, Role.READ]))
        self._last: tuple[str, Any] | None = None
        profile = reader.byte()
        self._subscribing = profile & 1 == 1  # Who subscribes stays connected, whatever else has ended.
        self._keyed = profile & 2 == 2  # What has a key goes on without its client.
        self._baseline = self._baseline or self._count()
        endings = [reader.byte() for _ in range(CLIENTS)]  # Behind all the rest there would be nothing left to say how.
        clients: list[Client] = []
        frames = 0
        try:
            at = 0
            while reader.left and frames < FRAMES:
                if not clients:
                    clients.append(Client(self._path, self._limits))
                at %= len(clients)
                match reader.below(32):
                    case 0 if len(clients) < CLIENTS:
                        clients.append(Client(self._path, self._limits))
                        at = len(clients) - 1
                    case 1:
                        at = reader.below(len(clients))
                    case 2 | 3:
                        await self._turn(1 + reader.below(4))
                    case 4:
                        clients[at].read(1 + reader.below(256) * reader.below(256))
                    case 5:
                        if not reader.below(4):
                            clients[at].shutdown()
                    case 6:
                        if not reader.below(4):
                            clients.pop(at).close()
                    case 7:
                        self._plugins.hold.release()
                    case 8:
                        self._happen(reader.below(4))
                    case 9:
                        if not reader.below(8):
                            self._pass_time(clients, reader.choice([6.0, 31.0, 0.6, 700.0]))
                            await self._turn(3)
                    case 10:
                        if not reader.below(8):
                            clients[at].send(reader.choice(ODD) + reader.take(reader.below(16)))
                            frames += 1
                    case 11:
                        if not reader.below(4):
                            clients[at].send(reader.change(self._request(reader, clients[at])))
                            frames += 1
                    case 12:
                        clients[at].send(pack(_message(reader)))
                        frames += 1
                    case 13:
                        data = self._request(reader, clients[at])
                        split = reader.below(len(data))
                        clients[at].send(data[:split])
                        await self._turn(1 + reader.below(2))
                        clients[at].send(data[split:])
                        frames += 1
                    case _:
                        data = self._request(reader, clients[at])
                        clients[at].send(data)
                        frames += 1
            while clients:
                client, ending = clients.pop(), endings.pop()
                try:
                    if ending % 4:
                        await self._settle(client, half_close=ending % 4 == 1)
                finally:
                    client.close()
        finally:
            for client in clients:
                client.close()
        await self._come_to_rest()
        registry.end()
        return frames

    async def _settle(self, client: Client, *, half_close: bool) -> None:
        """Have everything answered that the server owes."""
        if half_close:
            client.shutdown()
        end = time.monotonic() + PATIENCE
        ledger = client.ledger
        while not client.closed_by_server:
            client.flush()
            progress = client.read(1 << 20)
            if ledger.settled and not ledger.broken and (ledger.subscribed or not half_close):
                return  # It would not be closed: there may be more to tell it.
            if not progress:
                self._plugins.hold.release()
                if time.monotonic() > end:
                    raise Violation(f"owed for {PATIENCE} s, or not closed: {dict(ledger.owed)}")
                await asyncio.sleep(0)

    async def _come_to_rest(self) -> None:
        """Wait until there is what there was before the first batch, and stays so."""
        end = time.monotonic() + PATIENCE
        quiet = turns = 0  # a client that has come and gone is accepted in one turn, and has gone in another
        while quiet < QUIET and not self._faults:
            self._plugins.hold.release(lasting_only=not self._keyed)  # For the others nobody waits any longer.
            await asyncio.sleep(0)
            turns += 1
            quiet = quiet + 1 if self._count() == self._baseline else 0
            if QUIET < turns < 2 * QUIET and not quiet:
                self._clock.pass_by(HANGUP)
            if time.monotonic() > end:
                raise Violation(f"left behind: {self._count()}, and not {self._baseline}")
        if self._serving.done():
            raise Violation(f"the server has ended: {self._serving!r}")
        self._faults += self._plugins.hold.faults
        if self._faults:
            faults, self._faults = self._faults, []
            self._plugins.hold.faults.clear()
            raise Violation("\n".join(faults))

    def _count(self) -> dict[str, int]:
        # They are dear to count, and of interest when the sessions are gone.
        descriptors = 0 if self._baseline and self._context.connections else len(os.listdir("/proc/self/fd"))
        return {
            "sessions": self._context.connections,
            "subscriptions": len(self._context.broker),
            "tasks": len(asyncio.all_tasks()),
            "descriptors": descriptors,
        }

    async def _turn(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def _pass_time(self, clients: list[Client], seconds: float) -> None:
        """Let deadlines pass; who has missed one may be told, and closed."""
        self._clock.pass_by(seconds)
        for client in clients:
            client.ledger.excused = True

    def _happen(self, what: int) -> None:
        """Have something to tell subscribers."""
        if what == 0:
            self._context.events.record("demo", 1, "running", "paused", "a cause", None)
            return
        keys = KEYS[: what * 6]
        taking = self._context.store.record("demo", Collection(keys, array("d", [1.0] * len(keys)), 0.0, 0.0, 0.1, {}))
        with contextlib.suppress(StopIteration):
            while True:
                taking.send(None)

    # What clients send

    def _request(self, reader: Reader, client: Client) -> bytes:
        method = METHODS[reader.below(len(METHODS))]
        if (method in DEAR and reader.below(8)) or (method == "subscribe" and not self._subscribing):
            method = "ping"
        kind = reader.below(16)
        identifier = len(client.ids)
        if kind == 0 and client.ids:
            identifier = reader.choice(client.ids)
        elif kind == 1:
            identifier = reader.integer()
        client.ids.append(identifier)
        params = [self._params(reader, method, client)]
        if kind in (6, 7) and self._last is not None:
            method, params = self._last  # As one does who has heard no answer.
        elif kind > 7:
            self._last = method, params
        if kind == 2:
            params = reader.value()
        elif kind == 3:
            method = reader.text()
        elif kind == 4 and not params[0]:
            params = []
        return pack([0, identifier, method.encode() if kind == 5 else method, params])

    def _params(self, reader: Reader, method: str, client: Client) -> Any:
        params: dict[Any, Any] = {}
        for field in COMMANDS[method].parameters.__struct_encode_fields__:
            kind = reader.below(8)
            if field == "request_key" and not self._keyed:
                continue
            if kind < 5 or field in REQUIRED:
                params[field] = reader.value() if kind == 0 else _usual(reader, field, client)
        if not reader.below(32):
            params[reader.text()] = reader.value()
        return params


def _message(reader: Reader) -> Any:
    """Return what is no request, or not quite."""
    return reader.choice(
        [
            [2, reader.text(), [reader.value(3)]],
            [1, reader.integer(), None, reader.value(3)],
            [0, reader.value(3), "ping", []],
            [0, reader.integer(), "ping", reader.value(3)],
            [0, reader.integer(), reader.value(3), []],
            [reader.value(3), 1, "ping", []],
            reader.value(),
        ]
    )


def _usual(reader: Reader, field: str, client: Client) -> Any:
    """Return a value that a parameter of this name may well have."""
    match field:
        case "name":
            return reader.choice(["demo", "held", "nosuch", "demo", b"demo"])
        case "names":
            return reader.choice([["demo"], ["held"], ["nosuch"], [], ["demo", "held"], ["demo", "nosuch", "demo"]])
        case "patterns":
            return reader.choice([[], ["*"], ["demo"], ["test.*"], [reader.text()], ["["]])
        case "command":
            return reader.choice(["echo", "hold", "fail", "large", b"echo"])
        case "args":
            return [reader.value(2) for _ in range(reader.below(3))]
        case "kwargs":
            return {reader.text(): reader.value(3)}
        case "subscription":
            return 1 + reader.below(4)
        case "request":
            return reader.choice(client.ids)
        case "events" | "dry_run" | "cascade" | "origin" | "persist":
            return reader.below(2) == 1
        case "lines":
            return reader.choice([1, 50, 500, 501])
        case "duration" | "interval" | "timeout":
            return reader.choice([1, 0.5, 86400, 0])
        case "request_key":
            return reader.choice(["a", "b", "c"])
        case "expect_generation":
            return reader.choice([1, 0, 2, {"demo": 1}, {"demo": 2, "held": 1}])
        case _:
            return reader.text()


if __name__ == "__main__":
    fuzz("session", Sessions().run, FLAGS, ENGINE)
