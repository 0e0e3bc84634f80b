"""The points of all series as bytes, and back: nothing is lost, and nothing is taken that is made up."""

import io
import math
import random
import struct
import tracemalloc
import zlib
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_rig import record

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.sampling import points_packing
from plugd.sampling.points_format import FRAME_BYTES, MAGIC, POINTS, SERIES, VERSION, frame, read_frames
from plugd.sampling.points_packing import pack
from plugd.sampling.points_unpacking import unpack
from plugd.sampling.store import MetricStore, PluginSeries

COUNTER = MetricDeclaration("system.cpu.time", "counter", "s", ("cpu", "mode"), "Time that was used.")
GAUGE = MetricDeclaration("system.memory.usage", "gauge", "By", ("state",), "")
BOOT = "a boot"
NOW = 1e6  # seconds of CLOCK_MONOTONIC
REFUSED = (ValueError, LookupError, OverflowError, RecursionError, msgspec.MsgspecError)


def collection(keys: Sequence[SeriesKey], values: Sequence[float], at: float) -> Collection:
    return Collection(keys, array("d", values), 1000.0 + at, at, 0.001, {})


def file_of(payloads: Sequence[bytes]) -> bytes:
    return MAGIC + VERSION + b"".join([frame(payload) + payload for payload in payloads])


def payloads_of(store: MetricStore, points: int = 60) -> list[bytes]:
    return [payload for payload in pack(store.plugins(), points, BOOT) if payload]


def read(data: bytes, points: int = 60, boot: str = BOOT, now: float = NOW) -> dict[str, PluginSeries]:
    return unpack(read_frames(io.BytesIO(data)), points, boot, now)


def shown(plugins: dict[str, PluginSeries]) -> dict[str, Any]:
    """Return all that there is to know of series, as values that compare."""
    return {
        name: {
            "collections": own.collections,
            "latest": ([each.key for each in own.latest.series], own.latest.values, own.latest.rates, own.latest.time),
            "series": {
                identity: (
                    each.key,
                    each.labels,
                    each.value,
                    each.time,
                    each.monotonic,
                    each.rate,
                    each.seen,
                    each.recent(),
                )
                for identity, each in own.by_identity.items()
            },
        }
        for name, own in plugins.items()
    }


def filled() -> MetricStore:
    """A store with what there may be: rings that have gone round, series that are gone, and plugins without any."""
    store = MetricStore(5)
    keys = [SeriesKey(COUNTER, (str(number), mode)) for number in range(150) for mode in ("user", "é\n")]
    for at in range(8):
        record(store, "cpu", collection(keys, [float(at * number) for number in range(300)], float(at)))
    record(store, "cpu", collection(keys[7::-1], [1.0] * 8, 8.0))
    record(store, "memory", collection([SeriesKey(GAUGE, ("used",))], [-0.0], 3.0))
    record(store, "nothing", collection([], [], 1.0))
    return store


def test_what_is_read_is_what_was_written() -> None:
    """Points, values, rates and their times, and in which order the last collection came."""
    store = filled()
    assert shown(read(file_of(payloads_of(store)))) == shown(dict(store.plugins()))


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.dictionaries(st.tuples(st.sampled_from([COUNTER, GAUGE]), st.text(max_size=3)), finite, max_size=4),
        ),
        max_size=12,
    )
)
def test_whatever_is_recorded_comes_back(collections: list[tuple[str, dict[Any, float]]]) -> None:
    """Any series in any order, with any values."""
    store = MetricStore(3)
    for at, (plugin, samples) in enumerate(collections):
        keys = [SeriesKey(metric, (text,) * len(metric.labels)) for metric, text in samples]
        record(store, plugin, collection(keys, list(samples.values()), float(at)))
    assert shown(read(file_of(payloads_of(store, 3)), 3)) == shown(dict(store.plugins()))


def test_series_go_on_where_they_were() -> None:
    """The next point is one of the same ring, and the rate that of the time between."""
    store, again = filled(), MetricStore(5)
    again.restore(read(file_of(payloads_of(store)), 5))
    for each in (store, again):
        record(each, "cpu", collection([SeriesKey(COUNTER, ("3", "user"))], [100.0], 18.0))
    assert shown(dict(again.plugins())) == shown(dict(store.plugins()))
    [series] = again.series_of("cpu")
    assert series.rate == (100.0 - 1.0) / (18.0 - 8.0)
    assert len(series.recent()) == 5


@pytest.mark.parametrize(("boot", "now"), [("another boot", NOW), ("", NOW), (BOOT, 5.0)])
def test_after_another_boot_rates_begin_anew(boot: str, now: float) -> None:
    """Of another clock, or of nobody knows which, no time can be measured; the points are there all the same."""
    store, again = filled(), MetricStore(5)
    again.restore(read(file_of(payloads_of(store)), 5, boot, now))
    [series] = [each for each in again.series_of("cpu") if each.key.labels == ("3", "user")]
    assert len(series.recent()) == 5
    record(again, "cpu", collection([series.key], [1e9], now + 1.0))
    assert series.rate is None


