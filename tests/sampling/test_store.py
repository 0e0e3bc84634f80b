"""Series: their latest values, rates and recent points."""

import asyncio
import gc
import tracemalloc
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_rig import record

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.sampling.store import POINTS, SLICE, STALE_COLLECTIONS, Latest, MetricStore, Series

COUNTER = MetricDeclaration("system.cpu.time", "counter", "s", ("cpu",), "")
GAUGE = MetricDeclaration("system.memory.usage", "gauge", "By", ("state",), "")
ONE = SeriesKey(COUNTER, ("0",))
TWO = SeriesKey(GAUGE, ("used",))


def collection(keys: Sequence[SeriesKey], values: Sequence[float], at: float, wall: float | None = None) -> Collection:
    """Return a collection at a monotonic time, and a wall-clock time that is another."""
    return Collection(keys, array("d", values), 1000.0 + at if wall is None else wall, at, 0.001, {})


def rates(
    store: MetricStore, points: Sequence[tuple[float, float]], keys: Sequence[SeriesKey] = (ONE,)
) -> list[float | None]:
    """Record values of one series at monotonic times; return the rate after each."""
    found = []
    for at, value in points:
        record(store, "cpu", collection(keys, [value], at))
        found.append(store.series_of("cpu")[0].rate)
    return found


def test_a_rate_needs_two_points() -> None:
    """It is the growth per second of measured time, and not per interval."""
    assert rates(MetricStore(), [(10.0, 100.0), (12.5, 110.0), (13.0, 110.0)]) == [None, 4.0, 0.0]


def test_a_counter_that_began_anew_has_no_rate() -> None:
    """Neither a negative nor a doubled one: it is not known how far it got; from the next point on it is."""
    points = [(1.0, 100.0), (2.0, 200.0), (3.0, 5.0), (4.0, 15.0)]
    assert rates(MetricStore(), points) == [None, 100.0, None, 10.0]


def test_a_counter_may_begin_at_zero_and_at_time_zero() -> None:
    """Zero is a value, and a time like any other."""
    assert rates(MetricStore(), [(0.0, 0.0), (1.0, 3.0)]) == [None, 3.0]


def test_two_points_of_one_instant_have_no_rate() -> None:
    """Nothing is divided by zero, nor by a time that went backwards."""
    assert rates(MetricStore(), [(1.0, 1.0), (1.0, 2.0), (0.5, 3.0), (1.5, 4.0)]) == [None, None, None, 1.0]


def test_the_clock_on_the_wall_is_nothing_to_a_rate() -> None:
    """A clock set back by an hour amid two points does not turn it round."""
    store = MetricStore()
    record(store, "cpu", collection([ONE], [10.0], 1.0, wall=5000.0))
    record(store, "cpu", collection([ONE], [20.0], 2.0, wall=1400.0))
    assert store.series_of("cpu")[0].rate == 10.0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 1e9), st.floats(0.0, 1e15)),
        min_size=2,
        max_size=30,
    )
)
def test_a_rate_is_never_negative(points: list[tuple[float, float]]) -> None:
    """Whatever values and times come."""
    assert all(rate is None or rate >= 0 for rate in rates(MetricStore(), points))


def test_a_gauge_has_no_rate() -> None:
    """However often it is taken."""
    store = MetricStore()
    for at in (1.0, 2.0):
        record(store, "memory", collection([TWO], [at], at))
    [series] = store.series_of("memory")
    assert series.rate is None


def test_a_rate_goes_on_over_a_reload() -> None:
    """A new generation has new keys; a series is the same by what it is called, with its points and its rate."""
    store = MetricStore()
    rates(store, [(1.0, 10.0), (2.0, 20.0)])
    [before] = store.series_of("cpu")
    again = SeriesKey(MetricDeclaration("system.cpu.time", "counter", "s", ("cpu",), "Now with a help."), ("0",))
    assert rates(store, [(5.0, 80.0)], [again]) == [20.0]
    assert store.series_of("cpu") == [before]
    assert [value for _, value in before.recent()] == [10.0, 20.0, 80.0]
    assert len(store) == 1


