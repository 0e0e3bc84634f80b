"""Streams to clients: what they want, and no more than they take."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgpack
import pytest
from sampling_rig import record

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.hosting.events import EventLog
from plugd.sampling.store import MetricStore
from plugd.sampling.subscription import QUEUE_BYTES, SENT_AT_ONCE, Broker, Samples, Subscription

KEYS = {
    "cpu": [SeriesKey(MetricDeclaration("system.cpu.time", "counter", "s", ("cpu",), ""), (str(n),)) for n in range(2)],
    "memory": [SeriesKey(MetricDeclaration("system.memory.usage", "gauge", "By", (), ""), ())],
}


class Reader:
    """A client: takes what is sent until it is slow."""

    def __init__(self) -> None:
        self.slow = False
        self.frames: list[tuple[str, dict[str, Any]]] = []

    def send(self, encode: Callable[[], bytes]) -> bool:
        if self.slow:
            return False
        kind, method, [params] = msgpack.unpackb(encode())
        assert kind == 2
        self.frames.append((method, params))
        return True

    @property
    def values(self) -> list[float]:
        return [sample["value"] for method, params in self.frames if method == "sample" for sample in params["samples"]]


class World:
    """A store, an event log, a broker, and one reader with its subscriptions."""

    def __init__(self) -> None:
        self.store = MetricStore()
        self.events = EventLog()
        self.broker = Broker(self.store, self.events)
        self.reader = Reader()

    def subscribe(
        self,
        patterns: Sequence[str] | None = None,
        *,
        events: bool = False,
        interval: float = 0.0,
        queue: int = 3,
        identifier: int = 1,
    ) -> Subscription:
        subscription = Subscription(
            identifier, patterns, events=events, interval=interval, send=self.reader.send, queue=queue
        )
        self.broker.add(subscription)
        return subscription

    def collect(self, plugin: str, value: float, at: float = 0.0) -> None:
        keys = KEYS[plugin]
        values = array("d", [value + number for number in range(len(keys))])
        record(self.store, plugin, Collection(keys, values, 1000.0 + at, at, 0.001, {}))

    def event(self, cause: str) -> None:
        self.events.record("cpu", 1, "starting", "running", cause, None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world without an event loop: whatever there is to pass on is one slice, however slow the machine."""
    monkeypatch.setattr("plugd.sampling.subscription.SLICE", 3600.0)
    return World()


def test_a_collection_is_one_notification(world: World) -> None:
    """With all its samples, as ``stats`` has them."""
    world.subscribe(identifier=7)
    world.collect("cpu", 5.0)
    [(method, params)] = world.reader.frames
    assert method == "sample"
    assert {**params, "samples": len(params["samples"])} == {
        "subscription": 7,
        "plugin": "cpu",
        "time": 1000.0,
        "dropped": 0,
        "samples": 2,
    }
    row = {"plugin": "cpu", "name": "system.cpu.time", "kind": "counter", "unit": "s", "time": 1000.0, "rate": None}
    assert params["samples"] == [row | {"labels": {"cpu": str(n)}, "value": 5.0 + n} for n in range(2)]


@pytest.mark.parametrize(
    ("patterns", "values"),
    [
        (None, [1.0, 2.0, 5.0]),
        ([], []),
        (["cpu"], [1.0, 2.0]),
        (["system.memory.*"], [5.0]),
        (["cpu", "memory"], [1.0, 2.0, 5.0]),
        (["nothing"], []),
    ],
)
def test_patterns_say_what_is_wanted(world: World, patterns: list[str] | None, values: list[float]) -> None:
    """Of plugins and of metrics; what matches nothing is not sent at all."""
    world.subscribe(patterns)
    world.collect("cpu", 1.0)
    world.collect("memory", 5.0)
    assert world.reader.values == values


def test_an_interval_thins_out(world: World) -> None:
    """Every two seconds of a plugin at one second is every second collection, a little early or late."""
    world.subscribe(interval=2.0)
    for number, jitter in enumerate([0.0, 0.03, -0.04, 0.02, 0.0, -0.03, 0.04]):
        world.collect("memory", float(number), number + jitter)
    assert world.reader.values == [0.0, 2.0, 4.0, 6.0]


def test_an_interval_counts_for_each_plugin(world: World) -> None:
    """One plugin's collection does not use up another's."""
    world.subscribe(interval=10.0)
    world.collect("memory", 1.0, 0.0)
    world.collect("cpu", 2.0, 1.0)
    world.collect("memory", 9.0, 2.0)
    assert world.reader.values == [1.0, 2.0, 3.0]