def test_a_boot_that_nobody_knows_is_no_boot() -> None:
    """Twice nothing known is not twice the same."""
    payloads = [payload for payload in pack(filled().plugins(), 5, "") if payload]
    assert all(series.monotonic == -1.0 for series in read(file_of(payloads), boot="")["cpu"].by_identity.values())


def test_fewer_points_are_the_latest() -> None:
    """When it is written, and when it is read."""
    store = filled()
    for points, wanted in ((2, 60), (60, 2)):
        again = read(file_of(payloads_of(store, points)), wanted)
        for identity, series in dict(store.plugins())["cpu"].by_identity.items():
            assert again["cpu"].by_identity[identity].recent() == series.recent()[-2:]


def test_more_points_are_kept_from_then_on() -> None:
    """A ring that has gone round goes on growing where the configuration has more."""
    again = MetricStore(9)
    again.restore(read(file_of(payloads_of(filled())), 9))
    key = SeriesKey(COUNTER, ("3", "user"))
    before = [time for time, _ in read(file_of(payloads_of(filled())), 9)["cpu"].latest.series[0].recent()]
    for at in range(20, 26):
        record(again, "cpu", collection([key], [float(at)], float(at)))
    [series] = again.series_of("cpu")
    assert [time for time, _ in series.recent()] == [*before[-3:], *(1000.0 + at for at in range(20, 26))]


def test_a_collection_while_it_is_packed_breaks_nothing() -> None:
    """It is written in slices, and collections come in between: each series is as it was at one time."""
    store = filled()
    every = [series.key for series in dict(store.plugins())["cpu"].by_identity.values()]
    there_was, payloads = [], []
    for number, payload in enumerate(pack(store.plugins(), 5, BOOT)):
        if payload:
            payloads.append(payload)
        keys = [*every[number % 7 :], SeriesKey(COUNTER, (f"new{number}", "user"))]
        there_was.append(shown(dict(store.plugins()))["cpu"]["latest"])
        record(store, "cpu", collection(keys, [float(number)] * len(keys), 100.0 + number))
        if number % 5 == 4:
            store.remove("memory")
    again = read(file_of(payloads))
    assert shown(again)["cpu"]["latest"] in there_was
    assert all(series.value == series.recent()[-1][1] for series in again["cpu"].by_identity.values())


def test_of_many_points_fewer_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has a bound, whatever the configuration says; the last point of each series is always there."""
    monkeypatch.setattr(points_packing, "POINTS_BYTES", 300 * 16 * 3)
    again = read(file_of(payloads_of(filled())))
    assert {len(series.recent()) for series in again["cpu"].by_identity.values()} == {2}
    monkeypatch.setattr(points_packing, "POINTS_BYTES", 1)
    again = read(file_of(payloads_of(filled())))
    assert {len(series.recent()) for series in again["cpu"].by_identity.values()} == {1}


def test_a_plugin_that_is_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others are not."""
    monkeypatch.setattr(points_packing, "SERIES", 299)
    assert list(read(file_of(payloads_of(filled())))) == ["memory", "nothing"]


def test_no_frame_is_larger_than_one_that_is_read() -> None:
    """However long labels, helps and rings are; a series whose labels alone are too much is left out."""
    store = MetricStore(70_000)
    wide = MetricDeclaration("wide", "gauge", "1", tuple(map(str, range(600))), "é" * 4096)
    metrics = [GAUGE._replace(name=f"m{number}", help="é" * 4096) for number in range(600)]
    keys = [SeriesKey(metric, ("é" * 1024,)) for metric in metrics] + [SeriesKey(wide, ("é" * 1024,) * 600)]
    record(store, "p", collection(keys, [1.0] * len(keys), 0.0))
    payloads = payloads_of(store, 70_000)
    assert max(map(len, payloads)) <= FRAME_BYTES
    again = read(file_of(payloads), 70_000)
    assert len(again["p"].by_identity) == len(again["p"].latest.series) == 600
    store = MetricStore(70_000)
    one = [SeriesKey(GAUGE, ("long",))]
    for at in range(70_000):
        record(store, "q", collection(one, [float(at)], float(at)))
    payloads = payloads_of(store, 70_000)
    assert max(map(len, payloads)) <= FRAME_BYTES
    again = read(file_of(payloads), 70_000)
    assert len(again["q"].latest.series[0].recent()) == POINTS


