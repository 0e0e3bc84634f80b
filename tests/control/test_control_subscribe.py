"""Subscriptions: samples and events arrive, as asked for, and a slow reader costs itself only."""

import socket
from array import array
from typing import Any

import pytest
from control_rig import DEMO, AsyncWire, Serving, serving, until
from harness import Daemons

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.hosting.events import Actor

pytestmark = pytest.mark.anyio

QUEUE = 4
LARGE = 400  # series; a notification of so many is larger than what a slow reader may have waiting


def keys_of(name: str, count: int = 1, kind: str = "gauge") -> tuple[SeriesKey, ...]:
    metric = MetricDeclaration(name, kind, "By", ("number",), "A value.")
    return tuple(SeriesKey(metric, (f"{number:0200}",)) for number in range(count))


KEYS = keys_of("test.value")
LARGE_KEYS = keys_of("test.value", LARGE)


def record(
    server: Serving, value: float, plugin: str = "demo", *, time: float = 0.0, keys: tuple[SeriesKey, ...] = KEYS
) -> None:
    """Have the daemon take a collection in which every series has this value."""
    taking = server.store.record(plugin, Collection(keys, array("d", [value] * len(keys)), time, time, 0.1, {}))
    try:
        while True:
            taking.send(None)  # Its pauses are for others, and need no event loop.
    except StopIteration:
        pass


def change(server: Serving, after: str, plugin: str = "demo") -> None:
    server.events.record(plugin, 1, "running", after, "a cause", Actor(1000, 1234))


async def subscribe(client: AsyncWire, **params: Any) -> int:
    number = (await client.call("subscribe", **params))["subscription"]
    assert type(number) is int
    return number


async def values(client: AsyncWire, count: int) -> list[float]:
    """Return the values of the next notifications' first samples."""
    found = []
    for _ in range(count):
        method, params = await client.notification()
        assert method == "sample"
        found.append(params["samples"][0]["value"])
    return found


async def test_a_sample_has_its_shape() -> None:
    """One notification for each collection, with everything that one must know to use it."""
    async with serving() as server:
        client = await server.connect()
        number = await subscribe(client)
        record(server, 5, time=100.0, keys=keys_of("test.total", 2, "counter"))
        record(server, 9, time=102.0, keys=keys_of("test.total", 2, "counter"))
        await client.notification()
        method, params = await client.notification()
        assert method == "sample"
        samples = params.pop("samples")
        assert params == {"subscription": number, "plugin": "demo", "time": 102.0, "dropped": 0}
        assert samples == [
            {
                "plugin": "demo",
                "name": "test.total",
                "kind": "counter",
                "unit": "By",
                "labels": {"number": f"{index:0200}"},
                "value": 9.0,
                "time": 102.0,
                "rate": 2.0,
            }
            for index in range(2)
        ]


async def test_an_event_has_its_shape() -> None:
    """Who asked for a change is part of it."""
    async with serving() as server:
        client = await server.connect()
        number = await subscribe(client, patterns=[], events=True)
        change(server, "paused")
        method, params = await client.notification()
        assert method == "event"
        assert params.pop("time") > 0
        assert params == {
            "subscription": number,
            "plugin": "demo",
            "generation": 1,
            "from": "running",
            "to": "paused",
            "cause": "a cause",
            "uid": 1000,
            "pid": 1234,
        }


async def test_without_patterns_all_samples_come() -> None:
    """And no events, unless they are asked for."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client)
        change(server, "paused")
        record(server, 1)
        record(server, 2, "other")
        assert await values(client, 2) == [1, 2]
        assert await client.call("ping") == "pong"
        assert client.notifications == []


async def test_an_empty_list_of_patterns_is_no_samples() -> None:
    """Who wants events alone says so."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client, patterns=[], events=True)
        record(server, 1)
        change(server, "paused")
        assert (await client.notification())[0] == "event"
        assert await client.call("ping") == "pong"
        assert client.notifications == []


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["demo"], ["demo/test.value", "demo/test.other"]),
        (["test.value"], ["demo/test.value", "disk/test.value"]),
        (["d*"], ["demo/test.value", "demo/test.other", "disk/test.value"]),
        (["*.other", "disk"], ["demo/test.other", "disk/test.value"]),
        (["nosuch", "DEMO", "demo "], []),
        (["[de]*emo"], ["demo/test.value", "demo/test.other"]),
        (["../*", "%s", "(((", "[", "\\"], []),
    ],
)
async def test_patterns_choose_plugins_and_metrics(patterns: list[str], expected: list[str]) -> None:
    """A glob that fits a plugin's name, or a metric's, chooses it; a notification has the chosen samples only."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client, patterns=patterns)
        record(server, 1, "demo", keys=KEYS + keys_of("test.other"))
        record(server, 1, "disk")
        assert await client.call("ping") == "pong"
        found = [f"{row['plugin']}/{row['name']}" for _, params in client.notifications for row in params["samples"]]
        assert found == expected
        assert all(params["samples"] for _, params in client.notifications)


async def test_an_interval_thins_out_the_samples_of_each_plugin() -> None:
    """Of two collections that are closer than the interval only the first is sent; of each plugin by itself."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client, interval=2.0)
        for second in range(7):
            record(server, second, "demo", time=100.0 + second)
            if second in (3, 4):
                record(server, 10 + second, "disk", time=100.0 + second)
        assert await client.call("ping") == "pong"
        found = [(params["plugin"], params["samples"][0]["value"]) for _, params in client.notifications]
        assert found == [("demo", 0), ("demo", 2), ("disk", 13), ("demo", 4), ("demo", 6)]


