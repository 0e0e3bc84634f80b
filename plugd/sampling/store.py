"""The latest value of every series, its rate, and a ring of its recent points.

A series costs at most 1.7 KiB with the 60 points that are kept by default: two rings of eight-byte floats that
grow to their size and stay there, a handful of attributes, and its place in the tables. Its key and the text of
its labels, a quarter of a KiB with one label, are shared with the index of its worker.

What is read of a plugin is one whole collection, :class:`Latest`: it is put in force when all of it has been taken,
and is not changed afterwards.
"""

from array import array
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import anyio.lowlevel

from plugd.hosting.collection import Collection, SeriesKey

POINTS = 60  # of each series
SLICE = 1000  # samples, between which others have their turn; they take about a millisecond
STALE_COLLECTIONS = 100  # without a series, after which it is forgotten

Identity = tuple[str, str, str, tuple[str, ...], tuple[str, ...]]
"""Name, kind and unit of a metric, the names of its labels, and their values."""


class Series:
    """One series: its latest value and recent points.

    Attributes:
        rate: of a counter: the growth per second between the last two points, by the time that was measured
            between them; None before there are two, and just after the counter began anew.
    """

    __slots__ = ("_next", "key", "labels", "monotonic", "rate", "seen", "time", "times", "value", "values")

    def __init__(self, key: SeriesKey) -> None:
        self.share(key)
        self.value = 0.0
        self.time = 0.0  # Unix seconds
        self.monotonic = -1.0  # seconds of CLOCK_MONOTONIC; below 0: no point yet
        self.rate: float | None = None
        self.seen = 0  # number of the plugin's collection that it was last part of
        self.times = array("d")
        self.values = array("d")
        self._next = 0  # where the ring goes on, once it is full

    def share(self, key: SeriesKey) -> None:
        """Have the key, and the text of the labels, in common with the index of its worker."""
        self.key = key
        self.labels = dict(zip(key.metric.labels, key.labels, strict=True))

    @classmethod
    def of(
        cls, key: SeriesKey, times: "array[float]", values: "array[float]", monotonic: float, rate: float | None
    ) -> "Series":
        """Return a series with points that it had before, the oldest first; of as many times as values, and not none.

        Args:
            key: what it is called.
            times: Unix seconds; not to be changed afterwards, as the values.
            values: those at these times.
            monotonic: when the last point was taken; below 0: by another clock than this one, so that the rate
                begins anew.
            rate: the last.
        """
        series = cls(key)
        series.times, series.values = times, values
        series.time, series.value = times[-1], values[-1]
        series.monotonic, series.rate = monotonic, rate
        return series

    def add(self, value: float, wall: float, monotonic: float, points: int) -> None:
        """Take a point."""
        if self.key.metric.kind == "counter":
            elapsed = monotonic - self.monotonic
            if self.monotonic >= 0 and elapsed > 0 and value >= self.value:
                self.rate = (value - self.value) / elapsed
            else:
                self.rate = None  # A smaller value is a counter that began anew: how far it got is not known.
        self.value = value
        self.time = wall
        self.monotonic = monotonic
        if len(self.values) < points:
            self.times.append(wall)
            self.values.append(value)
        else:
            self.times[self._next] = wall
            self.values[self._next] = value
            self._next = (self._next + 1) % points

    def columns(self, points: int) -> tuple[bytes, bytes]:
        """Return times and values of the latest points, so many at most, as float64; the oldest first."""
        first, length = self._next, len(self.values)
        if not first:
            start = max(0, length - points)
            return self.times[start:].tobytes(), self.values[start:].tobytes()
        times, values = self.times[first:] + self.times[:first], self.values[first:] + self.values[:first]
        start = max(0, length - points)
        return times[start:].tobytes(), values[start:].tobytes()

    def recent(self) -> list[tuple[float, float]]:
        """Return the points that are kept, ``(time, value)``, the oldest first."""
        pairs = list(zip(self.times, self.values, strict=True))
        return pairs[self._next :] + pairs[: self._next]


class Latest(NamedTuple):
    """A plugin's last collection: ``values[i]`` and ``rates[i]`` belong to ``series[i]``; never changed."""

    series: Sequence[Series] = ()
    values: "array[float]" = array("d")
    rates: Sequence[float | None] = ()
    time: float = 0.0  # Unix seconds


class PluginSeries:
    """The series of one plugin; outlives its generations, so that rates go on over a reload, and a restart.

    Attributes:
        by_identity: all that are known, by what they are called.
        keys: of the last collection, as the worker's index has them.
        series: of these keys.
        latest: the last collection that is complete.
        collections: how many there were.
    """

    __slots__ = ("by_identity", "collections", "keys", "latest", "series")

    def __init__(self) -> None:
        self.by_identity: dict[Identity, Series] = {}
        self.keys: Sequence[SeriesKey] = ()
        self.series: list[Series] = []
        self.latest = Latest()
        self.collections = 0


