"""Each limit of [control.limits]: what a client sees beyond it, and which counter of ``status`` tells of it."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import msgpack
import pytest
from control_rig import DEADLINE, HOLD, Serving, Wire, as_user, release, serving, wires
from harness import Client, Daemon, Daemons, daemons, wait_until

from plugd.config import LimitsConfig
from plugd.control import server as server_module
from plugd.control.counts import LIMITS

# Says much: in its samples as well as in an answer.
LOUD = '''"""Says much."""

from plugd.plugin import Gauge, Plugin, command


class Loud(Plugin):
    interval = 0.05

    value = Gauge("test.value", labels=("number",))

    def collect(self):
        for number in range(400):
            yield self.value(1, number=f"{number:0300}")

    @command
    def give(self) -> str:
        return "x" * 2_000_000
'''

CALL_HOLD = {"name": "hold", "command": "hold"}
CALL_LOUD = {"name": "loud", "command": "give"}


@pytest.fixture(scope="module")
def small() -> Iterator[Daemon]:
    """A daemon in which everything that is counted is soon too many; its deadlines are those of every daemon."""
    limits = {
        "request_bytes": 2048,
        "depth": 6,
        "elements": 20,
        "connections": 12,
        "connections_per_uid": 6,
        "requests_in_flight": 2,
        "subscriptions": 2,
        "subscriptions_per_uid": 5,
        "queue": 4,
    }
    config = "".join(f"{key} = {value}\n" for key, value in limits.items())
    with daemons() as start:
        yield start(
            plugins={"hold": HOLD, "loud": LOUD}, config=f'[control]\nmode = "0666"\n[control.limits]\n{config}'
        )


@pytest.fixture(scope="module")
def impatient() -> Iterator[Daemon]:
    """A daemon that waits for nobody; how long it is to a second look at a deadline is its own affair."""
    limits = "".join(f'{key} = "{value}ms"\n' for key, value in IMPATIENCE.items())
    with daemons() as start:
        yield start(plugins={"hold": HOLD, "loud": LOUD}, config=f"[control.limits]\n{limits}")


IMPATIENCE = {"partial_request": 200, "write": 500, "idle": 800, "ping": 100}  # milliseconds


def counters(client: Client) -> dict[str, int]:
    counts: dict[str, int] = client.call("status")["control"]
    return counts


@contextlib.contextmanager
def counted(running: Daemon, **expected: int) -> Iterator[Client]:
    """Check that these counters have grown by so much at the end of the block, or soon after, and no other has.

    The connection that looks has a subscription, so that nothing is the end of it.
    """
    with running.client() as client:
        client.call("subscribe", patterns=[])
        before = counters(client)
        yield client

        def grown() -> dict[str, int]:
            after = counters(client)
            return {key: after[key] - before[key] for key in after if key != "accepted" and after[key] != before[key]}

        wanted = {f"refused.{key}": value for key, value in expected.items()}
        wait_until(lambda: {key: grown().get(key) for key in wanted} == wanted, f"{wanted}, not {grown()}")
        assert grown() == wanted


def test_every_limit_has_a_counter(small: Daemon) -> None:
    """They are there from the start, and 0; ``ping`` refuses nothing."""
    assert {*LIMITS, "ping"} == set(LimitsConfig.__struct_fields__)
    with small.client() as client:
        assert {f"refused.{limit}" for limit in LIMITS} <= set(counters(client))


# What a request may be


def too_large(running: Daemon, request: bytes, limit: str) -> None:
    """Check that a request is the last of its connection, and is refused for a limit."""
    with counted(running, **{limit: 1}), Wire(running.socket) as wire, Wire(running.socket) as other:
        wire.send([0, 1, "ping", []], request, [0, 2, "ping", []])
        answer, refusal = wire.rest()
        assert answer == [1, 1, None, "pong"]
        assert refusal[:2] + refusal[3:] == [1, None, None]
        assert (refusal[2]["code"], refusal[2]["data"]) == ("request.too_large", {"limit": limit})
        assert other.ask("ping") == (None, "pong")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("request_bytes", "limit"),
    [
        (msgpack.packb([0, 9, "ping", ["x" * 2048]]), "request_bytes"),
        (b"\x94\x00\x09\xa4ping\xc6\x00\x00\x08\x00", "request_bytes"),  # Told by the length, before its bytes come.
        (msgpack.packb([0, 9, "ping", nested(6)]), "depth"),
        (msgpack.packb([0, 9, "ping", [None] * 17]), "elements"),
        (b"\x94\x00\x09\xa4ping\xdf\x00\x00\x00\x09", "elements"),
    ],
    ids=["bytes", "length", "depth", "elements", "announced elements"],
)
def test_what_is_larger_is_refused(small: Daemon, request_bytes: bytes, limit: str) -> None:
    """The error says which limit it is; then the connection is closed."""
    too_large(small, request_bytes, limit)


@pytest.mark.parametrize("params", [["x" * 2036], nested(5), [None] * 16], ids=["bytes", "depth", "elements"])
def test_what_is_as_large_as_may_be_is_taken(small: Daemon, params: Any) -> None:
    """One less is a request like others: ping takes no such parameters, and goes on."""
    frame = msgpack.packb([0, 1, "ping", params])
    assert len(frame) <= 2048
    with counted(small, **{"request.invalid": 1}), Wire(small.socket) as wire:
        wire.send(frame)
        assert wire.frame()[2]["code"] == "request.invalid"
        assert wire.ask("ping") == (None, "pong")


def test_what_is_no_request_is_counted(small: Daemon) -> None:
    """By its code, where no limit is the reason."""
    with counted(small, **{"request.invalid": 3, "request.unknown_method": 2}), Wire(small.socket) as wire:
        for number, (method, params) in enumerate([("nosuch", []), ("", []), ("get", []), ("ping", [1])]):
            assert wire.ask(method, *params, id=number)[0] is not None
        wire.send([7])
        assert wire.frame()[2]["code"] == "request.invalid"


# How much there may be


def test_requests_in_flight(small: Daemon) -> None:
    """One more is busy at once; the others go on."""
    with counted(small, requests_in_flight=1), Wire(small.socket) as wire:
        wire.send(*([0, number, "call", [CALL_HOLD]] for number in range(3)))
        kind, identifier, error, _ = wire.frame()
        assert (kind, identifier, error["code"]) == (1, 2, "busy")
        assert error["data"] == {"limit": "requests_in_flight", "maximum": 2}
        release(small, "hold")
        assert [wire.frame()[:3] for _ in range(2)] == [[1, 0, None], [1, 1, None]]


def test_subscriptions(small: Daemon) -> None:
    """One more is busy; the others go on, and ending one makes room."""
    with counted(small, subscriptions=1), Wire(small.socket) as wire:
        numbers = [wire.ask("subscribe", {"patterns": []})[1]["subscription"] for _ in range(2)]
        error, _ = wire.ask("subscribe", {"patterns": []})
        assert (error["code"], error["data"]) == ("busy", {"limit": "subscriptions", "maximum": 2})
        assert wire.ask("unsubscribe", {"subscription": numbers[0]})[0] is None
        assert wire.ask("subscribe", {"patterns": []})[0] is None


def test_subscriptions_of_a_user(small: Daemon) -> None:
    """On all connections together; another user has as many, and those of a connection that ends are given back."""
    with counted(small, subscriptions_per_uid=1) as client, wires(small.socket, 3) as (one, two, three):
        for wire in (one, two):
            assert [wire.ask("subscribe", {"patterns": []})[0] for _ in range(2)] == [None] * 2
        # The connection that counts has the fifth.
        error, _ = three.ask("subscribe", {"patterns": []})
        assert (error["code"], error["data"]) == ("busy", {"limit": "subscriptions_per_uid", "maximum": 5})
        with as_user(60001):
            other = Wire(small.socket)
        with other:
            assert other.ask("subscribe", {"patterns": []})[0] is None
        one.socket.close()
        wait_until(lambda: client.call("status")["connections"] == 3, "the end of one")
        assert three.ask("subscribe", {"patterns": []})[0] is None
        assert two.ask("unsubscribe", {"subscription": 1})[0] is None
        assert three.ask("subscribe", {"patterns": []})[0] is None


def refusal(wire: Wire) -> dict[str, Any]:
    """Return the error of a connection that was refused as soon as it was made."""
    ((kind, identifier, error, result),) = wire.rest()
    assert (kind, identifier, result) == (1, None, None)
    assert error["code"] == "busy"
    data: dict[str, Any] = error["data"]
    return data


def test_connections_of_a_user(small: Daemon) -> None:
    """One more is refused at once; the others go on."""
    with counted(small, connections_per_uid=2), wires(small.socket, 5) as served:
        assert [wire.ask("ping") for wire in served] == [(None, "pong")] * 5
        for _ in range(2):
            with Wire(small.socket) as more:
                assert refusal(more) == {"limit": "connections_per_uid"}
        assert [wire.ask("ping") for wire in served] == [(None, "pong")] * 5


def fill(stack: contextlib.ExitStack, running: Daemon, uids: range, each: int) -> list[Wire]:
    """Open connections as several users, each of which has a subscription: none can be taken away."""
    served = []
    for uid in uids:
        with as_user(uid):
            served += [stack.enter_context(Wire(running.socket)) for _ in range(each)]
    for wire in served:
        assert wire.ask("subscribe", {"patterns": []})[0] is None
    return served


def test_connections_of_all(small: Daemon) -> None:
    """Other users fill all places but one: they are refused, and root is served in the last."""
    with counted(small, connections=2), contextlib.ExitStack() as stack:
        served = fill(stack, small, range(60001, 60003), 5)
        with as_user(60003):
            more = stack.enter_context(Wire(small.socket))
        assert refusal(more) == {"limit": "connections"}
        root = stack.enter_context(Wire(small.socket))
        assert root.ask("status")[1]["connections"] == 12
        assert refusal(stack.enter_context(Wire(small.socket))) == {"limit": "connections"}
        assert all(wire.ask("ping") == (None, "pong") for wire in served)


def test_a_queue(small: Daemon) -> None:
    """A subscriber that stops reading loses the oldest notifications; when it reads again, it is told how many."""
    with small.client() as client:
        before = counters(client)["refused.queue"]
        with Wire(small.socket) as slow, Wire(small.socket) as quick:
            for wire in (slow, quick):
                assert wire.ask("subscribe", {"patterns": ["loud"]})[0] is None
            for _ in range(15):
                assert quick.frame()[2][0]["dropped"] == 0
            dropped = [slow.frame()[2][0]["dropped"] for _ in range(12)]
        assert dropped == sorted(dropped)
        assert dropped[0] == 0
        assert dropped[-1] > 0
        assert dropped[-1] % 400 == 0  # Whole notifications.
        lost = dropped[-1] // 400
        wait_until(lambda: counters(client)["refused.queue"] - before >= lost, f"{lost} that are counted")


# How long it may take


def test_a_partial_request(impatient: Daemon) -> None:
    """It is told why, and closed; what it had asked for before is answered."""
    with counted(impatient, partial_request=2), wires(impatient.socket, 2) as (one, behind):
        one.send(b"\x94")
        behind.send([0, 1, "ping", []], b"\x94\x00")
        (refused,) = one.rest()
        answer, also_refused = behind.rest()
        assert answer == [1, 1, None, "pong"]
        for error in (refused[2], also_refused[2]):
            assert (error["code"], error["data"]) == ("request.invalid", {"limit": "partial_request"})


def test_a_partial_request_in_small_pieces(impatient: Daemon) -> None:
    """Each byte in time does not make the request in time: what counts is its end."""
    with counted(impatient, partial_request=1), Wire(impatient.socket) as wire:
        frame = msgpack.packb([0, 1, "ping", ["x" * 10_000]])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in frame:
                wire.send(bytes([byte]))
                if wire.closed:
                    break
                time.sleep(0.001)  # Less than any deadline, and in all much more.
        assert [each[2]["code"] for each in wire.rest()] in ([], ["request.invalid"])


def notifications(wire: Wire) -> list[tuple[str, dict[str, Any]]]:
    """Return the notifications that have arrived."""
    found = []
    wire.socket.setblocking(False)
    try:
        while True:
            kind, method, (params,) = wire.frame()
            assert kind == 2
            found.append((method, params))
    except BlockingIOError:
        return found
    finally:
        wire.socket.settimeout(DEADLINE)


def test_who_does_nothing_is_closed(impatient: Daemon) -> None:
    """Who asks nothing, or does not read; who waits for an answer, or has a subscription, is not, whatever is quiet."""
    with (
        counted(impatient, idle=3, write=1) as client,
        wires(impatient.socket, 6) as (silent, asked, ended, stuck, waiting, listening),
    ):
        assert asked.ask("ping") == (None, "pong")
        number = ended.ask("subscribe")[1]["subscription"]
        ended.send([0, 2, "unsubscribe", [{"subscription": number}]])
        stuck.send([0, 1, "call", [CALL_LOUD]])
        waiting.send([0, 1, "call", [CALL_HOLD]])
        assert listening.ask("subscribe", {"patterns": [], "events": True})[0] is None
        wait_until(lambda: counters(client)["refused.write"], "the end of the one that does not read")
        wait_until(lambda: silent.closed and asked.closed, "the end of those that ask nothing")
        assert (silent.rest(), asked.rest()) == ([], [])
        assert stuck.rest() == []  # Its answer is cut off.
        assert [frame for frame in ended.rest() if frame[0] == 1] == [[1, 2, None, {"unsubscribed": number}]]
        heard: list[tuple[str, dict[str, Any]]] = []
        wait_until(lambda: heard.extend(notifications(listening)) or len(heard) >= 2, "two pings")
        assert [(method, set(params)) for method, params in heard] == [("ping", {"time"})] * len(heard)
        assert all(abs(params["time"] - time.time()) < 60 for _, params in heard)
        assert notifications(waiting) == []  # It is there, and it has no subscription.
        release(impatient, "hold")
        assert waiting.frame() == [1, 1, None, 1]


# The same with deadlines that are looked at often


@contextlib.asynccontextmanager
async def hasty(monkeypatch: pytest.MonkeyPatch, config: str) -> AsyncIterator[Serving]:
    monkeypatch.setattr(server_module, "DEADLINES_PERIOD", 0.01)
    async with serving(config=f"[control.limits]\n{config}") as server:
        with anyio.fail_after(DEADLINE):
            yield server


def counts(server: Serving) -> dict[str, int]:
    return server.context.counts.as_dict()


@pytest.mark.anyio
async def test_who_reads_slowly_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece that is taken is a sign of life, however long the whole takes."""
    async with hasty(monkeypatch, 'write = "400ms"\n') as server:
        slow, stuck = await server.connect(), await server.connect()
        for each in (slow, stuck):
            await each.send(*([0, number, "methods", []] for number in range(300)))
        received = 0
        while not (counts(server)["refused.write"] and received > 600_000):
            with contextlib.suppress(BlockingIOError):
                received += len(slow.socket.recv(8192))  # What waits for it at once takes it longer than the deadline.
            await asyncio.sleep(0.01)
        assert server.context.connections == 1
        assert counts(server)["refused.write"] == 1


