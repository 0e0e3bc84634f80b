"""The points of all series to the frames of a file: in small steps, while they change."""

import math
import sys
from array import array
from collections.abc import Iterator, Sequence

from plugd.hosting.collection import MetricDeclaration
from plugd.sampling.points_format import (
    BLOCK_SERIES,
    FRAME_BYTES,
    POINTS,
    SERIES,
    Block,
    Closing,
    End,
    Header,
    Opening,
    encode,
)
from plugd.sampling.store import Latest, PluginSeries, Series

POINTS_BYTES = 32 * 1024 * 1024  # of all points; of many series, fewer of each are written
BLOCK_BYTES = 256 * 1024  # beyond which no series is added to a block
STEP = 16  # series between two places to interrupt; they take about 50 microseconds


def pack(plugins: Sequence[tuple[str, PluginSeries]], points: int, boot: str) -> Iterator[bytes]:
    """Yield the payloads of the frames, in their order; nothing, ``b""``, where others may have their turn in between.

    The plugins may change meanwhile: what is written of a series is as it is at one time.

    Args:
        plugins: all of them.
        points: of each series, at most.
        boot: what CLOCK_MONOTONIC began with.
    """
    total = sum(len(own.by_identity) for _, own in plugins)
    most = max(1, min(points, POINTS, POINTS_BYTES // (16 * max(1, total))))
    yield encode(Header(sys.byteorder, boot))
    room, count = SERIES, 0
    for name, own in plugins:
        every, latest = list(own.by_identity.values()), own.latest
        if len(every) > room:
            continue  # Some of a plugin's series would not be told from all of them.
        room -= len(every)
        count += 1
        yield encode(Opening(name))
        yield from _pack_plugin(own, every, latest, most)
    yield encode(End(count))


def _pack_plugin(own: PluginSeries, every: list[Series], latest: Latest, most: int) -> Iterator[bytes]:
    numbers: dict[int, int] = {}  # of the series by their identity in memory
    metrics: dict[MetricDeclaration, int] = {}
    times: dict[bytes, int] = {}
    block = _Columns(metrics, times)
    for position, series in enumerate(every):
        if not series.values:
            continue  # It is just being taken.
        if not block.add(series, most):
            continue
        numbers[id(series)] = len(numbers)
        if block.full:
            yield block.encoded()
            block = _Columns(metrics, times)
        elif not position % STEP:
            yield b""
    if block.length:
        yield block.encoded()
    known, values, rates = array("I"), array("d"), array("d")
    for position, (series, value, rate) in enumerate(zip(latest.series, latest.values, latest.rates, strict=True)):
        number = numbers.get(id(series))
        if number is not None:
            known.append(number)
            values.append(value)
            rates.append(math.nan if rate is None else rate)
        if not position % (100 * STEP):
            yield b""
    # There may have been others since the first series was packed.
    yield encode(Closing(own.collections, latest.time, known.tobytes(), values.tobytes(), rates.tobytes()))


class _Columns:
    """A block that is being filled."""

    def __init__(self, metrics: dict[MetricDeclaration, int], times: dict[bytes, int]) -> None:
        self._metrics, self._times = metrics, times
        self._first_metric, self._first_time = len(metrics), len(times)
        self._metric, self._seen, self._time = array("I"), array("Q"), array("I")
        self._monotonic, self._rates = array("d"), array("d")
        self._labels: list[str] = []
        self._values: list[bytes] = []
        self._bytes = 0
        self.length = 0

    @property
    def full(self) -> bool:
        """Whether no more may be added."""
        return self.length >= BLOCK_SERIES or self._bytes >= BLOCK_BYTES

    def add(self, series: Series, points: int) -> bool:
        """Add a series; return whether it was: not if its labels alone are more than a frame holds."""
        times, values = series.columns(points)
        key = series.key
        metric = key.metric
        size = len(values) + 4 * sum(map(len, key.labels))  # of UTF-8, at most
        if times not in self._times:
            size += len(times)
        if metric not in self._metrics:
            size += 4 * sum(map(len, (*metric.labels, *metric[:3], metric.help)))
        if size > FRAME_BYTES // 2:
            return False
        self._bytes += size
        self._metric.append(self._metrics.setdefault(metric, len(self._metrics)))
        self._time.append(self._times.setdefault(times, len(self._times)))
        self._labels += key.labels
        self._seen.append(series.seen)
        self._monotonic.append(series.monotonic)
        self._rates.append(math.nan if series.rate is None else series.rate)
        self._values.append(values)
        self.length += 1
        return True

    def encoded(self) -> bytes:
        """Return its bytes."""
        columns = (self._seen, self._monotonic, self._rates, self._time)
        seen, monotonic, rates, time = [column.tobytes() for column in columns]
        return encode(
            Block(
                list(self._metrics)[self._first_metric :],
                list(self._times)[self._first_time :],
                self._metric.tobytes(),
                self._labels,
                seen,
                monotonic,
                rates,
                time,
                b"".join(self._values),
            )
        )
