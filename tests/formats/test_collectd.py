"""Programs for collectd's exec plugin, and types.db."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.formats.collectd import COMMON_TYPES, DataSource, parse_collectd, parse_types_db
from plugd.formats.reading import Parsed, Reading


def labels(host: str, plugin_instance: str = "", type_instance: str = "") -> tuple[tuple[str, str], ...]:
    return (("host", host), ("plugin_instance", plugin_instance), ("type_instance", type_instance))


def read(text: str) -> Parsed:
    """What lines without faults hold."""
    parsed = parse_collectd(text.encode())
    assert parsed.faults == []
    return parsed


# The examples of collectd-exec(5) and collectd-unixsock(5).
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "PUTVAL leeloo/cpu-0/cpu-idle N:2299366",
            [Reading("collectd.cpu.cpu", "counter", "1", labels("leeloo", "0", "idle"), 2299366.0)],
        ),
        (
            "PUTVAL alice/interface/if_octets-eth0 interval=10 1180647081:421465:479194",
            [
                Reading(
                    "collectd.interface.if_octets.rx",
                    "counter",
                    "By",
                    labels("alice", "", "eth0"),
                    421465.0,
                    "",
                    1180647081.0,
                ),
                Reading(
                    "collectd.interface.if_octets.tx",
                    "counter",
                    "By",
                    labels("alice", "", "eth0"),
                    479194.0,
                    "",
                    1180647081.0,
                ),
            ],
        ),
        (
            "leeloo/cpu-0/cpu-idle N:2299366",
            [Reading("collectd.cpu.cpu", "counter", "1", labels("leeloo", "0", "idle"), 2299366.0)],
        ),
        (
            "PUTVAL myhost/load/load N:0.5:0.25:0.125",
            [
                Reading("collectd.load.load.shortterm", "gauge", "1", labels("myhost"), 0.5),
                Reading("collectd.load.load.midterm", "gauge", "1", labels("myhost"), 0.25),
                Reading("collectd.load.load.longterm", "gauge", "1", labels("myhost"), 0.125),
            ],
        ),
    ],
)
def test_examples_of_the_manual(line: str, expected: list[Reading]) -> None:
    """Names, kinds, labels and times are those of the identifier and its type."""
    assert read(line).readings == expected


# The cases that collectd's own tests accept, apart from the unknown type.
@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("PUTVAL myhost/magic/MAGIC N:42", [(None, 42.0)]),
        ("PUTVAL myhost/magic/MAGIC 1234:42", [(1234.0, 42.0)]),
        ("PUTVAL myhost/magic/MAGIC 1234:42 2345:23", [(1234.0, 42.0), (2345.0, 23.0)]),
        ("PUTVAL myhost/magic/MAGIC interval=2 1234:42 interval=5 2345:23", [(1234.0, 42.0), (2345.0, 23.0)]),
        ('putval myhost/magic/MAGIC meta:a="b c" 1234.5:-4.2e1', [(1234.5, -42.0)]),
        ("PUTVAL myhost/magic/MAGIC unheard=of 0:42", [(None, 42.0)]),
    ],
)
def test_values_times_and_options(line: str, values: list[tuple[float | None, float]]) -> None:
    """A line may hold several lists of values; options are not for us."""
    assert [(r.time, r.value) for r in read(line).readings] == values


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("h/p/t", ("h", "", "", "p.t")),
        ("h/p-i/t", ("h", "i", "", "p.t")),
        ("h/p-i-j/t-k-l", ("h", "i-j", "k-l", "p.t")),
        ('"my host/p-a b/t-\\"c\\\\"', ("my host", "a b", '"c\\', "p.t")),
        ("h/p/t-/var/log", ("h", "", "/var/log", "p.t")),
        ("my-host/p/t", ("my-host", "", "", "p.t")),
    ],
)
def test_identifiers(identifier: str, expected: tuple[str, str, str, str]) -> None:
    """The first hyphen begins an instance; quotes hold spaces and escapes."""
    (reading,) = read(f"PUTVAL {identifier} N:1").readings
    host, plugin_instance, type_instance, name = expected
    assert reading.labels == labels(host, plugin_instance, type_instance)
    assert reading.name == f"collectd.{name}"


@pytest.mark.parametrize("value", ["U", "nan", "-inf"])
def test_undefined_values_are_skipped(value: str) -> None:
    """The others of the list are kept."""
    parsed = read(f"PUTVAL h/p/if_octets N:{value}:5")
    assert [r.name for r in parsed.readings] == ["collectd.p.if_octets.tx"]
    assert parsed.skipped == 1


@pytest.mark.parametrize(
    "line",
    [
        "PUTVAL",
        "PUTVAL magic/MAGIC N:42",
        "PUTVAL invalid N:42",
        "PUTVAL myhost/magic/MAGIC A:42",
        "PUTVAL myhost/magic/MAGIC 1234:A",
        "PUTVAL myhost/magic/MAGIC -5:1",
        "PUTVAL myhost/magic/MAGIC nan:1",
        "PUTVAL myhost/magic/MAGIC N:",
        "PUTVAL myhost/magic/MAGIC N",
        "PUTVAL myhost/magic/MAGIC",
        "PUTVAL myhost/magic/MAGIC interval=10",
        "PUTVAL myhost/magic/MAGIC interval= 10 N:1",
        "PUTVAL 1234:A",
        "PUTVAL h//t N:1",
        'PUTVAL "h/p/t N:1',
        'PUTVAL "h/p/t"x N:1',
        "PUTVAL h/p/if_octets N:1",
        "PUTVAL h/p/unheard N:1:2",
        "PUTVAL h/p/gauge N:1 N:x",
        "INVALID interval=2",
        "INVALID",
        "PUTNOTIF",
        "PUTNOTIF severity=fatal time=1 message=x",
        "PUTNOTIF time=1 message=x",
        "PUTNOTIF severity=okay message=x",
        "PUTNOTIF severity=okay time=1",
        'PUTNOTIF severity=okay time=1 message=""',
    ],
)
def test_a_malformed_line_is_a_fault_and_the_rest_is_kept(line: str) -> None:
    """It is told with its number, and nothing of it is taken."""
    parsed = parse_collectd(f"# a comment\nPUTVAL h/p/gauge N:1\n{line}\nPUTVAL h/q/gauge N:2\n".encode())
    assert [r.value for r in parsed.readings] == [1.0, 2.0]
    assert [fault.line for fault in parsed.faults] == [3]
    assert parsed.notices == []


@pytest.mark.parametrize(
    ("options", "notice"),
    [
        (
            "type=temperature severity=warning time=1201094702 message=The roof is on fire!",
            "warning: temperature: The roof is on fire!",
        ),
        (
            'severity=FAILURE time=1 host=h plugin=p plugin_instance=0 type=t type_instance=x message="a \\"b\\""',
            'failure: h/p-0/t-x: a "b"',
        ),
        ('message="first" severity=okay time=1.5', "okay: first"),
    ],
)
def test_notifications_are_notices(options: str, notice: str) -> None:
    """With their severity and what they are about; the message may take the rest of the line."""
    assert read(f"PUTNOTIF {options}").notices == [notice]


TYPES = b"""# comment
absolute\t\tvalue:ABSOLUTE:0:U
if_octets  rx:COUNTER:0:4294967295, tx:COUNTER:0:4294967295
mixed a:GAUGE:U:U b:derive:0:U
cpu value:GAUGE:0:U
"""


def test_types_db() -> None:
    """Commas are optional, and so is the case of a kind."""
    types, faults = parse_types_db(TYPES)
    assert faults == []
    assert types["absolute"] == (DataSource("value", "gauge"),)
    assert types["if_octets"] == (DataSource("rx", "counter"), DataSource("tx", "counter"))
    assert types["mixed"] == (DataSource("a", "gauge"), DataSource("b", "counter"))


def test_types_given_come_first() -> None:
    """They define anew what is built in."""
    types, _ = parse_types_db(TYPES)
    parsed = parse_collectd(b"PUTVAL h/p/cpu N:1\nPUTVAL h/p/mixed N:1:2\nPUTVAL h/p/load N:1:2:3\n", types)
    assert [(r.name, r.kind) for r in parsed.readings[:3]] == [
        ("collectd.p.cpu", "gauge"),
        ("collectd.p.mixed.a", "gauge"),
        ("collectd.p.mixed.b", "counter"),
    ]
    assert len(parsed.readings) == 6


@pytest.mark.parametrize(
    "line", ["alone", ",", "x value", "x value:GAUGE", "x value:SUM:0:U", "x value:GAUGE:0:U, junk"]
)
def test_a_malformed_type_is_a_fault(line: str) -> None:
    """The others are kept."""
    types, faults = parse_types_db(f"a value:GAUGE:0:U\n{line}\n".encode())
    assert list(types) == ["a"]
    assert [fault.line for fault in faults] == [2]


def test_common_types_have_sources() -> None:
    """Each with names of its own."""
    for sources in COMMON_TYPES.values():
        names = [source.name for source in sources]
        assert names
        assert len(names) == len(set(names))


PIECES = st.sampled_from(
    [
        b"PUTVAL ",
        b"PUTNOTIF ",
        b"h/p/t",
        b" ",
        b'"',
        b"\\",
        b"N:1",
        b":",
        b"U",
        b"=",
        b"message=",
        b"severity=okay ",
        b"time=1 ",
        b"\n",
    ]
)
TYPES_PIECES = st.sampled_from([b"a", b" ", b",", b":", b"GAUGE", b"0", b"#", b"\n"])


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
def test_any_bytes_can_be_read(output: bytes) -> None:
    """Nothing raises, and each value is finite."""
    parsed = parse_collectd(output)
    assert all(math.isfinite(reading.value) for reading in parsed.readings)


@given(st.one_of(st.binary(), st.lists(TYPES_PIECES).map(b"".join)))
def test_any_types_can_be_read(content: bytes) -> None:
    """Nothing raises, and each type has values."""
    types, _ = parse_types_db(content)
    assert all(types.values())


@given(st.text(st.characters(exclude_characters="/\n", exclude_categories=["Cs"]), min_size=1))
def test_quoted_hosts_come_back(host: str) -> None:
    """Every text can be written down and is read as it was."""
    escaped = host.replace("\\", "\\\\").replace('"', '\\"')
    (reading,) = read(f'PUTVAL "{escaped}/p/t" N:1').readings
    assert dict(reading.labels)["host"] == host