def test_every_damage_is_seen() -> None:
    """Each bit, and each length: nothing of a damaged file is taken for points."""
    store = MetricStore(2)
    record(store, "cpu", collection([SeriesKey(COUNTER, ("0", "user"))], [5.0], 1.0))
    data = file_of(payloads_of(store))
    for length in range(len(data)):
        with pytest.raises(REFUSED):
            read(data[:length])
    for position in range(len(data)):
        for bit in range(8):
            with pytest.raises(REFUSED):
                read(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])
    with pytest.raises(ValueError, match="something follows its end"):
        read(data + b"\0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "something else"),
        (b"\x7fELF" * 100, "something else"),
        (MAGIC + b"2\n", "another version of plugd"),
        (MAGIC + VERSION, "ends too early"),
        (MAGIC + VERSION + struct.pack("<II", 2**32 - 1, 0), "a frame of 4294967295 bytes"),
        (file_of([b""]), "truncated"),
        (file_of([b"\xdd\xff\xff\xff\xff"]), "truncated"),
        (file_of([b"\x91" * 100_000]), "Expected"),
        (file_of([b"\x93\xa6header\xa6little" + b"\xd9\x04\xff\xfe\xfd\xfc"]), "invalid|utf-8"),
        (file_of([b"\x93\xa6header\xa3big\xa0"]), "another kind of machine"),
        (file_of([b"\x92\xa3end\x00"]), "another kind of machine"),
    ],
    ids=["empty", "foreign", "future", "head", "length", "nothing", "array", "nested", "text", "order", "headless"],
)
def test_what_is_none_of_ours_is_refused(data: bytes, reason: str) -> None:
    """With the reason, for people."""
    with pytest.raises(REFUSED, match=reason):
        read(data)


def test_whatever_somebody_makes_up_is_refused_or_sound() -> None:
    """Payloads changed anywhere, with checksums that fit: what is taken has finite numbers, and as many as it says."""
    source = random.Random(5)
    store = MetricStore(3)
    for at in range(4):
        keys = [SeriesKey(COUNTER, (str(number), "user")) for number in range(3)] + [SeriesKey(GAUGE, ("used",))]
        record(store, "cpu", collection(keys, [1.0, 2.0, 3.0, 4.0], float(at)))
    payloads = payloads_of(store)
    taken = 0
    for _ in range(4000):
        changed = [bytearray(payload) for payload in payloads]
        for _ in range(source.choice([1, 1, 2, 5])):
            payload = source.choice(changed)
            position = source.randrange(len(payload))
            match source.randrange(3):
                case 0:
                    payload[position] = source.randrange(256)
                case 1:
                    del payload[position]
                case 2:
                    payload[position:position] = source.choice([b"\xff", b"\x7f\xf0", b"\xdd\xff\xff\xff\xff", b"\x90"])
        if source.random() < 0.1:
            source.shuffle(changed)
        try:
            again = read(file_of([bytes(payload) for payload in changed]))
        except REFUSED:
            continue
        taken += 1
        for own in again.values():
            numbers = [own.latest.time, *own.latest.values]
            for series in own.by_identity.values():
                assert series.recent()
                assert series.seen <= own.collections
                assert -1.0 <= series.monotonic <= NOW
                assert len(series.labels) == len(series.key.metric.labels)
                numbers += [series.time, series.value, series.rate or 0.0]
                numbers += [number for point in series.recent() for number in point]
            assert all(map(math.isfinite, numbers))
            assert len(own.latest.series) == len(own.latest.values) == len(own.latest.rates)
    assert 50 < taken < 3900  # Otherwise nothing was tried.


@pytest.mark.parametrize("column", ["monotonic", "rates", "values", "time", "latest", "nan"])
def test_a_number_that_is_none_is_refused(column: str) -> None:
    """JSON has no infinity, and clients have no use for it."""
    store = MetricStore(2)
    record(store, "cpu", collection([SeriesKey(COUNTER, ("0", "user"))], [5.0], 1.0))
    header, opening, block, closing, end = [msgspec.msgpack.decode(payload) for payload in payloads_of(store)]
    bad = array("d", [math.nan if column == "nan" else math.inf]).tobytes()
    match column:
        case "monotonic":
            block[6] = bad
        case "rates":
            block[7] = bad
        case "values" | "nan":
            block[9] = bad
        case "time":
            block[2] = [bad]
        case "latest":
            closing[2] = math.inf
    with pytest.raises(REFUSED):
        read(file_of([msgspec.msgpack.encode(each) for each in (header, opening, block, closing, end)]))


def test_what_is_made_up_takes_no_more_memory_than_its_file() -> None:
    """A million series of nothing, or a frame of nothing but empty labels."""
    header = msgspec.msgpack.encode(["header", "little", BOOT])
    opening = msgspec.msgpack.encode(["plugin", "p"])
    time = array("d", [1.0]).tobytes()
    count = 20_000
    metric = GAUGE._replace(labels=())
    block = ["series", [metric], [time], bytes(4 * count), [], bytes(8 * count), bytes(8 * count)]
    block += [array("d", [math.nan] * count).tobytes(), bytes(4 * count), time * count]
    further = [*block]
    further[1], further[2] = [], []
    rows = [msgspec.msgpack.encode(block), *[msgspec.msgpack.encode(further)] * 40]
    labels = msgspec.msgpack.encode(["series", [], [], b"", [""] * (FRAME_BYTES - 100), b"", b"", b"", b"", b""])
    for payloads in ([header, opening, *rows], [header, opening, labels, labels]):
        data = file_of(payloads)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=f"more than {SERIES} series|there is more"):
                read(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 200 * 1024 * 1024


def test_the_checksum_is_that_of_everybody() -> None:
    """CRC-32 as zlib has it, little-endian: others can read the file."""
    assert frame(b"abc") == struct.pack("<II", 3, zlib.crc32(b"abc"))
