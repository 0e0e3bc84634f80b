"""What a worker says of its samples is checked: it may say anything."""

import math
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.errors import CommandError
from plugd.hosting.collection import METRICS as METRICS_AT_MOST
from plugd.hosting.collection import Collection, MetricDeclaration, SeriesIndex, SeriesKey

LEVEL = MetricDeclaration("test.level", "gauge", "By", ("place",), "")
TOTAL = MetricDeclaration("test.total", "counter", "1", (), "")
METRICS = (LEVEL, TOTAL)
ASKED, ANSWERED = (1000.0, 50.0), (1002.0, 52.0)  # Unix and monotonic time


def reply_of(values: Any = (), ids: Any = None, **other: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "time": 1001.0,
        "monotonic": 51.0,
        "duration": 0.5,
        "ids": array("I", ids).tobytes() if isinstance(ids, (list, tuple)) else ids,
        "values": array("d", values).tobytes() if isinstance(values, (list, tuple)) else values,
        "forget": [],
        "dropped": {},
    }
    return reply | other


def index() -> SeriesIndex:
    """An index of three series."""
    made = SeriesIndex(METRICS)
    made.define([[0, 0, ["here"]], [1, 0, ["there"]], [2, 1, []]])
    return made


def take(of: SeriesIndex, reply: Any) -> Collection:
    return of.collection(reply, ASKED, ANSWERED)


def refusal(of: SeriesIndex, reply: Any) -> str:
    with pytest.raises(CommandError) as caught:
        take(of, reply)
    assert caught.value.code == "plugin.invalid"
    assert len(caught.value.message) < 1000
    return caught.value.message


def test_a_collection_has_keys_and_values() -> None:
    """Ids become series, in the order in which they were sent."""
    collection = take(index(), reply_of([1.5, 7.0, -2.0], [1, 2, 0]))
    assert list(zip(collection.keys, collection.values, strict=True)) == [
        (SeriesKey(LEVEL, ("there",)), 1.5),
        (SeriesKey(TOTAL, ()), 7.0),
        (SeriesKey(LEVEL, ("here",)), -2.0),
    ]
    assert (collection.time, collection.monotonic, collection.duration) == (1001.0, 51.0, 2.0)


def test_without_ids_the_series_are_those_of_the_last_time() -> None:
    """And the keys are the very same object, so that nobody needs to look them up again."""
    of = index()
    first = take(of, reply_of([1.0, 2.0], [0, 1]))
    second = take(of, reply_of([3.0, 4.0]))
    assert second.keys is first.keys
    assert list(second.values) == [3.0, 4.0]


def test_a_collection_may_be_empty() -> None:
    """No samples at all are no fault."""
    assert len(take(index(), reply_of([], [])).keys) == 0
    assert len(take(SeriesIndex(()), reply_of([])).keys) == 0


def test_dropped_samples_are_told() -> None:
    """By metric."""
    assert take(index(), reply_of(dropped={"test.level": 3})).dropped == {"test.level": 3}


def test_a_forgotten_series_is_gone() -> None:
    """Its id means nothing any more, and may not be used."""
    of = index()
    take(of, reply_of([1.0], [0], forget=[1]))
    assert "1" in refusal(of, reply_of([1.0], [1]))


def test_an_id_can_be_defined_anew() -> None:
    """The latest definition counts."""
    of = index()
    take(of, reply_of([1.0], [0], forget=[1]))
    of.define([[1, 0, ["elsewhere"]]])
    assert take(of, reply_of([1.0], [1])).keys[0] == SeriesKey(LEVEL, ("elsewhere",))


@pytest.mark.parametrize("time", [998.9, 1003.1, math.nan, math.inf, -math.inf, 1e300, None, "1001", 1001, True])
def test_a_time_that_cannot_be_is_not_believed(time: Any) -> None:
    """It is replaced by that of the request: a plugin cannot date its samples as it likes."""
    assert take(index(), reply_of(time=time)).time == 1000.0


