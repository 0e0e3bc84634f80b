"""Samples to ids and values, and the checks on every sample."""

import itertools
import math
from array import array
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from plugd.metric import Counter, Gauge, Metric, MetricError, Sample
from plugd.worker.series import FORGET_AFTER, Collected, SeriesTable


class Fixed:
    """A number as numpy's scalars are: no subclass of float, with ``__float__``."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)


class Silent:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Daemon:
    """What the other side knows: it must always be able to name the series of a collection."""

    def __init__(self) -> None:
        self.defined: dict[int, tuple[int, tuple[str, ...]]] = {}
        self.ids: list[int] = []

    def take(self, collected: Collected) -> dict[tuple[int, tuple[str, ...]], float]:
        for identifier, metric, labels in collected.define:
            assert identifier not in self.defined
            assert (metric, tuple(labels)) not in self.defined.values()
            self.defined[identifier] = (metric, tuple(labels))
        if collected.ids is not None:
            self.ids = list(array("I", collected.ids))
        values = array("d", collected.values)
        rows = {self.defined[identifier]: value for identifier, value in zip(self.ids, values, strict=True)}
        assert len(rows) == len(self.ids)
        for identifier in collected.forget:
            del self.defined[identifier]
        return rows


@pytest.fixture
def gauge() -> Gauge:
    return Gauge("g", labels=("cpu",))


def test_a_series_is_defined_once(gauge: Gauge) -> None:
    """Its id, the index of its metric and its labels as text; from then on it is a number."""
    counter = Counter("c")
    table = SeriesTable([counter, gauge])
    first = table.take([counter(1), gauge(2.5, cpu=0)])
    assert [(number, metric, list(labels)) for number, metric, labels in first.define] == [(0, 0, []), (1, 1, ["0"])]
    assert array("I", first.ids or b"").tolist() == [0, 1]
    assert array("d", first.values).tolist() == [1.0, 2.5]
    assert table.take([counter(1), gauge(2.5, cpu=0)]).define == []


def test_the_ids_are_left_out_when_they_are_those_of_the_last_time(gauge: Gauge) -> None:
    """They come again when the series or their order differ."""
    table = SeriesTable([gauge])
    one, two = gauge(1, cpu=0), gauge(2, cpu=1)
    assert table.take([one, two]).ids is not None
    assert table.take([one, two]).ids is None
    assert table.take([two, one]).ids is not None
    assert table.take([two]).ids is not None
    assert table.take([]).ids == b""
    assert table.take([]).ids is None


def test_a_first_collection_may_be_empty(gauge: Gauge) -> None:
    """No samples are no error, and no ids are those of before."""
    collected = SeriesTable([gauge]).take([])
    assert (collected.ids, collected.values, collected.define) == (None, b"", [])


def test_values_are_in_the_order_of_their_ids(gauge: Gauge) -> None:
    """Whatever order the plugin yields in, each value stays with its series."""
    daemon, table = Daemon(), SeriesTable([gauge])
    daemon.take(table.take([gauge(cpu, cpu=cpu) for cpu in range(5)]))
    rows = daemon.take(table.take([gauge(cpu, cpu=cpu) for cpu in (3, 0, 4)]))
    assert rows == {(0, ("3",)): 3.0, (0, ("0",)): 0.0, (0, ("4",)): 4.0}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (1.5, 1.5),
        (True, 1.0),
        (-0.0, 0.0),
        (2**70, 2.0**70),
        (Decimal("1.25"), 1.25),
        (Fraction(1, 4), 0.25),
        (Fixed(3), 3.0),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (5e-324, 5e-324),
    ],
)
def test_what_is_a_number_is_taken(gauge: Gauge, value: Any, number: float) -> None:
    """Integers, fractions, decimals, and whatever has ``__float__``."""
    collected = SeriesTable([gauge]).take([gauge(value, cpu=0)])
    assert array("d", collected.values).tolist() == [number]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "value nan is not a finite number"),
        (math.inf, "value inf is not a finite number"),
        (-math.inf, "value -inf is not a finite number"),
        (Fixed(math.inf), "value inf is not a finite number"),
        (Decimal("NaN"), "value nan is not a finite number"),
        (Decimal("sNaN"), "value Decimal('sNaN') is not a finite number"),
        (2**1100, "is not a finite number"),
        (2**20_000, "value a int is not a finite number"),
        (b"1", "value b'1' is not a number"),
        ("1", "value '1' is not a number"),
        (bytearray(b"1"), "is not a number"),
        (None, "value None is not a number"),
        ([1.0], "value [1.0] is not a number"),
        ((1.0,), "value (1.0,) is not a number"),
        ({}, "value {} is not a number"),
        (1j, "value 1j is not a number"),
        (Fixed("x"), "is not a finite number"),
        (Silent(), "value a Silent is not a number"),
        ("x" * 100, f"value '{'x' * 56}... is not a number"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_finite_number_is_refused(gauge: Gauge, value: Any, reason: str) -> None:
    """Text is no number, even of digits; the metric is named and the value shown, in brief."""
    with pytest.raises(MetricError) as caught:
        SeriesTable([gauge]).take([gauge(value, cpu=0)])
    assert str(caught.value).startswith("metric 'g': value ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [None, 1.5, b"x", [], {}, (1,)])
def test_a_label_is_text_or_an_integer(gauge: Gauge, value: Any) -> None:
    """Anything else is refused, hashable or not, and the label is named."""
    with pytest.raises(MetricError) as caught:
        SeriesTable([gauge]).take([gauge(1, cpu=value)])
    assert str(caught.value) == f"metric 'g': label 'cpu' is {value!r}, neither text nor an integer"


def test_an_undeclared_metric_is_refused(gauge: Gauge) -> None:
    """A metric that is made while the plugin runs is none of its class."""
    with pytest.raises(MetricError, match="undeclared metric 'other': declare it as an attribute of the class"):
        SeriesTable([gauge]).take([Gauge("other")(1)])


@pytest.mark.parametrize("sample", [None, 5, "abc", "abcd", (1, 2), (), [1, 2, 3], ([], 1, ()), object()])
def test_what_is_no_sample_is_refused(gauge: Gauge, sample: Any) -> None:
    """The message says what came in its place."""
    with pytest.raises(MetricError) as caught:
        SeriesTable([gauge]).take([sample])
    assert str(caught.value) == f"collect() gave a {type(sample).__name__} where a Sample belongs"


@pytest.mark.parametrize("labels", [(), ("a", "b"), None, 5, "a"])
def test_a_sample_made_by_hand_is_checked_too(gauge: Gauge, labels: Any) -> None:
    """The right number of labels, in a tuple: nothing else comes through, whoever made the sample."""
    with pytest.raises(MetricError, match="metric 'g': "):
        SeriesTable([gauge]).take([Sample(gauge, 1.0, labels)])


def test_a_metric_that_is_none_is_refused(gauge: Gauge) -> None:
    """A name in place of the metric is not looked up."""
    with pytest.raises(MetricError, match="undeclared metric 'g'"):
        SeriesTable([gauge]).take([Sample("g", 1.0, ("a",))])  # type: ignore[arg-type]


def test_a_series_may_come_once_in_a_collection(gauge: Gauge) -> None:
    """The second time is an error that names the series, even after collections without one."""
    table = SeriesTable([gauge])
    table.take([gauge(1, cpu=0), gauge(1, cpu=1)])
    with pytest.raises(MetricError) as caught:
        table.take([gauge(1, cpu=0), gauge(1, cpu=1), gauge(2, cpu=0)])
    assert str(caught.value) == "metric 'g': the series {cpu=0} came twice in one collection"


@pytest.mark.parametrize(("first", "second"), [(0, "0"), ("0", 0)])
def test_an_integer_and_its_text_are_one_series(gauge: Gauge, first: Any, second: Any) -> None:
    """Label values are text: ``cpu=0`` and ``cpu="0"`` may come in turn, and not together."""
    daemon, table = Daemon(), SeriesTable([gauge], budget=1)
    assert daemon.take(table.take([gauge(1, cpu=first)])) == {(0, ("0",)): 1.0}
    assert daemon.take(table.take([gauge(2, cpu=second)])) == {(0, ("0",)): 2.0}
    with pytest.raises(MetricError, match="came twice"):
        table.take([gauge(1, cpu=first), gauge(2, cpu=second)])


def test_a_label_of_a_name_that_is_no_text_is_escaped(gauge: Gauge) -> None:
    """File names are bytes; what Python puts in place of those that are no UTF-8 cannot be sent as it is."""
    [(_, _, [label])] = (
        SeriesTable([gauge]).take([gauge(1, cpu=b"caf\xc3\xa9-\xff".decode(errors="surrogateescape"))]).define
    )
    assert label == "caf\u00e9-\\udcff"


def test_a_failed_collection_leaves_no_series_that_the_daemon_does_not_know(gauge: Gauge) -> None:
    """A plugin that raises after new series is whole again at the next collection: they are defined then."""
    daemon, table = Daemon(), SeriesTable([gauge])

    def broken() -> Iterator[Sample]:
        yield gauge(1, cpu=0)
        yield gauge(1, cpu=1)
        raise OSError("gone")

    daemon.take(table.take([gauge(1, cpu=0)]))
    with pytest.raises(OSError, match="gone"):
        table.take(broken())
    assert daemon.take(table.take([gauge(5, cpu=0), gauge(6, cpu=1)])) == {(0, ("0",)): 5.0, (0, ("1",)): 6.0}


@pytest.mark.parametrize("bad", [math.nan, "text"])
def test_a_refused_sample_leaves_none_either(gauge: Gauge, bad: Any) -> None:
    """The same where the plugin raises nothing and a later sample is refused."""
    daemon, table = Daemon(), SeriesTable([gauge])
    with pytest.raises(MetricError):
        table.take([gauge(1, cpu=0), gauge(bad, cpu=1)])
    with pytest.raises(MetricError):
        table.take([gauge(1, cpu=0), gauge(1, cpu=0)])
    assert daemon.take(table.take([gauge(2, cpu=1), gauge(1, cpu=0)])) == {(0, ("1",)): 2.0, (0, ("0",)): 1.0}


def test_failed_collections_use_none_of_the_budget(gauge: Gauge) -> None:
    """A plugin that keeps failing with ever new labels can deliver as soon as it works."""
    table = SeriesTable([gauge], budget=2)
    for attempt in range(5):
        with pytest.raises(MetricError):
            table.take([gauge(1, cpu=f"a{attempt}"), gauge(None, cpu="b")])
    assert table.take([gauge(1, cpu="x"), gauge(1, cpu="y")]).dropped == {}


def test_series_beyond_the_budget_are_dropped_and_counted(gauge: Gauge) -> None:
    """Those that were there first stay; the count is that of one collection, by metric."""
    other = Gauge("other", labels=("cpu",))
    daemon, table = Daemon(), SeriesTable([gauge, other], budget=2)
    collected = table.take([gauge(cpu, cpu=cpu) for cpu in range(5)] + [other(1, cpu=0)])
    assert collected.dropped == {"g": 3}
    assert daemon.take(collected) == {(0, ("0",)): 0.0, (0, ("1",)): 1.0, (1, ("0",)): 1.0}
    assert table.take([gauge(1, cpu=7), gauge(1, cpu=1)]).dropped == {"g": 1}
    assert table.take([gauge(1, cpu=0), gauge(1, cpu=1)]).dropped == {}


def test_a_plugin_with_too_many_samples_is_cut_short(gauge: Gauge) -> None:
    """Those beyond the limit are not taken, and a generator without an end is not waited for."""
    daemon, table = Daemon(), SeriesTable([gauge], most=3)
    collected = table.take(gauge(1, cpu=cpu) for cpu in itertools.count())
    assert collected.cut
    assert collected.dropped == {"g": 1}
    assert daemon.take(collected) == {(0, (str(cpu),)): 1.0 for cpu in range(3)}


def test_of_a_list_that_is_cut_short_all_are_counted(gauge: Gauge) -> None:
    """Its length is known; exactly as many as are allowed is no cut."""
    collected = SeriesTable([gauge], most=3).take([gauge(1, cpu=cpu) for cpu in range(10)])
    assert (collected.cut, collected.dropped) == (True, {"g": 7})
    collected = SeriesTable([gauge], most=3).take([gauge(1, cpu=cpu) for cpu in range(3)])
    assert (collected.cut, collected.dropped) == (False, {})


def test_the_label_that_explodes_is_named() -> None:
    """Of a metric over its budget: the label with the most values."""
    gauge = Gauge("g", labels=("host", "request"))
    collected = SeriesTable([gauge], budget=5).take([gauge(1, host=n % 2, request=n) for n in range(10)])
    assert collected.exploding == {"g": "request"}


def test_a_dropped_sample_is_not_checked_for_its_value(gauge: Gauge) -> None:
    """What is dropped is dropped; a label of the wrong type is an error in any case."""
    table = SeriesTable([gauge], budget=0)
    assert table.take([gauge(math.nan, cpu=0)]).dropped == {"g": 1}
    with pytest.raises(MetricError, match="neither text nor an integer"):
        table.take([gauge(1, cpu=None)])


def test_a_series_that_does_not_come_back_is_forgotten(gauge: Gauge) -> None:
    """After a hundred collections without it; its id is not given to another."""
    daemon, table = Daemon(), SeriesTable([gauge])
    daemon.take(table.take([gauge(1, cpu=0), gauge(1, cpu=1)]))
    absent = 0
    while len(daemon.defined) == 2:
        daemon.take(table.take([gauge(1, cpu=0)]))
        absent += 1
        assert absent <= 2 * FORGET_AFTER
    assert absent >= FORGET_AFTER - 1
    assert list(daemon.defined.values()) == [(0, ("0",))]
    [(identifier, _, labels)] = table.take([gauge(1, cpu=0), gauge(1, cpu=1)]).define
    assert (identifier, list(labels)) == (2, ["1"])


@pytest.mark.parametrize("present", [1, 50, 99, 100, 101, 150, 199, 200, 201, 250])
def test_a_series_is_not_forgotten_before_its_time(gauge: Gauge, present: int) -> None:
    """However long the series were the same before, absence is counted from the last collection with it."""
    daemon, table = Daemon(), SeriesTable([gauge])
    for _ in range(present):
        daemon.take(table.take([gauge(1, cpu=0), gauge(1, cpu=1)]))
    for _ in range(FORGET_AFTER - 2):
        daemon.take(table.take([gauge(1, cpu=0)]))
    assert len(daemon.defined) == 2


def test_forgetting_gives_the_budget_back(gauge: Gauge) -> None:
    """New series may take the place of those that are gone."""
    table = SeriesTable([gauge], budget=1)
    table.take([gauge(1, cpu="old")])
    for _ in range(2 * FORGET_AFTER):
        table.take([])
    collected = table.take([gauge(1, cpu="new")])
    assert collected.dropped == {}
    assert len(collected.define) == 1


def test_a_series_that_comes_and_goes_stays(gauge: Gauge) -> None:
    """One collection in fifty is often enough."""
    daemon, table = Daemon(), SeriesTable([gauge])
    for number in range(5 * FORGET_AFTER):
        samples = [gauge(1, cpu=0)] + ([gauge(1, cpu=1)] if number % 50 == 0 else [])
        daemon.take(table.take(samples))
    assert sorted(daemon.defined) == [0, 1]


def test_changing_series_are_let_go_of(gauge: Gauge) -> None:
    """A plugin with a new label in every collection does not grow for ever."""
    daemon, table = Daemon(), SeriesTable([gauge])
    most = 0
    for number in range(10 * FORGET_AFTER):
        daemon.take(table.take([gauge(1, cpu=number)]))
        most = max(most, len(daemon.defined))
    assert most <= 2 * FORGET_AFTER + 1
    assert len(table._used) <= 2 * FORGET_AFTER + 1


def test_metrics_of_one_name_are_told_apart() -> None:
    """The table goes by the declaration itself, whatever it is called."""
    one, two = Gauge("same"), Gauge("same")
    metrics: list[Metric] = [one, two]
    assert [row[1] for row in SeriesTable(metrics).take([two(1), one(1)]).define] == [1, 0]