def test_a_clock_that_is_set_back_silences_nobody(world: World) -> None:
    """The next collection is sent, and the interval counts from there."""
    world.subscribe(interval=10.0)
    for number, at in enumerate([5000.0, 1400.0, 1405.0, 1410.0]):
        world.collect("memory", float(number), at)
    assert world.reader.values == [0.0, 1.0, 3.0]


def test_a_slow_reader_loses_the_oldest(world: World) -> None:
    """Samples are counted, not notifications, and the count comes with what is sent next."""
    subscription = world.subscribe(queue=3)
    world.reader.slow = True
    for number in range(5):
        world.collect("cpu", 10.0 * number)
    assert subscription.dropped == 4
    world.reader.slow = False
    subscription.drain()
    assert world.reader.values == [20.0, 21.0, 30.0, 31.0, 40.0, 41.0]
    assert [params["dropped"] for _, params in world.reader.frames] == [4, 4, 4]
    world.collect("cpu", 50.0)
    assert world.reader.frames[-1][1]["dropped"] == 4


def test_what_waits_is_sent_before_what_comes(world: World) -> None:
    """A reader that is fast again does not get the new ahead of the old."""
    subscription = world.subscribe()
    world.reader.slow = True
    world.collect("memory", 1.0)
    world.reader.slow = False
    world.collect("memory", 2.0)
    assert world.reader.values == []
    subscription.drain()
    assert world.reader.values == [1.0, 2.0]
    world.collect("memory", 3.0)
    assert world.reader.values == [1.0, 2.0, 3.0]


def test_draining_stops_where_the_reader_does(world: World) -> None:
    """What was not taken stays, in its order, and nothing is sent twice."""
    subscription = world.subscribe(queue=5)
    world.reader.slow = True
    for number in range(4):
        world.collect("memory", float(number))
    taken = 0

    def two(encode: Callable[[], bytes]) -> bool:
        nonlocal taken
        world.reader.slow = taken >= 2
        taken += 1
        return world.reader.send(encode)

    subscription._send = two
    subscription.drain()
    assert world.reader.values == [0.0, 1.0]
    taken = 0
    subscription.drain()
    assert world.reader.values == [0.0, 1.0, 2.0, 3.0]
    subscription.drain()
    assert len(world.reader.frames) == 4


def test_a_slow_reader_costs_nobody_else(world: World) -> None:
    """Another's samples come as ever, and none of them count as lost."""
    slow = world.subscribe()
    slow._send = lambda encode: False
    fast = world.subscribe(identifier=2)
    for number in range(10):
        world.collect("memory", float(number))
    assert world.reader.values == [float(number) for number in range(10)]
    assert (slow.dropped, fast.dropped) == (7, 0)
    assert len(slow._queue) == 3


def test_events_are_sent_to_those_who_want_them(world: World) -> None:
    """With what changed, and why."""
    world.subscribe([], events=True)
    world.subscribe([], identifier=2)
    world.event("load")
    [(method, params)] = world.reader.frames
    assert method == "event"
    assert {**params, "time": 0} == {
        "subscription": 1,
        "time": 0,
        "plugin": "cpu",
        "generation": 1,
        "from": "starting",
        "to": "running",
        "cause": "load",
        "uid": None,
        "pid": None,
    }


def test_lost_events_are_not_counted_as_samples(world: World) -> None:
    """They have a count of their own; events and samples keep their common order."""
    subscription = world.subscribe(events=True, queue=2)
    world.reader.slow = True
    world.event("first")
    world.collect("memory", 1.0)
    world.event("second")
    assert (subscription.dropped, subscription.dropped_events) == (0, 1)
    world.reader.slow = False
    subscription.drain()
    assert [method for method, _ in world.reader.frames] == ["sample", "event"]


def test_a_removed_subscription_hears_no_more(world: World) -> None:
    """Removing it twice is no error."""
    subscription = world.subscribe(events=True)
    assert len(world.broker) == 1
    world.broker.remove(subscription)
    world.broker.remove(subscription)
    world.collect("memory", 1.0)
    world.event("x")
    assert (len(world.broker), world.reader.frames) == (0, [])


def test_a_subscription_may_be_removed_while_it_is_served(world: World) -> None:
    """A client that goes away amid a notification does not disturb the others."""
    first, second = world.subscribe(), world.subscribe(identifier=2)

    def leave(encode: Callable[[], bytes]) -> bool:
        world.broker.remove(first)
        world.broker.remove(second)
        return world.reader.send(encode)

    first._send = second._send = leave
    world.collect("memory", 1.0)
    assert len(world.broker) == 0