@pytest.mark.parametrize("monotonic", [49.9, 52.1, math.nan, math.inf, 0.0, None, "51", 51])
def test_a_monotonic_time_that_cannot_be_is_not_believed(monotonic: Any) -> None:
    """Rates stand on it."""
    assert take(index(), reply_of(monotonic=monotonic)).monotonic == 50.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_are_finite(value: float) -> None:
    """One that is not spoils its collection."""
    assert "finite" in refusal(index(), reply_of([1.0, value], [0, 1]))


@pytest.mark.parametrize(
    "reply",
    [
        None,
        5,
        "text",
        b"",
        [],
        {},
        reply_of([1.0], [0, 1]),
        reply_of([1.0, 2.0], [0]),
        reply_of([1.0]),
        reply_of([1.0], [3]),
        reply_of([1.0], [2**32 - 1]),
        reply_of(b"1234567"),
        reply_of([1.0], b"123"),
        reply_of("12345678"),
        reply_of(5),
        reply_of(None),
        reply_of({"a": 1}),
        reply_of(forget=[7]),
        reply_of(forget=[[]]),
        reply_of(forget=None),
        reply_of(forget=5),
        reply_of(dropped=None),
        reply_of(dropped=[]),
        reply_of(dropped={"a": "many"}),
        reply_of(dropped={"a": None}),
        reply_of(dropped={"a": math.nan}),
    ],
)
def test_a_malformed_reply_is_the_plugins_fault(reply: Any) -> None:
    """Whatever is wrong with it, the error is `plugin.invalid`."""
    refusal(index(), reply)


@pytest.mark.parametrize(
    "reply",
    [
        reply_of([1.0], [0]) | {"ids": [-1]},
        reply_of([1.0], [0]) | {"ids": [2**40]},
        reply_of([1.0], [0]) | {"ids": [2**64 - 1]},
        reply_of(dropped={"a": math.inf}),
    ],
    ids=["negative id", "long id", "longest id", "infinitely many dropped"],
)
def test_a_number_out_of_range_is_the_plugins_fault(reply: Any) -> None:
    """The same for numbers that fit nowhere; they once ended the daemon."""
    refusal(index(), reply)


@pytest.mark.parametrize("missing", ["time", "monotonic", "ids", "values", "forget", "dropped"])
def test_an_incomplete_reply_is_the_plugins_fault(missing: str) -> None:
    """Every part is needed; the duration is measured here."""
    reply = reply_of([], [])
    del reply[missing]
    refusal(index(), reply)


@pytest.mark.parametrize(
    "row",
    [
        None,
        5,
        [],
        [0],
        [0, 0],
        [0, 0, ["a"], 1],
        [0, 2, []],
        [0, -1, []],
        [0, 2**63, []],
        [0, None, []],
        [0, "0", ["a"]],
        [0, 1.0, []],
        ["0", 0, ["a"]],
        [None, 0, ["a"]],
        [-1, 0, ["a"]],
        [1.5, 0, ["a"]],
        [0, 0, []],
        [0, 0, ["a", "b"]],
        [0, 1, ["a"]],
        [0, 0, [1]],
        [0, 0, [None]],
        [0, 0, [b"a"]],
        [0, 0, [["a"]]],
        [0, 0, None],
        [0, 0, 5],
    ],
)
def test_a_malformed_definition_is_refused(row: Any) -> None:
    """With an error that the worker's end can be told by."""
    with pytest.raises((ValueError, TypeError, LookupError)):
        SeriesIndex(METRICS).define([row])


@pytest.mark.parametrize("rows", [None, 5, {"a": 1}, "ab"])
def test_malformed_definitions_are_refused(rows: Any) -> None:
    """What is no list of definitions at all."""
    with pytest.raises((ValueError, TypeError, LookupError)):
        SeriesIndex(METRICS).define(rows)


def test_a_label_is_not_endless() -> None:
    """A value of a megabyte is cut."""
    of = SeriesIndex(METRICS)
    of.define([[0, 0, ["x" * 1_000_000]]])
    (key,) = take(of, reply_of([1.0], [0])).keys
    assert len(key.labels[0]) <= 4096


def test_series_are_not_endless() -> None:
    """A worker that defines ever more of them is refused, whatever its own budget says."""
    of = SeriesIndex(METRICS)

    def define_ever_more() -> None:
        for start in range(0, 10_000_000, 5000):
            of.define([[number, 0, ["a"]] for number in range(start, start + 5000)])

    with pytest.raises(ValueError, match="series"):
        define_ever_more()


