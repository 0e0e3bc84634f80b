"""Prometheus text 0.0.4 and OpenMetrics 1.0, from their specifications."""

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugd.formats.prometheus import parse, parse_openmetrics, parse_prometheus
from plugd.formats.reading import FAULT_LIMIT, Fault, Parsed, Reading, fit_label, fit_labels, fit_name
from plugd.worker.validation import LABEL_NAME, METRIC_NAME, UNIT

modest = settings(deadline=None, max_examples=150, database=None)
Parse = Callable[[bytes], Parsed]

PIECES = [
    *(b"# TYPE a %s\n" % kind for kind in (b"counter", b"gauge", b"histogram", b"gaugehistogram", b"summary", b"info")),
    *(
        b"# TYPE a stateset\n",
        b"# HELP a x\n",
        b"# UNIT a_s s\n",
        b"# EOF\n",
        b"\n",
        b" ",
        b"\t",
        b"\xff",
        b"\r",
        b"\0",
    ),
    *(b"a", b"a_total", b"a_sum", b"a_count", b"a_gsum", b"a_bucket", b'a_bucket{le="1"} 1\n', b'{le="+Inf"}', b"{"),
    *(b"}", b'"', b"\\", b",", b"=", b" 1", b" NaN", b" -Inf", b" 1e999", b' # {a="b"} 1', b'a{quantile="0"} 1\n'),
]


def document(*lines: str) -> bytes:
    """Return an OpenMetrics document of these lines."""
    return "\n".join([*lines, "# EOF", ""]).encode()


def values(parsed: Parsed) -> dict[str, float]:
    """Return the values by name and labels, written as in the formats."""
    return {
        reading.name + "".join(f"[{name}={value}]" for name, value in reading.labels): reading.value
        for reading in parsed.readings
    }


@pytest.mark.parametrize("parser", [parse, parse_openmetrics, parse_prometheus])
@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
@modest
def test_any_bytes(parser: Parse, text: bytes) -> None:
    """Any bytes give finite readings with legal names and units, and faults on lines that exist; nothing is raised."""
    parsed = parser(text)
    for reading in parsed.readings:
        assert math.isfinite(reading.value)
        assert METRIC_NAME.match(reading.name)
        assert UNIT.match(reading.unit)
        assert all(LABEL_NAME.match(name) for name, _ in reading.labels)
        assert list(reading.labels) == sorted(reading.labels)
    lines = [fault.line for fault in parsed.faults]
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count(b"\n") + 1 for line in lines)


@pytest.mark.parametrize("parser", [parse_openmetrics, parse_prometheus])
@pytest.mark.parametrize(
    "text",
    [
        'a{a="' + '\\"' * (1 << 19),
        "a{" + ",".join(f'l{number}=""' for number in range(1 << 16)),
        "a " + "9" * (1 << 20),
        "a" * (1 << 20),
        "a 1" + " " * (1 << 20),
    ],
    ids=["escapes", "labels", "digits", "name", "blanks"],
)
def test_much_of_anything(parser: Parse, text: str) -> None:
    """A megabyte of what looks worst is read to its end: in quadratic time this test would take hours."""
    assert parser(text.encode() + b"x").faults


