"""The frames of a file to the points of all series: nothing is taken that does not fit together."""

import math
import sys
from array import array
from collections.abc import Iterator

from plugd.hosting.collection import HELP_CHARACTERS, MetricDeclaration, SeriesKey
from plugd.sampling.points_format import SERIES, Block, Closing, End, Frame, Header, Opening
from plugd.sampling.store import Latest, PluginSeries, Series, identity_of


def unpack(frames: Iterator[Frame], points: int, boot: str, monotonic: float) -> dict[str, PluginSeries]:
    """Return the series that the frames hold, by plugin.

    Args:
        frames: of a file.
        points: of each series, that are kept.
        boot: what CLOCK_MONOTONIC began with. After another boot rates begin anew.
        monotonic: seconds of CLOCK_MONOTONIC now; rates of series that are later begin anew.

    Raises:
        ValueError, IndexError: they hold something else.
    """
    header = next(frames)
    if not isinstance(header, Header) or header.order != sys.byteorder:
        raise ValueError("it is of another kind of machine")
    if not boot or header.boot != boot:
        monotonic = -1.0
    plugins: dict[str, PluginSeries] = {}
    rest = SERIES
    for each in frames:
        if isinstance(each, End):
            if each.plugins != len(plugins):
                raise ValueError("plugins are missing")
            return plugins
        if not isinstance(each, Opening):
            raise ValueError("a plugin is missing")  # noqa: TRY004 - of a file, not of an argument
        own = _unpack_plugin(frames, points, monotonic, rest)
        rest -= len(own.by_identity)
        plugins[each.name] = own
    raise ValueError("it ends too early")


def _unpack_plugin(frames: Iterator[Frame], points: int, monotonic: float, room: int) -> PluginSeries:
    own = PluginSeries()
    every: list[Series] = []
    metrics: list[MetricDeclaration] = []
    times: list[array[float]] = []
    for each in frames:
        if isinstance(each, Closing):
            own.by_identity = {identity_of(series.key): series for series in every}
            own.collections, own.latest = each.collections, _latest(each, every)
            if any(series.seen > own.collections for series in every):
                raise ValueError("a series is later than its plugin")
            return own
        if not isinstance(each, Block):
            raise ValueError("series are missing")  # noqa: TRY004 - as above
        metrics += map(_checked, each.metrics)
        times += map(_times, each.times)
        every += _unpack_block(each, metrics, times, points, monotonic)
        if len(every) > room:
            raise ValueError(f"more than {SERIES} series")
    raise ValueError("it ends too early")


def _unpack_block(
    block: Block, metrics: list[MetricDeclaration], times: "list[array[float]]", points: int, monotonic: float
) -> Iterator[Series]:
    metric, time, seen = array("I", block.metric), array("I", block.time), array("Q", block.seen)
    taken, rates, values = _floats(block.monotonic), array("d", block.rates), _floats(block.values)
    label = value = 0
    for which, when, last, at, rate in zip(metric, time, seen, taken, rates, strict=True):
        declared = metrics[which]
        labels = tuple(block.labels[label : label + len(declared.labels)])
        if len(labels) < len(declared.labels):
            raise ValueError("labels are missing")
        label += len(labels)
        its_times = times[when]
        its_values = values[value : value + len(its_times)]
        if len(its_values) < len(its_times):
            raise ValueError("points are missing")
        value += len(its_values)
        key, known = SeriesKey(declared, labels), at if 0 <= at <= monotonic else -1.0
        # Copies: each goes on by itself.
        series = Series.of(key, its_times[-points:], its_values[-points:], known, _rate(rate))
        series.seen = last
        yield series
    if label != len(block.labels) or value != len(values):
        raise ValueError("there is more than its series have")


def _latest(closing: Closing, every: list[Series]) -> Latest:
    numbers, values, rates = array("I", closing.series), _floats(closing.values), array("d", closing.rates)
    if not len(numbers) == len(values) == len(rates) or not math.isfinite(closing.time):
        raise ValueError("the last collection is not complete")
    return Latest(
        [every[number] for number in numbers],
        values,
        [_rate(rate) for rate in rates],
        closing.time,
    )


def _rate(number: float) -> float | None:
    if math.isnan(number):
        return None
    if not 0 <= number < math.inf:
        raise ValueError(f"a rate of {number}")
    return number


def _checked(metric: MetricDeclaration) -> MetricDeclaration:
    if metric.kind not in ("gauge", "counter") or len(metric.help) > HELP_CHARACTERS:
        raise ValueError(f"metric {metric.name!r:.100} is none")
    return metric


def _times(data: bytes) -> "array[float]":
    times = _floats(data)
    if not times:
        raise ValueError("a series without points")
    return times


def _floats(data: bytes) -> "array[float]":
    """Return the numbers of a column; none is infinite, as JSON would not hold it."""
    numbers = array("d", data)
    # Their sum is quicker, and tells but for numbers whose sum is too large for one.
    if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
        raise ValueError("a value is not a finite number")
    return numbers