async def test_jitter_loses_no_sample() -> None:
    """A collection that is a little early counts as one of its tick: "every 2 s" of a plugin at 2 s is every one."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client, interval=2.0)
        for number, moment in enumerate((100.0, 101.99, 104.01, 105.98)):
            record(server, number, time=moment)
        assert await values(client, 4) == [0, 1, 2, 3]


async def test_subscriptions_of_one_client_are_its_own() -> None:
    """Each has its number, and what it asked for; another client is told nothing."""
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        one = await subscribe(client, patterns=["demo"])
        two = await subscribe(client, patterns=["disk"])
        assert one != two
        record(server, 1, "demo")
        record(server, 2, "disk")
        found = [(await client.notification())[1] for _ in range(2)]
        assert [(params["subscription"], params["plugin"]) for params in found] == [(one, "demo"), (two, "disk")]
        assert await other.call("ping") == "pong"
        assert other.notifications == []


async def test_unsubscribe_ends_one() -> None:
    """The others go on; to end it twice, or one that is not there, is invalid."""
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        one, two = await subscribe(client), await subscribe(client)
        assert (await other.ask("unsubscribe", subscription=one))[0]["code"] == "request.invalid"
        assert (await client.ask("unsubscribe", subscription=one))[0] is None
        record(server, 1)
        assert (await client.notification())[1]["subscription"] == two
        for number in (one, 0, -1, 2**64 - 1):
            assert (await client.ask("unsubscribe", subscription=number))[0]["code"] == "request.invalid"
        assert client.notifications == []


async def test_subscriptions_of_one_client_are_limited() -> None:
    """Beyond the limit it is told that it is busy; ending one makes room."""
    async with serving() as server:
        client = await server.connect()
        numbers: list[int] = []
        while (answer := await client.ask("subscribe"))[0] is None:
            numbers.append(answer[1]["subscription"])
            assert len(numbers) < 1000
        assert answer[0]["code"] == "busy"
        assert len(set(numbers)) == len(numbers)
        await client.call("unsubscribe", subscription=numbers[0])
        assert await subscribe(client) not in numbers


async def test_the_end_of_a_client_ends_its_subscriptions() -> None:
    """Nothing is kept for somebody who is gone."""
    async with serving() as server:
        client = await server.connect()
        for _ in range(3):
            await subscribe(client)
        assert len(server.context.broker) == 3
        client.socket.close()
        await until(lambda: server.context.connections == 0, "the end of the session")
        assert len(server.context.broker) == 0
        record(server, 1)


async def test_a_subscriber_that_asks_nothing_more_is_served_until_it_goes() -> None:
    """`printf … | socat` closes its sending half, and listens; when it goes, nothing of it is kept."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client)
        await subscribe(client, patterns=[], events=True)
        client.socket.shutdown(socket.SHUT_WR)
        other = await server.connect()
        assert await other.call("ping") == "pong"  # After the daemon has seen the other's end.
        record(server, 1)
        assert await values(client, 1) == [1]
        client.socket.close()
        await until(lambda: server.context.connections == 1, "the end of the session")
        assert len(server.context.broker) == 0


@pytest.mark.parametrize("count", [100, 600, 800, 1000, 1200, 5000])
async def test_a_long_answer_is_whole_for_one_that_asks_nothing_more(count: int) -> None:
    """`stats` of many series is larger than a socket's buffer, and is sent to its end."""
    async with serving() as server:
        record(server, 1, keys=keys_of("test.value", count))
        client = await server.connect()
        await client.send([0, 1, "stats", []])
        client.socket.shutdown(socket.SHUT_WR)
        _, _, error, result = await client.frame()
        assert error is None
        assert len(result["metrics"]) == count