class TestPrometheus:
    """0.0.4."""

    def test_example(self) -> None:
        """The example of the specification gives all of its samples, in kind, unit, labels and time."""
        parsed = parse(
            b"""# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE.TXT\\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# A histogram, which has a pretty complex representation in the text format:
# HELP http_request_duration_seconds A histogram of the request duration.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# Finally a summary, which has a complex representation, too:
# TYPE rpc_duration_seconds summary
rpc_duration_seconds{quantile="0.01"} 3102
rpc_duration_seconds_sum 1.7560473e+07
rpc_duration_seconds_count 2693
"""
        )
        assert parsed.faults == []
        assert parsed.skipped == 1
        assert [(reading.name, reading.kind, reading.unit) for reading in parsed.readings] == [
            ("http_requests_total", "counter", "1"),
            ("http_requests_total", "counter", "1"),
            ("msdos_file_access_time_seconds", "gauge", "s"),
            ("metric_without_timestamp_and_labels", "gauge", "1"),
            ("http_request_duration_seconds_bucket", "counter", "1"),
            ("http_request_duration_seconds_bucket", "counter", "1"),
            ("http_request_duration_seconds_sum", "counter", "s"),
            ("http_request_duration_seconds_count", "counter", "1"),
            ("rpc_duration_seconds", "gauge", "s"),
            ("rpc_duration_seconds_sum", "counter", "s"),
            ("rpc_duration_seconds_count", "counter", "1"),
        ]
        assert parsed.readings[0] == Reading(
            "http_requests_total",
            "counter",
            "1",
            (("code", "200"), ("method", "post")),
            1027.0,
            "The total number of HTTP requests.",
            1395066363.0,
        )
        assert dict(parsed.readings[2].labels) == {
            "path": "C:\\DIR\\FILE.TXT",
            "error": 'Cannot find file:\n"FILE.TXT"',
        }

    def test_good_lines_are_kept(self) -> None:
        """A malformed line is one fault with its number, and the lines round it are read."""
        parsed = parse_prometheus(b"a 1\nb one\n\xff 2\nc 3\n")
        assert values(parsed) == {"a": 1.0, "c": 3.0}
        assert [fault.line for fault in parsed.faults] == [2, 3]

    @pytest.mark.parametrize(
        "line",
        [
            "a 1",
            "  a\t 1 ",
            'a{b="c"}1',
            'a { b = "c" , d="e" , } 1 -5',
            "a{} 1",
            "a{ } 1",
            "a 0000.5e-3",
            "a .5",
            "a 5.",
            "a +inf",
            "a nan",
            "#anything",
            "# TYPEs",
            "# HELP a",
            "",
            "\t",
        ],
    )
    def test_allowed(self, line: str) -> None:
        """Blanks between tokens, a comma after the last label, all forms of a number, comments and empty lines."""
        assert parse_prometheus(line.encode()).faults == []

    @pytest.mark.parametrize(
        "line",
        [
            "a",
            "1a 1",
            "a.b 1",
            "a 1 1.5",
            "a 1 2 3",
            "a 0x1",
            "a 1_0",
            "a 1e999",
            "a \N{ARABIC-INDIC DIGIT ONE}",
            "a 1\r",
            'a{b="c" 1',
            'a{b="c",,} 1',
            "a{,} 1",
            'a{b="c",b="d"} 1',
            'a{b="\\x"} 1',
            "a{b=c} 1",
            'a{1b="c"} 1',
            'a 1 # {b="c"} 1',
            "# TYPE a",
            "# TYPE a info",
            "# HELP a.b c",
        ],
    )
    def test_malformed(self, line: str) -> None:
        """What the grammar does not have is a fault."""
        assert [fault.line for fault in parse_prometheus(f"ok 1\n{line}\n".encode()).faults] == [2]

    @pytest.mark.parametrize(
        "text",
        [
            "# TYPE a gauge\n# TYPE a gauge",
            "# HELP a x\n# HELP a x",
            "a 1\n# TYPE a gauge",
            'a{b="c"} 1\na{b="c"} 2',
            "# TYPE a histogram\na 1",
            "# TYPE a histogram\na_bucket 1",
            '# TYPE a histogram\na_bucket{le="x"} 1',
            "# TYPE a summary\na 1",
        ],
    )
    def test_second_line_wrong(self, text: str) -> None:
        """Metadata comes once and first, a series once, and a sample has the labels of its type."""
        assert [fault.line for fault in parse_prometheus(text.encode()).faults] == [2]

    def test_own_type_wins(self) -> None:
        """A gauge called a_count is a gauge, though a is a histogram."""
        parsed = parse_prometheus(b"# TYPE a histogram\n# TYPE a_count gauge\na_count 1\n")
        assert [reading.kind for reading in parsed.readings] == ["gauge"]

    def test_form_is_told_by_the_last_line(self) -> None:
        """Only a document that ends in # EOF is OpenMetrics, where two spaces are a fault."""
        assert parse(b"a  1\n").faults == []
        assert parse(b"a  1\n# EOF\n\n").faults != []


