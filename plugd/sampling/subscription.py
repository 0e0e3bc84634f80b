"""Streams of samples and events to clients: bounded, so that a slow reader costs itself and nobody else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from plugd.hosting.events import Event, EventLog
from plugd.rpc.codec import encode_array, encode_map, encode_notification
from plugd.sampling.patterns import Patterns
from plugd.sampling.rows import Rows
from plugd.sampling.slices import SLICE, Work
from plugd.sampling.store import Latest, MetricStore

QUEUE = 256  # notifications that wait for a slow reader
QUEUE_BYTES = 4 * 1024 * 1024  # of their samples, unless there is only one of them
SENT_AT_ONCE = 16  # notifications of a subscription, before others have their turn
EVENTS_WAITING = 1000  # for the broker to pass them on


class Samples(NamedTuple):
    """What a collection has for one interest."""

    plugin: str
    time: float  # Unix seconds
    length: int
    rows: bytes


class Subscription:
    """What one client wants to hear.

    Args:
        identifier: its number in the client's session.
        patterns: of plugins and metrics; None: all samples; empty: none.
        events: whether it wants state changes, too.
        interval: seconds at least between two samples of one plugin.
        send: takes the bytes of a notification; False when the client has not taken the ones before.
        queue: how many notifications wait before the oldest is dropped.
    """

    def __init__(
        self,
        identifier: int,
        patterns: Sequence[str] | None,
        *,
        events: bool,
        interval: float,
        send: Callable[[Callable[[], bytes]], bool],
        queue: int = QUEUE,
    ) -> None:
        self.identifier = identifier
        self.interest = None if patterns is None else tuple(patterns)
        self.patterns = None if patterns is None else Patterns(patterns)
        self.events = events
        self.interval = interval
        self.dropped = 0  # samples lost to slowness
        self.dropped_events = 0
        self.lost = 0  # notifications
        self._send = send
        self._queue: deque[Samples | Event] = deque()
        self._queued_bytes = 0
        self._limit = queue
        self._last: dict[str, float] = {}

    def wants(self, plugin: str, wall: float) -> bool:
        """Whether a collection at this time is one to be sent."""
        if self.interest == ():
            return False
        if self.interval <= 0:
            return True
        # Half a tick of grace: "every 2 s" of a plugin at 1 s is every second one, a little early or late.
        # A last one in the future is one from before the clock was set back.
        if 0 <= wall - self._last.get(plugin, -1e9) < self.interval * 0.95:
            return False
        self._last[plugin] = wall
        return True

    def offer(self, item: Samples | Event) -> None:
        """Send, or queue behind what the client has not taken; the oldest make way."""
        if not self._queue and self._send(lambda: self._encode(item)):
            return
        size = _size(item)
        while self._queue and (len(self._queue) >= self._limit or self._queued_bytes + size > QUEUE_BYTES):
            lost = self._queue.popleft()
            self._queued_bytes -= _size(lost)
            self.lost += 1
            if isinstance(lost, Samples):
                self.dropped += lost.length
            else:
                self.dropped_events += 1
        self._queue.append(item)
        self._queued_bytes += size

    def drain(self) -> None:
        """Send on: the client has taken what was under way."""
        for _ in range(min(SENT_AT_ONCE, len(self._queue))):
            item = self._queue[0]
            if not self._send(lambda item=item: self._encode(item)):  # type: ignore[misc]
                return
            self._queue.popleft()
            self._queued_bytes -= _size(item)
        if self._queue:
            asyncio.get_running_loop().call_soon(self.drain)

    def _encode(self, item: Samples | Event) -> bytes:
        if not isinstance(item, Samples):
            return encode_notification("event", {"subscription": self.identifier, **item.as_dict()})
        params = {
            "subscription": self.identifier,
            "plugin": item.plugin,
            "time": item.time,
            "samples": encode_array(item.length, [item.rows]),
            "dropped": self.dropped,
        }
        return encode_notification("sample", encode_map(params))


class Broker:
    """All subscriptions, between the store and the event log on one side and the sessions on the other.

    What there is to pass on is passed on at once, or, where it is much, in slices between which the event loop
    serves others. A collection that comes before the last one of its plugin has been passed on takes its place.
    """

    def __init__(self, store: MetricStore, events: EventLog) -> None:
        self._subscriptions: set[Subscription] = set()
        # In the order in which they came: a plugin's collection, with how many it stands for, or an event by number.
        self._waiting: dict[str | int, tuple[Latest, int] | Event] = {}
        self._events_waiting: deque[int] = deque()
        self._next_event = 0
        self._work: Work[None] | None = None
        store.listen(self._handle_collection)
        events.listen(self._handle_event)

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def idle(self) -> bool:
        """Whether all that there was to pass on has been passed on."""
        return self._work is None

    def add(self, subscription: Subscription) -> None:
        """Have a subscription served from now on."""
        self._subscriptions.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Serve it no more."""
        self._subscriptions.discard(subscription)

    def _handle_collection(self, plugin: str, latest: Latest) -> None:
        if self._subscriptions:
            before = self._waiting.get(plugin)
            self._waiting[plugin] = (latest, before[1] + 1 if isinstance(before, tuple) else 1)
            self._begin()

    def _handle_event(self, event: Event) -> None:
        if not self._subscriptions:
            return
        if len(self._events_waiting) >= EVENTS_WAITING:
            del self._waiting[self._events_waiting.popleft()]
            for subscription in self._subscriptions:
                subscription.dropped_events += subscription.events
        self._next_event += 1
        self._waiting[self._next_event] = event
        self._events_waiting.append(self._next_event)
        self._begin()

    def _begin(self) -> None:
        if self._work is None:
            self._work = self._pass_on()
            self._go_on()

    def _go_on(self) -> None:
        assert self._work is not None
        end = time.perf_counter() + SLICE
        for _ in self._work:
            if time.perf_counter() >= end:
                asyncio.get_running_loop().call_soon(self._go_on)
                return
        self._work = None

    def _pass_on(self) -> Work[None]:
        while self._waiting:
            key = next(iter(self._waiting))
            item = self._waiting.pop(key)
            if isinstance(item, Event):
                self._events_waiting.popleft()
                yield from self._pass_on_event(item)
            else:
                yield from self._pass_on_collection(str(key), *item)

    def _pass_on_event(self, event: Event) -> Work[None]:
        for subscription in list(self._subscriptions):
            if subscription.events and subscription in self._subscriptions:
                subscription.offer(event)
                yield

    def _pass_on_collection(self, plugin: str, latest: Latest, stands_for: int) -> Work[None]:
        rows = Rows(plugin, latest)
        found: dict[tuple[str, ...] | None, Samples] = {}  # made once for all of one interest
        for subscription in list(self._subscriptions):
            if subscription not in self._subscriptions or not subscription.wants(plugin, latest.time):
                continue
            samples = found.get(subscription.interest)
            if samples is None:
                length, chunks = yield from rows.select(subscription.patterns)
                samples = Samples(plugin, latest.time, length, b"".join(chunks))
                found[subscription.interest] = samples
                yield
            if not samples.length or subscription not in self._subscriptions:
                continue
            if subscription.interval <= 0:
                subscription.dropped += (stands_for - 1) * samples.length  # The loop itself was too slow for them.
            subscription.offer(samples)
            yield


def _size(item: Samples | Event) -> int:
    return len(item.rows) if isinstance(item, Samples) else 0
