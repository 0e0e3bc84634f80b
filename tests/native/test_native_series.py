"""The series of a native plugin, without a plugin: ids, budgets, and what the daemon is told."""

import math
import random
from array import array

import pytest

from plugd.hosting.collection import MetricDeclaration, SeriesIndex
from plugd.metric import Gauge
from plugd.worker.abi import DROPPED, NO_SERIES
from plugd.worker.native_series import MetricRow, NativeSeries, SeriesError
from plugd.worker.series import FORGET_AFTER, Collected, SeriesTable

METRICS = (MetricRow("plain", "gauge", "1", (), ""), MetricRow("pair", "gauge", "1", ("a", "b"), ""))


def take(table: NativeSeries, samples: dict[int, float] | list[tuple[int, float]], **overflow: int) -> Collected:
    pairs = list(samples.items()) if isinstance(samples, dict) else samples
    ids, values = array("I", [pair[0] for pair in pairs]), array("d", [pair[1] for pair in pairs])
    return table.take(ids.tobytes(), values.tobytes(), **overflow)


def refusal(table: NativeSeries, samples: dict[int, float] | list[tuple[int, float]]) -> str:
    with pytest.raises(SeriesError) as caught:
        take(table, samples)
    return str(caught.value)


def test_the_same_labels_are_the_same_series() -> None:
    """Whenever they are asked for; others are another."""
    table = NativeSeries(METRICS)
    first = table.series(1, (b"x", b"1"))
    assert table.series(1, (b"x", b"1")) == first
    assert len({first, table.series(1, (b"x", b"2")), table.series(0, ())}) == 3


@pytest.mark.parametrize(
    ("metric", "labels", "reason"),
    [
        (2, (), "metric number 2 of 2: there is none"),
        (NO_SERIES, (), "metric number 4294967295 of 2: there is none"),
        (0, (b"x",), "metric 'plain': 1 label values for 0 labels"),
        (1, (b"x",), "metric 'pair': 1 label values for 2 labels"),
        (1, (b"x", None), "metric 'pair': label 'b' is NULL"),
    ],
)
def test_a_series_that_cannot_be_is_refused(metric: int, labels: tuple[bytes | None, ...], reason: str) -> None:
    """By the metric's declaration."""
    with pytest.raises(SeriesError) as caught:
        NativeSeries(METRICS).series(metric, labels)
    assert str(caught.value) == reason


def test_a_series_is_defined_when_it_is_first_emitted() -> None:
    """And not when it is asked for; its labels are text then, whatever bytes they were."""
    table = NativeSeries(METRICS)
    plain, pair = table.series(0, ()), table.series(1, (b"x", b"\xff"))
    collected = take(table, {pair: 1.0})
    assert collected.define == [[pair, 1, ["x", "\\xff"]]]
    collected = take(table, {plain: 1.0, pair: 2.0})
    assert collected.define == [[plain, 0, []]]


def test_ids_are_told_when_they_have_changed() -> None:
    """Otherwise a collection is its values."""
    table = NativeSeries(METRICS)
    first, second = table.series(0, ()), table.series(1, (b"x", b"1"))
    assert take(table, {first: 1.0, second: 2.0}).ids == array("I", [first, second]).tobytes()
    collected = take(table, {first: 3.0, second: 4.0})
    assert (collected.ids, array("d", collected.values)) == (None, array("d", [3.0, 4.0]))
    assert take(table, {second: 4.0, first: 3.0}).ids == array("I", [second, first]).tobytes()
    assert take(table, {}).ids == b""


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -math.nan])
def test_a_value_that_is_no_finite_number_is_refused(value: float) -> None:
    """With its series; and nothing of the collection is kept."""
    table = NativeSeries(METRICS)
    first, second = table.series(0, ()), table.series(1, (b"x", b"1"))
    assert refusal(table, {first: 1.0, second: value}) == (
        f"metric 'pair': the series {{a=x, b=1}}: value {value} is not a finite number"
    )
    collected = take(table, {first: 1.0, second: 1.0})
    assert [row[0] for row in collected.define] == [first, second]
    assert collected.ids is not None


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7e308, 5e-324, -0.0, 2.0**513, 1e300])
def test_every_finite_number_is_taken(value: float) -> None:
    """Also those whose exponents look like an infinity's at first sight."""
    table = NativeSeries(METRICS)
    assert take(table, {table.series(0, ()): value}).values == array("d", [value]).tobytes()


def test_a_series_comes_once_in_a_collection() -> None:
    """Twice, and the collection is refused; the next one is whole again."""
    table = NativeSeries(METRICS)
    first, second = table.series(0, ()), table.series(1, (b"x", b"1"))
    assert refusal(table, [(second, 1.0), (first, 1.0), (second, 2.0)]) == (
        "metric 'pair': the series {a=x, b=1} came twice in one collection"
    )
    assert len(take(table, {first: 1.0}).define) == 1


@pytest.mark.parametrize("identifier", [7, NO_SERIES, DROPPED | 2])
def test_an_id_that_was_never_given_out_is_refused(identifier: int) -> None:
    """Whatever its bits."""
    table = NativeSeries(METRICS)
    assert refusal(table, {table.series(0, ()): 1.0, identifier: 1.0}) == (
        f"series {identifier} is none that plugd_series() has returned"
    )


