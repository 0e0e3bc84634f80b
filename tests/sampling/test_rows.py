"""Rows: what of a collection is selected, and how it is encoded."""

from array import array
from typing import Any

import msgpack
import pytest
from sampling_rig import finish, record

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.sampling.patterns import Patterns
from plugd.sampling.rows import RUN, Rows
from plugd.sampling.store import Latest, MetricStore

TIME = MetricDeclaration("system.cpu.time", "counter", "s", ("cpu", "mode"), "")
LOAD = MetricDeclaration("system.cpu.load", "gauge", "1", (), "")


def latest(*keys: SeriesKey) -> Latest:
    """Return the second of two collections, at 1002 s: the n-th series was n, and is 3n."""
    store = MetricStore()
    for at in (1.0, 2.0):
        values = array("d", [(2 * at - 1) * number for number in range(len(keys))])
        record(store, "cpu", Collection(keys, values, 1000.0 + at, at, 0.001, {}))
    return store.collections()[0][1]


def selected(rows: Rows, patterns: list[str] | None) -> list[dict[str, Any]]:
    (length, chunks), _ = finish(rows.select(None if patterns is None else Patterns(patterns)))
    unpacker = msgpack.Unpacker()
    unpacker.feed(b"".join(chunks))
    found = list(unpacker)
    assert len(found) == length
    return found


def test_a_row_is_what_the_wire_has() -> None:
    """In this order; of a counter with its rate, of a gauge without."""
    rows = selected(Rows("cpu", latest(SeriesKey(LOAD, ()), SeriesKey(TIME, ("0", "user")))), None)
    gauge = {"plugin": "cpu", "name": "system.cpu.load", "kind": "gauge", "unit": "1", "labels": {}}
    counter = {"plugin": "cpu", "name": "system.cpu.time", "kind": "counter", "unit": "s"}
    labels = {"labels": {"cpu": "0", "mode": "user"}}
    expected = [gauge | {"value": 0.0, "time": 1002.0}, counter | labels | {"value": 3.0, "time": 1002.0, "rate": 2.0}]
    assert rows == expected
    assert [list(row) for row in rows] == [list(row) for row in expected]


def test_rows_keep_their_order_and_number() -> None:
    """Of metrics that alternate, and of more series than are encoded at once."""
    long = [SeriesKey(TIME, (str(n), "user")) for n in range(2 * RUN + 3)]
    mixed = [SeriesKey(metric, labels) for n in range(5) for metric, labels in ((LOAD, ()), (TIME, (str(n), "x")))]
    keys = [*long, *mixed[1:]]
    assert [row["labels"] for row in selected(Rows("cpu", latest(*keys)), None)] == [
        dict(zip(key.metric.labels, key.labels, strict=True)) for key in keys
    ]


def test_selection_is_by_plugin_or_metric() -> None:
    """All where the plugin's name fits, otherwise those whose metric does; None is all."""
    rows = Rows("cpu", latest(SeriesKey(LOAD, ()), SeriesKey(TIME, ("0", "user")), SeriesKey(TIME, ("1", "user"))))

    def values(patterns: list[str] | None) -> list[float]:
        return [row["value"] for row in selected(rows, patterns)]

    assert values(None) == values(["*"]) == values(["c?u"]) == [0.0, 3.0, 6.0]
    assert values(["system.cpu.load"]) == [0.0]
    assert values(["nothing", "*.time"]) == [3.0, 6.0]
    assert values(["nothing"]) == values([]) == []


def test_nothing_has_no_rows() -> None:
    """A collection without samples is no error."""
    assert selected(Rows("cpu", Latest()), None) == selected(Rows("cpu", Latest()), ["*"]) == []


def test_rows_are_encoded_once() -> None:
    """However many select them: their bytes are the same object."""
    rows = Rows("cpu", latest(SeriesKey(LOAD, ()), SeriesKey(TIME, ("0", "user"))))
    for patterns in ([None, None], [["*.time"], ["*m*.time", "x"]]):
        (_, [first]), (_, [second]) = (finish(rows.select(each and Patterns(each)))[0] for each in patterns)
        assert first is second


@pytest.mark.parametrize("patterns", [None, ["cpu"], ["*.time"]])
def test_many_rows_have_places_to_interrupt(patterns: list[str] | None) -> None:
    """At least one for as many as are encoded at once."""
    keys = [SeriesKey(TIME, (str(n), "user")) for n in range(20 * RUN)]
    (length, _), steps = finish(Rows("cpu", latest(*keys)).select(patterns and Patterns(patterns)))
    assert (length, steps >= 20) == (20 * RUN, True)