async def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    """What it has not taken is bounded; it is sent the latest, and how many samples it has lost."""
    async with serving(config=f"[control.limits]\nqueue = {QUEUE}\n") as server:
        slow = await server.connect()
        await subscribe(slow)
        total = 200
        for number in range(total):
            record(server, number, keys=LARGE_KEYS)
            await until(lambda: server.context.broker.idle, "the end of what there is to pass on")
        received: list[dict[str, Any]] = []
        while not received or received[-1]["samples"][0]["value"] != total - 1:
            received.append((await slow.notification())[1])
        assert all(len(params["samples"]) == LARGE for params in received)
        numbers = [int(params["samples"][0]["value"]) for params in received]
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 0
        assert numbers[-QUEUE:] == list(range(total - QUEUE, total))
        assert 0 < len(received) < total
        lost = (total - len(received)) * LARGE
        assert [params["dropped"] for params in received[-QUEUE:]] == [lost] * QUEUE
        assert received[0]["dropped"] == 0


async def test_a_slow_reader_disturbs_nobody() -> None:
    """Another subscriber gets every sample, and the slow one's own requests are answered when it reads."""
    async with serving(config=f"[control.limits]\nqueue = {QUEUE}\n") as server:
        slow, quick = await server.connect(), await server.connect()
        await subscribe(slow)
        await subscribe(quick)
        for number in range(100):
            record(server, number, keys=LARGE_KEYS)
            method, params = await quick.notification()
            assert (method, params["samples"][0]["value"], params["dropped"]) == ("sample", number, 0)
        assert await slow.call("ping") == "pong"


async def test_a_reader_that_catches_up_is_sent_everything_again() -> None:
    """Once it has taken what was waiting, it misses nothing more."""
    async with serving(config=f"[control.limits]\nqueue = {QUEUE}\n") as server:
        client = await server.connect()
        await subscribe(client)
        for number in range(100):
            record(server, number, keys=LARGE_KEYS)
        while (await client.notification())[1]["samples"][0]["value"] != 99:
            pass
        for number in range(100, 150):
            record(server, number, keys=LARGE_KEYS)
            assert await values(client, 1) == [number]


async def test_what_waits_for_a_slow_reader_is_bounded() -> None:
    """Ten thousand collections for somebody who never reads cost no more than a few."""
    async with serving(config=f"[control.limits]\nqueue = {QUEUE}\n") as server:
        client = await server.connect()
        await subscribe(client, events=True)
        for number in range(100):
            record(server, number, keys=LARGE_KEYS)
        for number in range(10_000):
            record(server, number)
            change(server, "running")
        received = 0
        await client.send([0, 99, "ping", []])
        while (frame := await client.frame())[0] == 2:
            received += 1
        assert frame == [1, 99, None, "pong"]
        assert received < 100


async def test_events_and_samples_keep_their_order() -> None:
    """What happened first is told first."""
    async with serving() as server:
        client = await server.connect()
        await subscribe(client, events=True)
        record(server, 1)
        change(server, "paused")
        change(server, "running")
        record(server, 2)
        found = [(await client.notification())[0] for _ in range(4)]
        assert found == ["sample", "event", "event", "sample"]


def test_a_real_plugins_samples_and_events_arrive(daemon: Daemons) -> None:
    """From a worker to a client: samples at each tick, and an event for every change of state."""
    running = daemon(plugins={"demo": DEMO.replace("interval = 3600.0", "interval = 0.05")})
    with running.client() as client:
        number = client.call("subscribe", patterns=["demo"], events=True)["subscription"]
        times = []
        for _ in range(5):
            method, params = client.next_notification()
            assert (method, params["subscription"], params["plugin"]) == ("sample", number, "demo")
            assert {row["name"] for row in params["samples"]} == {"test.level", "test.events"}
            assert [set(map(type, row["labels"].values())) for row in params["samples"]] == [{str}] * 3
            times.append(params["time"])
        assert times == sorted(times)
        assert len(set(times)) == 5
        running.call("pause", names=["demo"], reason="tea")
        method, params = client.next_notification()
        while method == "sample":
            method, params = client.next_notification()
        assert (method, params["from"], params["to"], params["cause"]) == ("event", "running", "paused", "paused: tea")
        assert params["uid"] is not None
        assert client.call("ping") == "pong"
        assert client.notifications == []