WIRE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=24),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
PLAUSIBLE = st.fixed_dictionaries(
    {
        "time": WIRE | st.floats(),
        "monotonic": WIRE | st.floats(),
        "ids": WIRE | st.none() | st.lists(st.integers(0, 4), max_size=4).map(lambda ids: array("I", ids).tobytes()),
        "values": WIRE | st.lists(st.floats(), max_size=4).map(lambda values: array("d", values).tobytes()),
        "forget": WIRE | st.lists(st.integers(0, 4), max_size=3),
        "dropped": WIRE | st.dictionaries(st.text(max_size=5), WIRE, max_size=2),
    }
)


@given(replies=st.lists(WIRE | PLAUSIBLE, max_size=5))
def test_any_replies_are_collections_or_the_plugins_fault(replies: list[Any]) -> None:
    """Nothing that msgpack can carry raises anything but `plugin.invalid`, and what is taken is sound."""
    of = index()
    for reply in replies:
        try:
            collection = take(of, reply)
        except CommandError as error:
            assert error.code == "plugin.invalid"  # noqa: PT017 - many replies, of which any may be refused
            continue
        assert len(collection.keys) == len(collection.values)
        assert all(map(math.isfinite, collection.values))
        assert ASKED[1] <= collection.monotonic <= ANSWERED[1]
        assert abs(collection.time - 1001) <= 2
        assert all(type(name) is str and type(count) is int for name, count in collection.dropped.items())


@given(rows=WIRE | st.lists(st.tuples(WIRE, WIRE, WIRE).map(list), max_size=4))
def test_any_definitions_are_taken_or_refused(rows: Any) -> None:
    """With the errors that are promised, and no others."""
    of = index()
    try:
        of.define(rows)
    except (ValueError, TypeError, LookupError):
        pass
    take(of, reply_of([1.0], struct.pack("I", 2)))


def test_metrics_may_be_declared_later() -> None:
    """Of a plugin that learns of its metrics as it runs: their numbers go on behind those declared before."""
    of = index()
    of.declare([{"name": "test.late", "kind": "counter", "unit": "s", "labels": ["a"], "help": "Late."}])
    of.define([[3, 2, ["x"]]])
    assert take(of, reply_of([1.0], [3])).keys == (
        SeriesKey(MetricDeclaration("test.late", "counter", "s", ("a",), "Late."), ("x",)),
    )
    assert [metric.name for metric in of.metrics] == ["test.level", "test.total", "test.late"]


@pytest.mark.parametrize("rows", [[{"name": "a"}], [5], [None], 7])
def test_a_malformed_declaration_is_refused(rows: Any) -> None:
    """It is an error that the worker is ended for."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        index().declare(rows)


def test_the_metrics_of_one_plugin_are_bounded() -> None:
    """However many a worker declares."""
    row = {"name": "test.late", "kind": "gauge", "unit": "1", "labels": [], "help": ""}
    of = index()
    of.declare([row] * (METRICS_AT_MOST - 2))
    with pytest.raises(ValueError, match="more than 2000 metrics"):
        of.declare([row])


def test_a_collection_without_anything_new_leaves_the_series_as_they_are() -> None:
    """It is idle and empty, and the next one has the series of the one before."""
    of = index()
    first = take(of, reply_of([1.0, 2.0], [0, 1]))
    idle = take(of, reply_of(idle=True))
    assert (idle.idle, len(idle.values)) == (True, 0)
    assert take(of, reply_of([3.0, 4.0])).keys is first.keys


def test_what_is_told_beside_samples_is_bounded() -> None:
    """Malformed lines are counted, the first of them and the program's own words are cut."""
    collection = take(index(), reply_of([1.0], [2], told=[3, "x" * 5000, "y" * 5000]))
    assert collection.malformed == 3
    assert (len(collection.first_fault), len(collection.notice or "")) == (1024, 1024)
    assert "malformed answer" in refusal(index(), reply_of([1.0], [2], told=5))
