"""Whole sessions that hypothesis thinks up: several clients at one server, in any order. Longer: ``make fuzz``."""

import asyncio
import os
import time
from typing import Any

import msgpack
import structlog
from control_rig import serving
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from ledger import Client, Violation

from plugd.control.access import Role
from plugd.control.commands import COMMANDS
from plugd.rpc.codec import Limits

PATIENCE = 20.0  # seconds for what must happen; nothing waits so long unless it fails

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    | st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999))
)
keys = st.text(max_size=8) | st.binary(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["demo", "nosuch", "a" * 65, "Demo", "demo@1"])
usual = (
    st.sampled_from([True, False, 0, 1, 2, 3, 50, 1.5, "*", "["]) | names | st.lists(names | st.just("*"), max_size=3)
)
ids = st.integers(0, 9) | st.integers(-(2**63), 2**64 - 1)
ODD = [
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 40,
    b"\x82\xa1a\x01\xa1a\x02",
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request of a method that there is, with parameters that it has, right or wrong; it is well-formed."""
    method = draw(st.sampled_from(sorted(COMMANDS)))
    fields = COMMANDS[method].parameters.__struct_encode_fields__
    params = draw(st.dictionaries(st.sampled_from(fields), usual | values, max_size=4)) if fields else {}
    if draw(st.integers(0, 9)) == 0:
        params |= draw(st.dictionaries(keys, values, max_size=2))
    return bytes(msgpack.packb([0, draw(ids), method, [params] if params or draw(st.booleans()) else []]))


messages = st.tuples(values, values, values, values).map(list) | st.tuples(st.just(2), st.text(), st.just([])) | values
whole = requests() | messages.map(msgpack.packb)


class Conversations(RuleBasedStateMachine):
    """Clients that say anything; whatever they do, each request is answered once, and in the end nothing is left."""

    clients: Bundle[Client] = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._faults: list[str] = []
        self._open: list[Client] = []
        self._loop.set_exception_handler(lambda _loop, context: self._faults.append(repr(context)))
        self._before = structlog.get_config()
        structlog.configure(processors=[self._note])
        self._stop = asyncio.Event()

    @initialize(role=st.sampled_from(Role))
    def serve(self, role: Role) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._serving = self._loop.create_task(self._serve(role, ready))
        self._loop.run_until_complete(ready)
        self._turns(3)
        self._baseline = self._count()

    @rule(target=clients)
    def connect(self) -> Client:
        client = Client(self._path, self._limits)
        self._open.append(client)
        return client

    @rule(client=clients, frames=st.lists(whole, min_size=1, max_size=6))
    def send(self, client: Client, frames: list[bytes]) -> None:
        client.send(b"".join(frames))

    @rule(client=clients, frame=requests(), at=st.integers(0, 200), turns=st.integers(0, 3))
    def send_in_pieces(self, client: Client, frame: bytes, at: int, turns: int) -> None:
        client.send(frame[:at])
        self._turns(turns)
        client.send(frame[at:])

    @rule(client=clients, data=st.binary(max_size=20) | st.sampled_from(ODD))
    def send_anything(self, client: Client, data: bytes) -> None:
        client.send(data)

    @rule(count=st.integers(1, 5))
    def take_turns(self, count: int) -> None:
        self._turns(count)

    @rule(client=clients, size=st.integers(1, 100_000))
    def read(self, client: Client, size: int) -> None:
        client.read(size)

    @rule(client=clients)
    def half_close(self, client: Client) -> None:
        client.shutdown()

    @rule(client=consumes(clients))
    def close(self, client: Client) -> None:
        self._open.remove(client)
        client.close()

    @rule(client=consumes(clients))
    def hear_all(self, client: Client) -> None:
        """Wait until everything is answered, or there is a reason that it is not."""
        end = time.monotonic() + PATIENCE
        while not client.closed_by_server and (client.ledger.broken or not client.ledger.settled):
            client.flush()
            if not client.read(1 << 20):
                self._turns(1)
            assert not self._faults
            assert time.monotonic() < end, client.ledger.owed
        self.close(client)

    @rule()
    def something_happens(self) -> None:
        self._server.events.record("demo", 1, "running", "paused", "a cause", None)

    @invariant()
    def nothing_fails(self) -> None:
        assert not self._faults
        assert not self._serving.done()

    def teardown(self) -> None:
        try:
            for client in list(self._open):
                self.hear_all(client)
            end = time.monotonic() + PATIENCE
            while (now := self._count()) != self._baseline and not self._faults:
                if time.monotonic() > end:
                    raise Violation(f"left behind: {now}, and not {self._baseline}")
                self._turns(1)
        finally:
            for client in self._open:
                client.close()
            self._stop.set()
            self._loop.run_until_complete(self._serving)
            self._loop.close()
            structlog.configure(**self._before)
        assert not self._faults

    async def _serve(self, role: Role, ready: "asyncio.Future[None]") -> None:
        async with serving(role) as self._server:
            self._path = str(self._server.path)
            limits = self._server.context.settings.config.control.limits
            self._limits = Limits(limits.request_bytes, limits.depth, limits.elements)
            ready.set_result(None)
            await self._stop.wait()

    def _turns(self, count: int) -> None:
        for _ in range(count):
            self._loop.run_until_complete(asyncio.sleep(0))

    def _count(self) -> dict[str, int]:
        return {
            "sessions": self._server.context.connections,
            "subscriptions": len(self._server.context.broker),
            "tasks": len(asyncio.all_tasks(self._loop)),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    def _note(self, _logger: object, method: str, event: Any) -> Any:
        if method in ("error", "critical"):
            self._faults.append(repr(event))
        raise structlog.DropEvent


TestConversations = Conversations.TestCase
TestConversations.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    phases=(Phase.generate,),  # To shrink takes minutes; add Phase.shrink when there is something to be understood.
    report_multiple_bugs=False,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
