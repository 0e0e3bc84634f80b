"""Streams of samples and events to clients: bounded, so that a slow reader costs itself and nobody else."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from plugd.hosting.events import Event, EventLog
from plugd.rpc.codec import encode_notification
from plugd.sampling.store import MetricStore, Series, matches

QUEUE = 256  # notifications that wait for a slow reader


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
        self.patterns = None if patterns is None else tuple(patterns)
        self.events = events
        self.interval = interval
        self.dropped = 0  # samples lost to slowness
        self.dropped_events = 0
        self._send = send
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._limit = queue
        self._last: dict[str, float] = {}

    def wants(self, plugin: str, wall: float) -> bool:
        """Whether a collection at this time is one to be sent."""
        if self.interval <= 0:
            return True
        # Half a tick of grace: "every 2 s" of a plugin at 1 s is every second one, a little early or late.
        # A last one in the future is one from before the clock was set back.
        if 0 <= wall - self._last.get(plugin, -1e9) < self.interval * 0.95:
            return False
        self._last[plugin] = wall
        return True

    def offer(self, method: str, params: dict[str, Any]) -> None:
        """Send, or queue behind what the client has not taken; the oldest make way."""
        if not self._queue and self._send(lambda: self._encode(method, params)):
            return
        if len(self._queue) >= self._limit:
            lost_method, lost = self._queue.popleft()
            if lost_method == "sample":
                self.dropped += len(lost["samples"])
            else:
                self.dropped_events += 1
        self._queue.append((method, params))

    def drain(self) -> None:
        """Send on: the client has taken what was under way."""
        while self._queue:
            method, params = self._queue[0]
            if not self._send(lambda method=method, params=params: self._encode(method, params)):  # type: ignore[misc]
                return
            self._queue.popleft()

    def _encode(self, method: str, params: dict[str, Any]) -> bytes:
        params = {"subscription": self.identifier, **params}
        if method == "sample":
            params["dropped"] = self.dropped
        return encode_notification(method, params)


class Broker:
    """All subscriptions, between the store and the event log on one side and the sessions on the other."""

    def __init__(self, store: MetricStore, events: EventLog) -> None:
        self._subscriptions: set[Subscription] = set()
        store.listen(self._handle_collection)
        events.listen(self._handle_event)

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Have a subscription served from now on."""
        self._subscriptions.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Serve it no more."""
        self._subscriptions.discard(subscription)

    def _handle_collection(self, plugin: str, series: Sequence[Series], wall: float) -> None:
        if not self._subscriptions:
            return
        rows: dict[tuple[str, ...] | None, list[dict[str, Any]]] = {}  # made once for all of one interest
        for subscription in list(self._subscriptions):
            patterns = subscription.patterns
            if patterns == () or not subscription.wants(plugin, wall):
                continue
            if patterns not in rows:
                rows[patterns] = [
                    each.as_dict(plugin)
                    for each in series
                    if patterns is None or matches(patterns, plugin, each.key.metric.name)
                ]
            if rows[patterns]:
                subscription.offer("sample", {"plugin": plugin, "time": wall, "samples": rows[patterns]})

    def _handle_event(self, event: Event) -> None:
        for subscription in list(self._subscriptions):
            if subscription.events:
                subscription.offer("event", event.as_dict())
