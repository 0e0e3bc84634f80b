"""InfluxDB line protocol, from its specification and grammar."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugd.formats.influx import Field, Point, parse_influx, points
from plugd.formats.reading import Reading
from plugd.worker.validation import LABEL_NAME, METRIC_NAME

modest = settings(deadline=None, max_examples=200, database=None)

PIECES = [
    b"m",
    b",a=b",
    b" f=1",
    b"i",
    b"u",
    b" 5",
    b"\n",
    b"\r",
    b"\t",
    b'"',
    b'f="x"',
    b"\\",
    b"#",
    b"=",
    b",",
    b" ",
    b"\xff",
]


def only(text: str) -> Point:
    """Return the one point of a text without fault."""
    found = points(text.encode())
    assert not found.faults
    (point,) = found.points
    return point


@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
@modest
def test_any_bytes(text: bytes) -> None:
    """Any bytes give finite readings with legal names, and faults on lines that exist; nothing is raised."""
    parsed = parse_influx(text)
    for reading in parsed.readings:
        assert math.isfinite(reading.value)
        assert METRIC_NAME.match(reading.name)
        assert all(LABEL_NAME.match(name) for name, _ in reading.labels)
    assert all(1 <= fault.line <= text.count(b"\n") + 1 for fault in parsed.faults)


@given(st.text(min_size=1).filter(lambda text: not any(ord(char) < 32 or ord(char) == 127 for char in text)))
@modest
def test_any_printable_text_escaped(text: str) -> None:
    """Whatever a measurement, tag, key or string holds comes back once the characters that end it are escaped."""
    text = text.replace("\\", "/")  # The protocol cannot write a backslash before what it escapes.
    if text.startswith("#"):
        return
    name = text.replace(",", "\\,").replace(" ", "\\ ")
    key = name.replace("=", "\\=")
    string = text.replace('"', '\\"')
    point = only(f'{name},{key}={key} {key}="{string}"')
    assert point == Point(text, ((text, text),), (Field(text, "string", text),), None)


def test_readings() -> None:
    """Each field that is a number or a boolean is a gauge with the tags as labels; strings are counted."""
    parsed = parse_influx(b'cpu,host=a,core=0 user=1.5,steps=2i,total=3u,ok=T,off=false,name="x" 1500000000000000000\n')
    labels = (("core", "0"), ("host", "a"))
    assert parsed.faults == []
    assert parsed.skipped == 1
    assert parsed.readings == [
        Reading(f"cpu.{name}", "gauge", "1", labels, value, "", 1.5e9)
        for name, value in (("user", 1.5), ("steps", 2.0), ("total", 3.0), ("ok", 1.0), ("off", 0.0))
    ]


def test_names_that_do_not_fit() -> None:
    """Measurement, field and tag names become legal ones."""
    (reading,) = parse_influx(b"my\\ disk,mount\\ point=/ used%=5\n").readings
    assert reading.name == "my_disk.used_"
    assert reading.labels == (("mount_point", "/"),)


def test_default_time() -> None:
    """A point without timestamp has the time that was given, or none."""
    assert parse_influx(b"m f=1").readings[0].time is None
    assert parse_influx(b"m f=1", default_time=7.5).readings[0].time == 7.5


def test_default_time_is_cut_to_the_precision() -> None:
    """Towards the past, before the epoch as well."""
    assert points(b"m f=1", precision="s", default_time=1_999_999_999).points[0].time == 1_000_000_000
    assert points(b"m f=1", precision="ms", default_time=-1).points[0].time == -1_000_000


@pytest.mark.parametrize(("precision", "scale"), [("ns", 1), ("us", 10**3), ("µs", 10**3), ("ms", 10**6), ("s", 10**9)])
def test_precision(precision: str, scale: int) -> None:
    """A timestamp counts in the precision that is given."""
    assert points(b"m f=1 -12", precision=precision).points[0].time == -12 * scale


def test_timestamp_out_of_range() -> None:
    """A timestamp must fit into 64 bits of nanoseconds, whatever its precision."""
    assert points(b"m f=1 9223372036854775807").faults == []
    assert points(b"m f=1 9223372036854775808").faults
    assert points(b"m f=1 9223372037", precision="s").faults


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("1", ("float", 1.0)),
        ("-.5", ("float", -0.5)),
        ("5.", ("float", 5.0)),
        ("1e-3", ("float", 0.001)),
        ("1.E+3", ("float", 1000.0)),
        ("1e-999", ("float", 0.0)),
        ("-0i", ("int", 0)),
        ("9223372036854775807i", ("int", 2**63 - 1)),
        ("-9223372036854775808i", ("int", -(2**63))),
        ("0" * 5000 + "7i", ("int", 7)),
        ("18446744073709551615u", ("uint", 2**64 - 1)),
        *((word, ("bool", True)) for word in ("t", "T", "true", "True", "TRUE")),
        *((word, ("bool", False)) for word in ("f", "F", "false", "False", "FALSE")),
        ('""', ("string", "")),
        ('"a,b =c"', ("string", "a,b =c")),
        ('"line\nline"', ("string", "line\nline")),
        (r'"\"\\\n\r\t\a"', ("string", '"\\\n\r\t\\a')),
    ],
)
def test_value(value: str, field: tuple[str, object]) -> None:
    """Each form of a value has its type."""
    assert [found[1:] for found in only(f"m f={value} 1").fields] == [field]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "+1",
        "1e",
        ".",
        "-",
        "1.2.3",
        "0x1p-2",
        "1_0",
        "inf",
        "NaN",
        "1e999",
        "tRUE",
        "tr",
        "yes",
        "1.5i",
        "i",
        "--1i",
        "-1u",
        "9223372036854775808i",
        "18446744073709551616u",
        "9" * 5000 + "i",
        '"x',
        '"x"y',
        "'x'",
        "1\t",
    ],
)
def test_no_value(value: str) -> None:
    """What has none of the forms is a fault."""
    assert points(f"m f={value} 1".encode()).faults


@pytest.mark.parametrize(
    ("written", "measurement", "tags"),
    [
        (r"a\ b\,c\=d f=1", r"a b,c\=d", ()),
        (r"a=b f=1", "a=b", ()),
        (r'"m",k="v" f=1', '"m"', (("k", '"v"'),)),
        (r"m,a\,b\=c\ d=e\,f\=g\ h f=1", "m", (("a,b=c d", "e,f=g h"),)),
        (r"m,a=\x\\ f=1", r"m", None),
        (r"m,a=x\\,b=c f=1", "m", None),
        (r"m,b=2,a=1 f=1", "m", (("a", "1"), ("b", "2"))),
        (r"m\\,n f=1", "m\\,n", ()),
    ],
)
def test_escapes(written: str, measurement: str, tags: tuple[tuple[str, str], ...] | None) -> None:
    """A backslash escapes what would end the text and is itself before anything else; quotes mean nothing here."""
    if tags is None:  # The last backslash takes the space or comma in.
        assert points(written.encode()).faults
    else:
        assert only(written)[:2] == (measurement, tags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "  ",
        " \r\n",
        "# a comment",
        "  # a comment\n",
        "m f=1\r\n",
        "m f=1 \r",
        "  m   f=1   5  \n",
        "#\nm f=1",
    ],
)
def test_blanks_and_comments(text: str) -> None:
    """Spaces, line ends of both kinds, empty lines and comments may stand between the entries."""
    found = points(text.encode())
    assert not found.faults
    assert len(found.points) == ("f=1" in text)


@pytest.mark.parametrize(
    "line",
    [
        "m",
        "m ",
        "m,",
        "m, f=1",
        "m,a f=1",
        "m,a= f=1",
        "m,=b f=1",
        "m,a=b",
        "m,a=b ",
        "m,a=b=c f=1",
        "m,a=1,a=2 f=1",
        ",a=b f=1",
        "=",
        "m f",
        "m f=1,",
        "m f=1, g=2",
        "m =1",
        "m f=1 5x",
        "m f=1 5 6",
        "m f=1 -",
        "m f=1 1-",
        "m f=1\rx",
        "\tm f=1",
        "m\tf=1",
        "m,a\x00=b f=1",
        "\rx",
        "# tab\there",
        "m\x7f f=1",
    ],
)
def test_malformed(line: str) -> None:
    """A line without measurement, field, or any part that was begun is a fault, and its neighbours are kept."""
    found = points(f"a f=1\n{line}\nb f=2\n".encode())
    assert [fault.line for fault in found.faults] == [2]
    assert [point.measurement for point in found.points] == ["a", "b"]


@pytest.mark.parametrize(
    "part", [b"\xff f=1", b"m,\xff=1 f=1", b"m,a=\xff f=1", b"m \xff=1", b'm f="\xff"', b"m,a=\xed\xa0\x80 f=1"]
)
def test_not_utf8(part: bytes) -> None:
    """Every text must be UTF-8."""
    assert points(part).faults


def test_open_string_costs_its_line() -> None:
    """A string that is not closed does not swallow the entries after it, whose lines are counted right."""
    found = points(b'a f="x\nb f=1\nc f="y"z\nd f="1\n2"\ne f=bad\n')
    assert [point.measurement for point in found.points] == ["b", "d"]
    assert [fault.line for fault in found.faults] == [1, 3, 6]


@pytest.mark.parametrize(
    "piece", ['m f="x\n', 'm f="\n",g="\n', 'm f="x"y\n', "\\", "m,a=1,", " #\x01\n", "9", '"', " \r"]
)
def test_much_of_anything(piece: str) -> None:
    """A megabyte of what looks worst is read to its end: in quadratic time this test would take hours."""
    text = "m f=" + piece * ((1 << 20) // len(piece))
    parsed = parse_influx(text.encode())
    assert parsed.fault_count


def test_precision_must_be_known() -> None:
    """A precision that is none is the caller's mistake."""
    with pytest.raises(KeyError):
        points(b"", precision="h")