@pytest.mark.parametrize(
    "metric",
    [
        COUNTER._replace(unit="ms"),
        COUNTER._replace(kind="gauge"),
        COUNTER._replace(name="other"),
        COUNTER._replace(labels=("core",)),
    ],
)
def test_what_has_changed_its_meaning_is_another_series(metric: MetricDeclaration) -> None:
    """A unit, a kind, a name or a label that is another: no rate across, and no common points."""
    store = MetricStore()
    rates(store, [(1.0, 10.0)])
    assert rates(store, [(2.0, 20.0)], [SeriesKey(metric, ("0",))]) == [None]
    assert len(store.series_of("cpu")[0].recent()) == 1


def test_series_are_apart_by_plugin() -> None:
    """Two instances of one file may emit the same names."""
    store = MetricStore()
    record(store, "disk@a", collection([ONE], [1.0], 1.0))
    record(store, "disk@b", collection([ONE], [2.0], 1.0))
    assert [store.series_of(name)[0].value for name in ("disk@a", "disk@b")] == [1.0, 2.0]
    assert (len(store), store.count("disk@a")) == (2, 1)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7, 14, 15, 16])
def test_the_ring_keeps_the_last_points_in_order(count: int) -> None:
    """The oldest first, however often it has gone round."""
    series = Series(TWO)
    for number in range(count):
        series.add(float(number), 1000.0 + number, float(number), 5)
    expected = range(max(0, count - 5), count)
    assert series.recent() == [(1000.0 + number, float(number)) for number in expected]


def test_the_latest_series_are_those_of_the_last_collection() -> None:
    """In its order; one that did not come is not shown, and known all the same."""
    store = MetricStore()
    keys = [ONE, TWO]
    record(store, "p", collection(keys, [1.0, 2.0], 1.0))
    record(store, "p", collection([TWO], [3.0], 2.0))
    assert [series.key for series in store.series_of("p")] == [TWO]
    assert store.count("p") == 2
    record(store, "p", collection([TWO, ONE], [4.0, 5.0], 3.0))
    assert [(series.key, series.value) for series in store.series_of("p")] == [(TWO, 4.0), (ONE, 5.0)]


def test_an_empty_collection_shows_nothing() -> None:
    """A plugin that has nothing to say has no latest series."""
    store = MetricStore()
    record(store, "p", collection((ONE,), [1.0], 1.0))
    record(store, "p", collection((), [], 2.0))
    assert store.series_of("p") == []
    assert store.latest("p") == []


def test_values_and_keys_belong_together() -> None:
    """A collection of fewer values than series is refused, and not shifted."""
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        record(MetricStore(), "p", collection([ONE, TWO], [1.0], 1.0))


def test_a_series_is_forgotten_when_it_has_long_been_gone() -> None:
    """After a hundred collections without it, and not before."""
    store = MetricStore()
    record(store, "p", collection([ONE, TWO], [1.0, 1.0], 0.0))
    keys = [ONE]
    for number in range(1, STALE_COLLECTIONS):
        record(store, "p", collection(keys, [1.0], float(number)))
    assert store.count("p") == 2
    for number in range(STALE_COLLECTIONS, 2 * STALE_COLLECTIONS + 1):
        record(store, "p", collection(keys, [1.0], float(number)))
    assert store.count("p") == 1
    assert rates(MetricStore(), [(1.0, 1.0)]) == [None]


def test_a_series_that_comes_back_too_late_starts_anew() -> None:
    """What was forgotten has no points and no rate."""
    store = MetricStore()
    keys: tuple[SeriesKey, ...] = ()
    record(store, "p", collection([ONE], [1.0], 0.0))
    for number in range(1, 2 * STALE_COLLECTIONS):
        record(store, "p", collection(keys, [], float(number)))
    record(store, "p", collection([ONE], [9.0], 1000.0))
    [series] = store.series_of("p")
    assert (series.rate, len(series.recent())) == (None, 1)


def test_a_removed_plugin_leaves_nothing() -> None:
    """No series, no memory; removing what is not there is no error."""
    store = MetricStore()
    keys = [SeriesKey(GAUGE, (str(number),)) for number in range(2000)]
    values = [1.0] * len(keys)
    gc.collect()
    tracemalloc.start()
    try:
        record(store, "warm", collection(keys[:1], [1.0], 0.0))
        before = tracemalloc.get_traced_memory()[0]
        for number in range(POINTS):
            record(store, "p", collection(keys, values, float(number)))
        grown = tracemalloc.get_traced_memory()[0] - before
        store.remove("p")
        store.remove("p")
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert (len(store), store.count("p"), list(store.series_of("p")), store.latest("p")) == (1, 0, [], [])
    assert grown > 1_000_000
    assert left < 20_000