@pytest.mark.anyio
async def test_a_ping_comes_when_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a connection with subscriptions, once for all of them; an event or an answer puts it off."""
    async with hasty(monkeypatch, 'ping = "150ms"\n') as server:
        quiet, busy, other = [await server.connect() for _ in range(3)]
        for _ in range(2):
            await quiet.call("subscribe", patterns=[])
        await busy.call("subscribe", patterns=[], events=True)
        await other.call("ping")
        pinged = 0
        while pinged < 3:
            method, params = await quiet.notification()
            assert (method, set(params)) == ("ping", {"time"})
            pinged += 1
            for _ in range(3):
                server.events.record("demo", 1, "running", "paused", "a cause", None)
                await busy.notification()
                await asyncio.sleep(0.02)
        for client in (quiet, busy, other):
            assert await client.call("ping") == "pong"
        assert other.notifications == []
        assert {method for method, _ in busy.notifications} <= {"event", "ping"}
        number = (await quiet.call("subscribe", patterns=[]))["subscription"]
        for each in range(1, number + 1):
            await quiet.call("unsubscribe", subscription=each)
        quiet.notifications.clear()
        await other.call("subscribe", patterns=[])
        assert (await other.notification())[0] == "ping"
        assert await quiet.call("ping") == "pong"
        assert quiet.notifications == []


@pytest.mark.anyio
async def test_who_asks_in_time_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is a new beginning; what is no request is none."""
    async with hasty(monkeypatch, 'idle = "400ms"\n') as server:
        asking, notifying = await server.connect(), await server.connect()
        while not counts(server)["refused.idle"]:
            assert await asking.call("ping") == "pong"
            with contextlib.suppress(BrokenPipeError):
                await notifying.send([2, "ping", []])
            await asyncio.sleep(0.01)
        assert await asking.call("ping") == "pong"
        with pytest.raises(ConnectionError):
            await notifying.frame()