def test_series_over_the_budget_are_dropped_and_counted() -> None:
    """At every collection, by metric, with the label that has the most values; the others are kept, in their order."""
    table = NativeSeries(METRICS, budget=2)
    ids = [table.series(1, (b"x", str(number).encode())) for number in range(4)]
    plain = table.series(0, ())
    for value in (1.0, 2.0):
        collected = take(table, [*((each, value + each) for each in ids), (plain, 9.0)])
        assert collected.dropped == {"pair": 2}
        assert collected.exploding == {"pair": "b"}
        assert array("d", collected.values) == array("d", [value + ids[0], value + ids[1], 9.0])
    assert collected.ids is None


def test_the_samples_of_a_dropped_series_may_repeat() -> None:
    """A plugin that was refused an id has but the one for all of them."""
    table = NativeSeries(METRICS, budget=1)
    ids = [table.series(1, (b"x", str(number).encode())) for number in range(5)]
    assert ids[2:] == [DROPPED | 1] * 3
    collected = take(table, [(each, 1.0) for each in ids])
    assert collected.dropped == {"pair": 4}
    assert len(collected.values) == 8


def test_samples_without_room_are_counted() -> None:
    """Under the metric of the first of them."""
    table = NativeSeries(METRICS)
    first = table.series(0, ())
    collected = take(table, {first: 1.0}, overflow=5, overflow_series=table.series(1, (b"x", b"y")))
    assert (collected.cut, collected.dropped) == (True, {"pair": 5})
    assert take(table, {first: 1.0}).dropped == {}


def test_a_series_that_is_not_emitted_for_long_is_forgotten_and_comes_back() -> None:
    """The daemon forgets it; the plugin's id stays good, and is defined again."""
    table = NativeSeries(METRICS)
    stays, goes = table.series(0, ()), table.series(1, (b"x", b"1"))
    take(table, {stays: 1.0, goes: 1.0})
    forgotten = [each for _ in range(2 * FORGET_AFTER) for each in take(table, {stays: 1.0}).forget]
    assert forgotten == [goes]
    assert take(table, {stays: 1.0, goes: 2.0}).define == [[goes, 1, ["x", "1"]]]


def test_there_is_room_again_for_what_was_dropped() -> None:
    """Once others have been forgotten."""
    table = NativeSeries(METRICS, budget=1)
    first, second = (table.series(1, (b"x", name)) for name in (b"1", b"2"))
    take(table, {first: 1.0})
    counts = [len(take(table, {second: 1.0}).values) // 8 for _ in range(2 * FORGET_AFTER + 1)]
    assert counts[0] == 0
    assert counts[-1] == 1


def test_ids_of_series_without_end_are_taken_back() -> None:
    """A plugin that makes new series all the time has twice the budget of them, and needs no more memory than that."""
    table = NativeSeries(METRICS, budget=10)
    first = table.series(1, (b"x", b"0"))
    for number in range(5000):
        identifier = table.series(1, (b"x", str(number).encode()))
        assert identifier == DROPPED | 1 or identifier <= 5000
        take(table, {identifier: 1.0})
        assert len(table._series) <= 20
        assert len(table._used) <= 21
    assert "is forgotten" in refusal(table, {first: 1.0})
    assert table.series(1, (b"x", b"0")) != first


def test_no_more_series_are_alive_than_the_daemon_takes() -> None:
    """Of all metrics together: a daemon that is told of more would take it for an attack."""
    metrics = tuple(MetricRow(f"m{number}", "gauge", "1", ("n",), "") for number in range(5))
    table = NativeSeries(metrics, budget=100, most=100)
    index = SeriesIndex([MetricDeclaration(*row) for row in metrics], 2 * 100)
    for metric in range(5):
        ids = [table.series(metric, (str(number).encode(),)) for number in range(60)]
        index.define(take(table, dict.fromkeys(ids, 1.0)).define)


def test_it_does_what_the_table_of_python_plugins_does() -> None:
    """Thousands of random samples of changing series: a daemon is told the same by both."""
    source = random.Random(7)
    gauges = [Gauge("plain"), Gauge("pair", labels=("a", "b"))]
    native, python = NativeSeries(METRICS, budget=30, most=100), SeriesTable(gauges, budget=30, most=100)
    daemons = [SeriesIndex([MetricDeclaration(*row) for row in METRICS], 200) for _ in range(2)]
    for turn in range(500):
        if turn % 7 == 0:
            chosen = source.sample(range(25), source.randint(0, 20))
        values = [source.uniform(-1e9, 1e9) for _ in chosen]
        ids = [native.series(1, (b"x", str(number).encode())) for number in chosen]
        answers = [
            take(native, list(zip(ids, values, strict=True))),
            python.take([gauges[1](value, a="x", b=number) for number, value in zip(chosen, values, strict=True)]),
        ]
        rows = []
        for daemon, answer in zip(daemons, answers, strict=True):
            daemon.define(answer.define)
            reply = {"ids": answer.ids, "values": answer.values, "forget": answer.forget, "dropped": answer.dropped}
            collection = daemon.collection(reply | {"time": 0.0, "monotonic": 0.0}, (0.0, 0.0), (0.0, 0.0))
            rows.append((list(zip(collection.keys, collection.values, strict=True)), collection.dropped))
        assert rows[0] == rows[1]
        assert answers[0].forget == [] or len(answers[0].forget) == len(answers[1].forget)
