"""Nagios plugins: status, text and performance data."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.formats.nagios import parse_nagios
from plugd.formats.reading import Parsed, Reading

# Printed by Debian's monitoring-plugins-basic 2.3.3.
PING = b"PING OK - Packet loss = 0%, RTA = 0.10 ms|rta=0.101000ms;100.000000;200.000000;0.000000 pl=0%;10;20;0;100\n"
DISK = b"DISK OK - free space: / 80430MiB (77% inode=97%);| /=24605884416B;243497277849;257024904396;0;270552530944\n"
ICMP = b"OK - 127.0.0.1: rta 0.006ms, lost 0%|rta=0.006ms;200.000;500.000;0; pl=0%;40;80;; rtmax=0.016ms;;;; \n"


def values(parsed: Parsed, what: str = "perfdata") -> dict[str, float]:
    """The values of one sort, by label."""
    prefix = f"nagios.{what}"
    return {dict(r.labels)["label"]: r.value for r in parsed.readings if r.name.startswith(prefix)}


def thresholds(text: str, uom: str = "") -> dict[str, float]:
    """The bounds of a warning threshold."""
    parsed = parse_nagios(f"OK|x=1{uom};{text}".encode(), 0)
    assert not parsed.faults
    return {dict(r.labels)["bound"]: r.value for r in parsed.readings if r.name.startswith("nagios.threshold")}


def test_values_units_thresholds_and_extremes_are_readings() -> None:
    """Each has the value that was printed, and the unit printed in name and unit."""
    parsed = parse_nagios(PING, 0)
    got = [(r.name, r.unit, r.labels, r.value) for r in parsed.readings]
    warning, critical, upper = ("level", "warning"), ("level", "critical"), ("bound", "upper")
    rta, pl = ("label", "rta"), ("label", "pl")
    assert got == [
        ("nagios.status", "1", (), 0.0),
        ("nagios.perfdata.ms", "ms", (rta,), 0.101),
        ("nagios.threshold.ms", "ms", (upper, rta, warning), 100.0),
        ("nagios.threshold.ms", "ms", (upper, rta, critical), 200.0),
        ("nagios.minimum.ms", "ms", (rta,), 0.0),
        ("nagios.perfdata.percent", "%", (pl,), 0.0),
        ("nagios.threshold.percent", "%", (upper, pl, warning), 10.0),
        ("nagios.threshold.percent", "%", (upper, pl, critical), 20.0),
        ("nagios.minimum.percent", "%", (pl,), 0.0),
        ("nagios.maximum.percent", "%", (pl,), 100.0),
    ]
    assert parsed.faults == []
    assert parsed.notices == ["PING OK - Packet loss = 0%, RTA = 0.10 ms"]


@pytest.mark.parametrize(
    ("output", "expected"), [(DISK, {"/": 24605884416.0}), (ICMP, {"rta": 0.006, "pl": 0.0, "rtmax": 0.016})]
)
def test_real_output(output: bytes, expected: dict[str, float]) -> None:
    """Empty fields, spaces at both ends and labels that are paths are no faults."""
    parsed = parse_nagios(output, 0)
    assert values(parsed) == expected
    assert parsed.faults == []


@pytest.mark.parametrize(("status", "value"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (127, 3), (-9, 3)])
def test_status(status: int, value: int) -> None:
    """A status that the guidelines do not know counts as unknown, and is told."""
    parsed = parse_nagios(b"TEXT", status)
    assert parsed.readings[0][:5] == ("nagios.status", "gauge", "1", (), float(value))
    assert bool(parsed.faults) == (status != value)


def test_perfdata_goes_on_behind_the_long_text() -> None:
    """The first bar after the first line begins performance data to the end."""
    output = b"DISK OK | /=2643MB;5948;5958;0;5968\n/ 15272 MB\n/var 819 MB | /boot=68MB\n/home=69357MB\n\n/var=818MB\n"
    parsed = parse_nagios(output, 0)
    assert values(parsed) == {"/": 2643.0, "/boot": 68.0, "/home": 69357.0, "/var": 818.0}
    assert parsed.notices == ["DISK OK"]
    assert parsed.faults == []


def test_long_text_alone_is_not_read() -> None:
    """Without a bar there is no performance data, whatever the text looks like."""
    parsed = parse_nagios(b"OK\na=1\nb=2\n", 0)
    assert len(parsed.readings) == 1
    assert parsed.faults == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("'C:\\ %'", "C:\\ %"),
        ("'it''s'", "it's"),
        ("'a=b'", "a=b"),
        ("''''", "'"),
        ("'a|b'", "a|b"),
        ("127.0.0.1rta", "127.0.0.1rta"),
        ("Größe", "Größe"),
    ],
)
def test_labels(label: str, expected: str) -> None:
    """Quoted ones hold anything, and two quotes for one."""
    parsed = parse_nagios(f"OK|{label}=5 next=6".encode(), 0)
    assert values(parsed) == {expected: 5.0, "next": 6.0}
    assert parsed.faults == []


@pytest.mark.parametrize(
    ("uom", "name", "kind", "unit"),
    [
        ("", "nagios.perfdata", "gauge", "1"),
        ("s", "nagios.perfdata.s", "gauge", "s"),
        ("us", "nagios.perfdata.us", "gauge", "us"),
        ("ms", "nagios.perfdata.ms", "gauge", "ms"),
        ("%", "nagios.perfdata.percent", "gauge", "%"),
        ("B", "nagios.perfdata.B", "gauge", "By"),
        ("KB", "nagios.perfdata.KB", "gauge", "kBy"),
        ("MB", "nagios.perfdata.MB", "gauge", "MBy"),
        ("GB", "nagios.perfdata.GB", "gauge", "GBy"),
        ("TB", "nagios.perfdata.TB", "gauge", "TBy"),
        ("c", "nagios.perfdata.c", "counter", "1"),
        ("dBm", "nagios.perfdata.dBm", "gauge", "{dBm}"),
        ("°{F}", "nagios.perfdata.__F_", "gauge", "{__F_}"),
        ("e", "nagios.perfdata.e", "gauge", "{e}"),
    ],
)
def test_units(uom: str, name: str, kind: str, unit: str) -> None:
    """The value stays as printed; c is a counter; what nobody knows is a UCUM annotation."""
    reading = parse_nagios(f"OK|x=1.5{uom}".encode(), 0).readings[1]
    assert reading == Reading(name, kind, unit, (("label", "x"),), 1.5, reading.help)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "value"), [("0", 0.0), ("-3", -3.0), ("+3", 3.0), (".5", 0.5), ("5.", 5.0), ("1.2e-3", 0.0012)]
)
def test_numbers(number: str, value: float) -> None:
    """Everything printf makes of a number is one."""
    assert values(parse_nagios(f"OK|x={number}s".encode(), 0)) == {"x": value}


@pytest.mark.parametrize("value", ["U", "nan", "-nan", "inf", "nan%", "1e999"])
def test_unknown_values_are_skipped(value: str) -> None:
    """They are well-formed, but no sample; the thresholds are still told."""
    parsed = parse_nagios(f"OK|x={value};5 y=1".encode(), 0)
    assert parsed.skipped == 1
    assert values(parsed) == {"y": 1.0}
    assert values(parsed, "threshold") == {"x": 5.0}
    assert parsed.faults == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", {"upper": 10.0}),
        ("10:", {"lower": 10.0}),
        ("~:10", {"upper": 10.0}),
        ("10:20", {"lower": 10.0, "upper": 20.0}),
        ("-5:-1", {"lower": -5.0, "upper": -1.0}),
        ("@10:20", {}),
        ("@10", {}),
        ("", {}),
    ],
)
def test_ranges(text: str, expected: dict[str, float]) -> None:
    """The bounds that were written; none of a range that alerts inside."""
    assert thresholds(text) == expected


def test_a_threshold_may_repeat_the_unit() -> None:
    """Many plugins do, against the guidelines."""
    assert thresholds("5%:10%", "%") == {"lower": 5.0, "upper": 10.0}


@pytest.mark.parametrize(
    "data",
    [
        "x",
        "x y=",
        "=5",
        "''=5",
        "x=abc",
        "x=5,3",
        "x=1;abc",
        "x=1;~",
        "x=1;;@",
        "x=1;;;low",
        "x=1;;;;;6",
        "'x=5",
        "'x' =5",
    ],
)
def test_malformed_data_is_a_fault_and_the_rest_is_kept(data: str) -> None:
    """The line is told, and what stands before it is read."""
    parsed = parse_nagios(f"OK\ntext|good=1\n{data}\n".encode(), 0)
    assert values(parsed)["good"] == 1.0
    assert parsed.faults
    assert {fault.line for fault in parsed.faults} == {3}


def test_what_follows_a_fault_is_kept() -> None:
    """A malformed item ends at the next space."""
    parsed = parse_nagios(b"OK|a=1 junk b=x c=3", 0)
    assert values(parsed) == {"a": 1.0, "c": 3.0}
    assert len(parsed.faults) == 2


def test_a_label_counts_once() -> None:
    """The second is a fault: one series has one value."""
    parsed = parse_nagios(b"OK|a=1 a=2", 0)
    assert values(parsed) == {"a": 1.0}
    assert [fault.line for fault in parsed.faults] == [1]


@pytest.mark.parametrize("output", [b"", b" \n\n"])
def test_a_plugin_that_prints_nothing_is_at_fault(output: bytes) -> None:
    """The status is there all the same."""
    parsed = parse_nagios(output, 2)
    assert parsed.readings[0].value == 2.0
    assert [fault.message for fault in parsed.faults] == ["the plugin printed nothing"]


PIECES = st.sampled_from(
    [b"|", b"'", b"''", b"=", b";", b":", b"@", b"~", b" ", b"\n", b"1", b"-2.5", b"ms", b"U", b"x"]
)


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)), st.integers())
def test_any_bytes_can_be_read(output: bytes, status: int) -> None:
    """Nothing raises, each value is finite, and each series comes once."""
    parsed = parse_nagios(output, status)
    assert all(math.isfinite(reading.value) for reading in parsed.readings)
    series = [(reading.name, reading.labels) for reading in parsed.readings]
    assert len(series) == len(set(series))


@given(
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_quoted_labels_come_back(label: str, value: float) -> None:
    """Every label and value can be written down and is read as it was."""
    quoted = label.replace("'", "''")
    parsed = parse_nagios(f"OK|'{quoted}'={value!r}".encode(), 0)
    assert values(parsed) == {label: value}