class TestOpenMetrics:
    """1.0: what the grammar and the semantics demand, beyond the public cases."""

    def test_types(self) -> None:
        """Each type's samples have their kind and unit; counts and buckets are plain numbers."""
        parsed = parse_openmetrics(
            document(
                "# TYPE c_seconds counter",
                "# UNIT c_seconds seconds",
                "# HELP c_seconds some \\\\ text\\n",
                'c_seconds_total{a="b"} 2 5.5 # {trace="x"} 0.5 5',
                'c_seconds_created{a="b"} 1 5.5',
                "# TYPE h_bytes histogram",
                'h_bytes_bucket{le="1.0"} 1',
                'h_bytes_bucket{le="+Inf"} 3',
                "h_bytes_count 3",
                "h_bytes_sum 7",
                "# TYPE g gaugehistogram",
                'g_bucket{le="+Inf"} 3',
                "# TYPE s_celsius summary",
                's_celsius{quantile="0.5"} 4',
                "s_celsius_count 3",
                "s_celsius_sum 5",
                "# TYPE i info",
                'i_info{version="1"} 1',
                "# TYPE e stateset",
                'e{e="on"} 1',
                'e{e="off"} 0',
                "# TYPE r_requests gauge",
                "# UNIT r_requests requests",
                "r_requests 9",
                "u 8",
            )
        )
        assert parsed.faults == []
        assert [(reading.name, reading.kind, reading.unit, reading.value) for reading in parsed.readings] == [
            ("c_seconds_total", "counter", "s", 2.0),
            ("c_seconds_created", "gauge", "s", 1.0),
            ("h_bytes_bucket", "counter", "1", 1.0),
            ("h_bytes_bucket", "counter", "1", 3.0),
            ("h_bytes_count", "counter", "1", 3.0),
            ("h_bytes_sum", "counter", "By", 7.0),
            ("g_bucket", "gauge", "1", 3.0),
            ("s_celsius", "gauge", "Cel", 4.0),
            ("s_celsius_count", "counter", "1", 3.0),
            ("s_celsius_sum", "counter", "Cel", 5.0),
            ("i_info", "gauge", "1", 1.0),
            ("e", "gauge", "1", 1.0),
            ("e", "gauge", "1", 0.0),
            ("r_requests", "gauge", "{requests}", 9.0),
            ("u", "gauge", "1", 8.0),
        ]
        assert parsed.readings[0].help == "some \\ text\n"
        assert parsed.readings[0].labels == (("a", "b"),)
        assert parsed.readings[0].time == 5.5

    def test_values_that_are_no_samples(self) -> None:
        """NaN and the infinities are allowed, counted, and give no reading."""
        parsed = parse_openmetrics(document("a NaN", "b +Inf", "c -INFINITY", "d 1"))
        assert parsed.faults == []
        assert parsed.skipped == 3
        assert values(parsed) == {"d": 1.0}

    def test_empty_label_is_no_label(self) -> None:
        """A label without value is as good as none, for the series too."""
        parsed = parse_openmetrics(document('a{b=""} 1', "a 2"))
        assert values(parsed) == {"a": 1.0}
        assert [fault.line for fault in parsed.faults] == [2]

    def test_bad_line_costs_that_line(self) -> None:
        """The other samples of a document, and of the bad line's own family, are kept."""
        parsed = parse_openmetrics(
            document("# TYPE a gauge", 'a{b="1"} 1', 'a{b="2"} x', 'a{b="3"} 3', "# nonsense", "c 4")
        )
        assert [fault.line for fault in parsed.faults] == [3, 5]
        assert values(parsed) == {"a[b=1]": 1.0, "a[b=3]": 3.0, "c": 4.0}

    def test_bad_bucket_costs_its_histogram(self) -> None:
        """A histogram with one wrong bucket is one fault, and none of it is kept; its neighbours are."""
        parsed = parse_openmetrics(
            document(
                "# TYPE h histogram",
                'h_bucket{a="1",le="1"} 5',
                'h_bucket{a="1",le="+Inf"} 4',
                'h_bucket{a="2",le="+Inf"} 6',
            )
        )
        assert [fault.line for fault in parsed.faults] == [3]
        assert values(parsed) == {"h_bucket[a=2][le=+Inf]": 6.0}

    def test_second_family_of_a_name_is_refused(self) -> None:
        """The samples of a family that comes back count as faults; those that came first stay."""
        parsed = parse_openmetrics(document("a 1", "b 2", 'a{x="1"} 3', 'a{x="2"} 4', "c 5"))
        assert [fault.line for fault in parsed.faults] == [3, 4]
        assert values(parsed) == {"a": 1.0, "b": 2.0, "c": 5.0}

    def test_missing_end(self) -> None:
        """A document without # EOF was cut off, which is told, and what came is kept."""
        parsed = parse_openmetrics(b"a 1\nb 2\n")
        assert parsed.faults == [Fault(2, "no # EOF at the end")]
        assert values(parsed) == {"a": 1.0, "b": 2.0}

    def test_faults_have_a_limit(self) -> None:
        """Of an output that is nothing but faults the first are kept, and all are counted."""
        parsed = parse_openmetrics(b"\n" * 5000)
        assert len(parsed.faults) == FAULT_LIMIT
        assert parsed.fault_count == 5001
        assert parsed.faults[0].line == 1

    @pytest.mark.parametrize(
        "lines",
        [
            ["a{} 1"],
            ["a 1 -5.25"],
            ["a 1.e5", "b .5", "c +5E-3", "d iNf", "e nAn", "f 00"],
            ['a{b="\\\\\\"\\n\\q\t\r"} 1'],
            ['a{b="# {} } , = "} 1'],
            ["a:b_c:1 1"],
            ["# HELP a ", "# UNIT a ", "a 1"],
            ["# TYPE a gauge"],
            ["# TYPE a counter", "a_other 1"],
            ["# TYPE a_s summary", "# UNIT a_s s", 'a_s{quantile="0"} NaN', 'a_s{quantile="1.0"} 0'],
            ["# TYPE a summary", "a_count 0 1", "a_sum 0 1", "a_count 0 2", "a_sum 0 2"],
            ["# TYPE a gauge", "a 1 0.0000000000", "a 2 0.0000000001"],
            ["# TYPE a gauge", "a 1 1604676851.1234567891", "a 1 1604676851.1234567892"],
            ["# TYPE a gaugehistogram", 'a_bucket{le="-1"} 1', 'a_bucket{le="+Inf"} 1', "a_gcount 1", "a_gsum -5"],
            ["# TYPE a histogram", 'a_bucket{le="1"} 1 # {} 1', 'a_bucket{le="+Inf"} 1 # {} +Inf'],
            ["# TYPE a stateset", 'a{a="x",b="1"} 1', 'a{a="y",b="1"} 1', 'a{a="x",b="2"} 0'],
            ["# TYPE a info", 'a_info{b="1"} 1 2', 'a_info{b="2"} 1 1'],
            ["# TYPE a counter", 'a_total 1 # {b="' + "x" * 127 + '"} 1'],
        ],
    )
    def test_allowed(self, lines: list[str]) -> None:
        """What the specification allows has no fault."""
        assert parse_openmetrics(document(*lines)).faults == []

    @pytest.mark.parametrize(
        "lines",
        [
            # Lines and blanks
            [""],
            [" a 1"],
            ["a  1"],
            ["a\t1"],
            ["a 1 "],
            ["a 1\r"],
            ["# HELP a b\r"],
            ["#"],
            ["# comment"],
            ["#TYPE a gauge"],
            ["#  TYPE a gauge"],
            ["# TYPE  a gauge"],
            ["# TYPE a gauge "],
            ["# type a gauge"],
            ["# TYPE a untyped"],
            ["# TYPE a Gauge"],
            ["# TYPE a-b gauge"],
            ["\N{BYTE ORDER MARK}a 1"],
            # Names, labels and numbers
            ["0a 1"],
            ["\N{LATIN SMALL LETTER E WITH ACUTE} 1"],
            ['{"a"} 1'],
            ['a {b="c"} 1'],
            ['a{ b="c"} 1'],
            ['a{b="c" } 1'],
            ['a{b="c",} 1'],
            ["a{b='c'} 1"],
            ['a{b:c="d"} 1'],
            ['a{b="c\\"} 1'],
            ["a +NaN"],
            ["a 1e"],
            ["a ."],
            ["a --1"],
            ["a 1e400"],
            ["a 1 1e400"],
            ["a 1 +Inf"],
            ["a \N{ARABIC-INDIC DIGIT ONE}"],
            # Units
            ["# UNIT a a"],
            ["# UNIT as s"],
            ["# TYPE a_s info", "# UNIT a_s s"],
            ["# UNIT a_s s", "# TYPE a_s stateset"],
            # Values
            ["# TYPE a counter", "a_total -1"],
            ["# TYPE a counter", "a_total NaN"],
            ["# TYPE a counter", "a_created NaN"],
            ["# TYPE a histogram", 'a_bucket{le="+Inf"} 0.5'],
            ["# TYPE a histogram", 'a_bucket{le="+Inf"} +Inf'],
            ["# TYPE a summary", "a_count 1.5"],
            ["# TYPE a info", "a_info 0"],
            # Labels of a type
            ["# TYPE a histogram", 'a_bucket{le="inf"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="NaN"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="1_0"} 1'],
            ["# TYPE a summary", 'a{quantile="-0.1"} 1'],
            ["# TYPE a summary", 'a{quantile="NaN"} 1'],
            ["# TYPE a summary", 'a{quantile=""} 1'],
            ["# TYPE a summary", 'a_sum{quantile="1"} 1'],
            # Histograms
            ["# TYPE a histogram", 'a_bucket{le="1"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="2"} 1', 'a_bucket{le="1"} 1', 'a_bucket{le="+Inf"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="1"} 1', 'a_bucket{le="1.0"} 1', 'a_bucket{le="+Inf"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="+Inf"} 1', "a_sum 1"],
            ["# TYPE a histogram", 'a_bucket{le="+Inf"} 1', "a_count 2", "a_sum 1"],
            ["# TYPE a gaugehistogram", 'a_bucket{le="+Inf"} 1', "a_gcount 1"],
            ["# TYPE a histogram", 'a_bucket{le="+Inf"} 1 1', "a_created 1 2"],
            # Exemplars
            ["# TYPE a gauge", "a 1 # {} 1"],
            ["a 1 # {} 1"],
            ["# TYPE a counter", "a_total 1 # {}"],
            ["# TYPE a counter", "a_total 1 # 1"],
            ["# TYPE a counter", "a_total 1 # {} 1 +Inf"],
            ["# TYPE a counter", "a_total 1 # {} 1 1 1"],
            ["# TYPE a counter", 'a_total 1 # {b="1",b="2"} 1'],
            ["# TYPE a counter", 'a_total 1 # {b="' + "x" * 128 + '"} 1'],
            ["# TYPE a histogram", 'a_bucket{le="1"} 1 # {} 1.5', 'a_bucket{le="+Inf"} 1'],
            # Order
            ["a 1", "a 2"],
            ["a 1 5", "a 2 5"],
            ["a 1", "# HELP a x"],
            ['a{b="1"} 1', 'a{b="2"} 1', 'a{b="1"} 1 9'],
            ["# TYPE a gauge", "# TYPE b gauge", "# HELP a x"],
            ["# TYPE a summary", "a_count 0 1", "a_count 0 2", "a_sum 0 1"],
            ["# TYPE a stateset", 'a{a="x",b="1"} 1', 'a{a="x",b="2"} 1', 'a{a="y",b="1"} 1'],
            # Names that clash
            ["# TYPE a_created gauge", "# TYPE a counter"],
            ["# TYPE a counter", "# TYPE a_total gauge"],
            ["# TYPE a counter", "a 1"],
            ["# TYPE a_bucket gauge", "# TYPE a histogram"],
            ["# TYPE a_info gauge", "# TYPE a info"],
            # The end
            ["a 1", "# EOF"],
            ["# EOF "],
        ],
    )
    def test_malformed(self, lines: list[str]) -> None:
        """What the specification forbids is a fault."""
        assert parse_openmetrics(document(*lines)).faults != []


class TestFitting:
    """Names of other worlds."""

    @given(st.text())
    @modest
    def test_any_text(self, text: str) -> None:
        """Any text becomes a legal name, and a legal one stays."""
        name, label = fit_name(text), fit_label(text)
        assert METRIC_NAME.match(name)
        assert LABEL_NAME.match(label)
        assert fit_name(name) == name
        assert fit_label(label) == label

    def test_what_does_not_fit(self) -> None:
        """It becomes an underscore, and what must not come first gets something before it."""
        assert fit_name("a b:c/d") == "a_b_c/d"
        assert fit_name("_a") == "m_a"
        assert fit_label("9 a-b") == "_9_a_b"

    def test_long_names_stay_apart(self) -> None:
        """Two names that differ in their last character only are two names."""
        assert fit_name("a" * 300 + "1") != fit_name("a" * 300 + "2")

    def test_labels_stay_apart(self) -> None:
        """Two labels whose names fit as one are both kept."""
        labels = fit_labels([("a b", "1"), ("a_b", "2")])
        assert sorted(value for _, value in labels) == ["1", "2"]
        assert all(re.match(r"a_b", name) for name, _ in labels)