class MetricStore:
    """The series of all plugins.

    Args:
        points: how many recent points are kept of each series.
    """

    def __init__(self, points: int = POINTS) -> None:
        self._points = points
        self._plugins: dict[str, PluginSeries] = {}
        self.recorded = 0  # collections
        self._listeners: list[Callable[[str, Latest], None]] = []

    def __len__(self) -> int:
        """The number of series."""
        return sum(len(each.by_identity) for each in self._plugins.values())

    async def record(self, plugin: str, collection: Collection) -> None:
        """Take the samples of one collection, and tell the listeners.

        Many samples are taken in slices, between which the event loop serves others: a plugin with ten thousand
        series must not delay the ticks of the rest.
        """
        own = self._plugins.get(plugin)
        if own is None:
            own = self._plugins[plugin] = PluginSeries()
        own.collections += 1
        self.recorded += 1
        if collection.keys is not own.keys:
            found: list[Series] = []
            for start in range(0, len(collection.keys), SLICE):
                if start:
                    await anyio.lowlevel.checkpoint()
                found += [_series(own, key) for key in collection.keys[start : start + SLICE]]
            own.keys, own.series = collection.keys, found
        all_series, rates = own.series, []
        wall, monotonic, points, number = collection.time, collection.monotonic, self._points, own.collections
        for start in range(0, len(all_series), SLICE):
            if start:
                await anyio.lowlevel.checkpoint()
            values = collection.values[start : start + SLICE]
            for series, value in zip(all_series[start : start + SLICE], values, strict=True):
                series.seen = number
                series.add(value, wall, monotonic, points)
                rates.append(series.rate)
        own.latest = Latest(all_series, collection.values, rates, wall)
        if number % STALE_COLLECTIONS == 0:
            _forget_stale(own)
        for listener in self._listeners:
            listener(plugin, own.latest)

    def remove(self, plugin: str) -> None:
        """Forget all series of a plugin."""
        self._plugins.pop(plugin, None)

    def retain(self, plugins: Container[str]) -> None:
        """Forget all series of other plugins than these."""
        for plugin in [each for each in self._plugins if each not in plugins]:
            self.remove(plugin)

    def restore(self, plugins: Mapping[str, PluginSeries]) -> None:
        """Take the series of plugins as a daemon before has left them; nobody is told."""
        self._plugins.update(plugins)

    def plugins(self) -> list[tuple[str, PluginSeries]]:
        """Return the series of every plugin."""
        return list(self._plugins.items())

    def listen(self, listener: Callable[[str, Latest], None]) -> None:
        """Have ``listener(plugin, latest)`` called after every collection; it must not block or raise."""
        self._listeners.append(listener)

    def count(self, plugin: str) -> int:
        """Return how many series of a plugin are known."""
        own = self._plugins.get(plugin)
        return len(own.by_identity) if own else 0

    def collections(self) -> list[tuple[str, Latest]]:
        """Return the last collection of every plugin, in the order of their names."""
        return [(plugin, self._plugins[plugin].latest) for plugin in sorted(self._plugins)]

    def series_of(self, plugin: str) -> Sequence[Series]:
        """Return the series of a plugin's last collection, in its order."""
        own = self._plugins.get(plugin)
        return own.latest.series if own else ()

    def latest(self, plugin: str) -> list[dict[str, Any]]:
        """Return a plugin's last samples, ``{name, labels, value, time}`` each."""
        own = self._plugins.get(plugin)
        series, values, _, wall = own.latest if own else Latest()
        return [
            {"name": each.key.metric.name, "labels": each.labels, "value": value, "time": wall}
            for each, value in zip(series, values, strict=True)
        ]


def identity_of(key: SeriesKey) -> Identity:
    """Return what makes a series the same as one before: all but the help of its metric."""
    metric = key.metric
    return (metric.name, metric.kind, metric.unit, metric.labels, key.labels)


def _series(own: PluginSeries, key: SeriesKey) -> Series:
    identity = identity_of(key)
    series = own.by_identity.get(identity)
    if series is None:
        series = own.by_identity[identity] = Series(key)
    elif series.key is not key:
        series.share(key)
    return series


def _forget_stale(own: PluginSeries) -> None:
    oldest = own.collections - STALE_COLLECTIONS
    for identity in [identity for identity, series in own.by_identity.items() if series.seen <= oldest]:
        del own.by_identity[identity]