def test_answers_that_nobody_reads(daemon: Daemons) -> None:
    """Who asks for more than is read is gone, long before the deadline for reading; it is counted."""
    running = daemon(plugins={"loud": LOUD}, config='[control.limits]\nunread_bytes = "1MiB"\n')
    with Wire(running.socket) as wire:
        for number in range(5):
            wire.send([0, number, "call", [CALL_LOUD]])
        wait_until(lambda: running.call("status")["control"]["refused.unread_bytes"] == 1, "the count")
    wait_until(lambda: running.call("status")["connections"] == 1, "the end of the connection")
    assert len(running.call("call", **CALL_LOUD)) == 2_000_000


def answered(wire: Wire) -> bool:
    """Whether a connection is served: one that is refused hears so, and is closed."""
    with contextlib.suppress(OSError):
        wire.send([0, 1, "ping", []])
    return bool(wire.frame()[1] == 1)


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may become another user")
def test_clients_leave_descriptors_to_the_daemon(daemon: Daemons) -> None:
    """When descriptors are few, clients are refused before the daemon has none to measure and to fork with."""
    running = daemon(plugins={"hold": HOLD}, config='[control]\nmode = "0666"\n')
    there = running.descriptors()
    _, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (there + server_module.SPARE_DESCRIPTORS + 3, hard))
    with contextlib.ExitStack() as stack:
        with as_user(65534):
            crowd = [stack.enter_context(Wire(running.socket)) for _ in range(30)]
        refused = [wire for wire in crowd if not answered(wire)]
        assert 20 < len(refused) < 30
        before = running.call("status")["uptime"]
        wait_until(lambda: running.call("status")["uptime"] > before + 1.1, "two looks at the workers")
        assert running.call("reload", names=["hold"])["reloaded"] == ["hold"]
        assert running.call("status")["control"]["refused.accept_failed"] == len(refused)