def test_a_series_costs_no_more_than_is_said() -> None:
    """1.7 KiB with all its points: what the documentation of the module promises."""
    keys = [SeriesKey(COUNTER, (f"label-{number}",)) for number in range(2000)]
    store = MetricStore()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(POINTS + 5):
            values = [number * 1.5 + index for index in range(len(keys))]
            record(store, "p", collection(keys, values, float(number), wall=1.7e9 + number))
        del values
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / len(keys)
    finally:
        tracemalloc.stop()
    assert len(store.series_of("p")[0].recent()) == POINTS
    assert each < 1.7 * 1024


def test_a_series_does_not_grow() -> None:
    """After its points are full, ten times as many collections take no more."""
    keys = [SeriesKey(COUNTER, (str(number),)) for number in range(200)]
    store = MetricStore()

    def grown(first: int, last: int) -> int:
        for number in range(first, last):
            record(store, "p", collection(keys, [number + 0.5] * len(keys), float(number)))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = grown(0, 2 * POINTS)
        later = grown(2 * POINTS, 12 * POINTS)
    finally:
        tracemalloc.stop()
    assert later - full < 5_000


def test_the_latest_samples_are_what_other_plugins_get() -> None:
    """Of a plugin's last collection, with its time."""
    store = MetricStore()
    record(store, "cpu", collection([ONE], [10.0], 1.0, wall=1000.0))
    assert store.latest("cpu") == [{"name": "system.cpu.time", "labels": {"cpu": "0"}, "value": 10.0, "time": 1000.0}]


def test_collections_are_in_the_order_of_the_plugins() -> None:
    """Each with its values, rates and time."""
    store = MetricStore()
    record(store, "memory", collection([TWO], [1.0], 1.0))
    for at in (1.0, 2.0):
        record(store, "cpu", collection([ONE], [3 * at], at))
    [(first, cpu), (second, memory)] = store.collections()
    assert (first, list(cpu.values), cpu.rates, cpu.time) == ("cpu", [6.0], [3.0], 1002.0)
    assert (second, list(memory.values), memory.rates, memory.time) == ("memory", [1.0], [None], 1001.0)
    assert [each.key for each in (*cpu.series, *memory.series)] == [ONE, TWO]


def test_a_collection_is_not_changed_by_the_next() -> None:
    """Who reads it in slices reads one collection, whatever comes meanwhile."""
    store = MetricStore()
    record(store, "cpu", collection([ONE], [10.0], 1.0))
    [(_, before)] = store.collections()
    record(store, "cpu", collection([ONE], [20.0], 2.0))
    assert (list(before.values), before.rates, before.time) == ([10.0], [None], 1001.0)


def test_a_collection_that_is_being_taken_is_not_seen() -> None:
    """What is read before its last sample is taken is all of the one before."""
    keys = [SeriesKey(GAUGE, (str(number),)) for number in range(SLICE + 1)]
    store = MetricStore()
    record(store, "p", collection([ONE], [1.0], 0.0))
    seen: list[tuple[list[SeriesKey], list[float]]] = []

    async def read_meanwhile() -> None:
        taking = asyncio.create_task(store.record("p", collection(keys, [7.0] * len(keys), 1.0)))
        while not taking.done():
            [(_, latest)] = store.collections()
            seen.append(([each.key for each in latest.series], list(latest.values)))
            await asyncio.sleep(0)

    asyncio.run(read_meanwhile())
    assert len(seen) > 2
    assert all(each == ([ONE], [1.0]) for each in seen)
    assert len(store.series_of("p")) == len(keys)


def test_listeners_hear_of_every_collection() -> None:
    """With the plugin, its latest series and the time, after they are stored."""
    store = MetricStore()
    heard: list[tuple[str, Latest, Latest]] = []
    store.listen(lambda plugin, latest: heard.append((plugin, latest, store.collections()[0][1])))
    record(store, "cpu", collection([ONE], [3.0], 1.0, wall=1000.0))
    [(plugin, latest, stored)] = heard
    assert (plugin, list(latest.values), latest.time, latest is stored) == ("cpu", [3.0], 1000.0, True)