def test_rows_are_made_once_for_all_of_one_interest(world: World) -> None:
    """A hundred readers of the same cost the rows of one."""
    offered: list[Any] = []
    for identifier in range(3):
        subscription = world.subscribe(["cpu"], identifier=identifier)
        subscription.offer = offered.append  # type: ignore[method-assign, assignment]
    world.collect("cpu", 1.0)
    assert offered[0] is offered[1] is offered[2]


def test_a_queue_is_bounded_in_bytes(world: World) -> None:
    """Large notifications wait in smaller numbers, and one waits however large it is."""
    subscription = world.subscribe(queue=100)
    world.reader.slow = True
    half = QUEUE_BYTES // 2
    for size in (half, half, 1, 2 * QUEUE_BYTES):
        subscription.offer(Samples("p", 0.0, size, bytes(size)))
    assert [len(each.rows) for each in subscription._queue if isinstance(each, Samples)] == [2 * QUEUE_BYTES]
    assert subscription.dropped == half + half + 1
    subscription.offer(Samples("p", 0.0, 1, b"1"))
    assert (len(subscription._queue), subscription._queued_bytes) == (1, 1)


def test_a_long_queue_is_drained_with_turns_for_others(world: World) -> None:
    """A part at once, the rest by and by, all of it and in its order."""
    subscription = world.subscribe(queue=100)
    world.reader.slow = True
    for number in range(50):
        world.collect("memory", float(number))
    world.reader.slow = False

    async def drain() -> int:
        subscription.drain()
        at_once = len(world.reader.frames)
        with anyio.fail_after(10):
            while len(world.reader.frames) < 50:  # noqa: ASYNC110 - it is the loop's turns that are waited for
                await asyncio.sleep(0)
        return at_once

    assert asyncio.run(drain()) == SENT_AT_ONCE
    assert world.reader.values == [float(number) for number in range(50)]


class Slow(World):
    """A world in which every step takes longer than a slice: whatever can be interrupted is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        monkeypatch.setattr("plugd.sampling.subscription.SLICE", -1.0)

    async def rest(self) -> None:
        with anyio.fail_after(10):
            while self.broker._work is not None:  # noqa: ASYNC110 - it is the loop's turns that are waited for
                await asyncio.sleep(0)


@pytest.mark.anyio
async def test_what_is_much_is_passed_on_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn between two subscriptions, and everybody gets everything."""
    world = Slow(monkeypatch)
    for identifier in range(5):
        world.subscribe(identifier=identifier)
    world.collect("cpu", 1.0)
    before = len(world.reader.frames)
    await world.rest()
    assert before < 5
    assert sorted(params["subscription"] for _, params in world.reader.frames) == [0, 1, 2, 3, 4]


@pytest.mark.anyio
async def test_a_newer_collection_takes_the_place_of_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples that were replaced count as lost, but not of those who do not want all."""
    world = Slow(monkeypatch)
    every = world.subscribe(identifier=1)
    some = world.subscribe(identifier=2, interval=0.5)
    world.collect("memory", 0.0)  # is under way
    for number in range(1, 4):
        world.collect("cpu", 10.0 * number, float(number))
    await world.rest()
    values = [
        [sample["value"] for sample in params["samples"]]
        for _, params in world.reader.frames
        if params["subscription"] == 1
    ]
    assert values == [[0.0], [30.0, 31.0]]
    assert (every.dropped, some.dropped) == (4, 0)


@pytest.mark.anyio
async def test_events_and_samples_that_wait_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they came, though they are passed on later."""
    world = Slow(monkeypatch)
    world.subscribe(events=True)
    world.collect("memory", 1.0)
    world.event("first")
    world.collect("cpu", 2.0)
    world.event("second")
    await world.rest()
    assert [method for method, _ in world.reader.frames] == ["sample", "event", "sample", "event"]


@pytest.mark.anyio
async def test_events_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than that the oldest are lost, and counted for those who want events."""
    monkeypatch.setattr("plugd.sampling.subscription.EVENTS_WAITING", 2)
    world = Slow(monkeypatch)
    wanting, other = world.subscribe(events=True), world.subscribe(identifier=2)
    world.collect("memory", 1.0)  # is under way
    for cause in ("a", "b", "c", "d"):
        world.event(cause)
    await world.rest()
    causes = [params["cause"] for method, params in world.reader.frames if method == "event"]
    assert causes == ["c", "d"]
    assert (wanting.dropped_events, other.dropped_events) == (2, 0)
