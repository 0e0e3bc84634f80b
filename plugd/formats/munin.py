"""Output of Munin plugins: what ``config``, ``autoconf`` and a run without argument print.

After Munin's plugin reference and its protocol extensions multigraph, dirtyconfig and supersampling
(https://guide.munin-monitoring.org/en/latest/reference/plugin.html).

A reading is named ``munin.GRAPH.FIELD``, as Munin itself names its data sources. The field is no label: each field has
a type of its own, and one graph may hold both gauges and counters (netstat does), which one metric cannot.

Values stay as they were printed: ``cdef``, ``min`` and ``max`` belong to Munin's graphs and are not applied.
``COUNTER`` and ``DERIVE`` are counters. ``ABSOLUTE`` is a gauge of what has come since it was last read: the plugin
starts again at zero each time.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from plugd.formats.lines import number, numbered_lines, shown
from plugd.formats.reading import Fault, Kind, Parsed, Reading, fit_name

_KINDS: dict[str, Kind] = {"GAUGE": "gauge", "ABSOLUTE": "gauge", "COUNTER": "counter", "DERIVE": "counter"}

# Labels of the vertical axis that are nothing but a unit.
_UNITS = {
    "%": "%",
    "percent": "%",
    "bytes": "By",
    "seconds": "s",
    "milliseconds": "ms",
    "ms": "ms",
    "°c": "Cel",
    "celsius": "Cel",
    "degrees celsius": "Cel",
    "hz": "Hz",
    "volt": "V",
    "volts": "V",
    "watt": "W",
    "watts": "W",
    "rpm": "{revolution}/min",
}

_GLOBAL = re.compile(r"(graph|graph_\w+|host_name|update|update_rate)(?:\s+(.*))?")
_MULTIGRAPH = re.compile(r"multigraph(?:\s+(.*))?")
_GRAPH_NAME = re.compile(r"[\w:-]+(?:\.[\w:-]+)*", re.ASCII)
_ATTRIBUTE = re.compile(r"([^\s.]+)\.(\w+)(?:\s+(.*))?")
_VALUE = re.compile(r"([^\s.]+)\.value\s+(\S+)")
_EXTINFO = re.compile(r"[^\s.]+\.extinfo\b")  # Words for Munin's alerts.
_TIMED = re.compile(r"([0-9]+|N):(.*)")
_AUTOCONF = re.compile(r"(yes|no)\b\s*(?:\((.*)\)|(.*))", re.IGNORECASE)


class Graph(NamedTuple):
    """One graph of a plugin's configuration: its attributes, and those of its fields, as text."""

    attributes: dict[str, str]  # graph_title, graph_vlabel…
    fields: dict[str, dict[str, str]]  # Field: label, type, info, min, max, negative, draw, cdef…


class Value(NamedTuple):
    """A line ``field.value``."""

    line: int
    graph: str
    field: str
    text: str


class MuninConfig(NamedTuple):
    """What a plugin says of itself. The values are those of a "dirty" configuration, which needs no further run."""

    graphs: dict[str, Graph]
    values: list[Value]
    faults: list[Fault]


class Autoconf(NamedTuple):
    """Whether a plugin says that it can work on this host, and what it says of that."""

    usable: bool
    reason: str


def parse_munin(config: bytes, fetch: bytes, graph: str = "") -> Parsed:
    """Return the readings of one run; faults of the configuration come first.

    Args:
        config: what the plugin printed for ``config``.
        fetch: what it printed without argument; empty if the configuration held the values.
        graph: the name of the graph outside ``multigraph`` sections: Munin takes the plugin's.
    """
    known = parse_munin_config(config, graph)
    reader = _Reader(known)
    fetched = _values(fetch, graph, reader.faults)
    newer = {(value.graph, value.field) for value in fetched}
    reader.read([value for value in known.values if (value.graph, value.field) not in newer])
    return _parsed(reader, fetched, known.faults)


def parse_munin_config(output: bytes, graph: str = "") -> MuninConfig:
    """Return what a plugin printed for ``config``. It changes seldom and need not be read before each run."""
    config = MuninConfig({}, [], [])
    section: str | None = graph
    for line, text in numbered_lines(output):
        if text[0] == "#" or text == ".":  # Comments, and the end of the node's answers.
            continue
        if multigraph := _MULTIGRAPH.fullmatch(text):
            section = _section(line, multigraph[1], config.faults)
        elif section is not None:
            _read_config_line(config, line, text, section)
    return config


def parse_munin_fetch(output: bytes, config: MuninConfig, graph: str = "") -> Parsed:
    """Return the readings of a run without argument.

    A field that the configuration does not know is a gauge. One with several values, each with its time, gives as
    many readings.
    """
    reader = _Reader(config)
    return _parsed(reader, _values(output, graph, reader.faults), [])


def parse_autoconf(output: bytes) -> Autoconf:
    """Return the answer to ``autoconf``; one that is neither yes nor no means no."""
    for _, text in numbered_lines(output):
        if text[0] == "#":
            continue
        match = _AUTOCONF.match(text)
        if match is None:
            return Autoconf(usable=False, reason=f"answered {shown(text)}")
        return Autoconf(usable=match[1].lower() == "yes", reason=(match[2] or match[3] or "").strip())
    return Autoconf(usable=False, reason="answered nothing")


def _values(output: bytes, graph: str, faults: list[Fault]) -> list[Value]:
    """Return what the lines ``field.value`` of an output say, and add the other lines to the faults."""
    values: list[Value] = []
    section: str | None = graph
    for line, text in numbered_lines(output):
        if text[0] == "#" or text == ".":
            continue
        if multigraph := _MULTIGRAPH.fullmatch(text):
            section = _section(line, multigraph[1], faults)
        elif section is None:
            continue
        elif match := _VALUE.match(text):
            values.append(Value(line, section, _field_name(match[1]), match[2]))
        elif not _EXTINFO.match(text):
            faults.append(Fault(line, f"expected field.value and a number, found {shown(text)}"))
    return values


def _parsed(reader: "_Reader", values: list[Value], before: list[Fault]) -> Parsed:
    reader.read(values)
    faults = sorted(reader.faults, key=lambda fault: fault.line)
    return Parsed(reader.readings, [*before, *faults], [], reader.skipped)


def _section(line: int, name: str | None, faults: list[Fault]) -> str | None:
    """Return the name in a ``multigraph`` line, or None: then nobody knows whose the lines after it are."""
    if name and _GRAPH_NAME.fullmatch(name):
        return name
    faults.append(Fault(line, f"no name for a graph: {shown(name or '')}"))
    return None


def _read_config_line(config: MuninConfig, line: int, text: str, section: str) -> None:
    graph = config.graphs.setdefault(section, Graph({}, {}))
    if match := _GLOBAL.fullmatch(text):
        graph.attributes[match[1]] = match[2] or ""
        return
    match = _ATTRIBUTE.fullmatch(text)
    if match is None:
        config.faults.append(Fault(line, f"config: expected an attribute, found {shown(text)}"))
        return
    field, attribute, value = _field_name(match[1]), match[2], match[3] or ""
    if attribute == "value":
        config.values.append(Value(line, section, field, value.partition(" ")[0]))
        return
    graph.fields.setdefault(field, {})[attribute] = value
    if attribute == "type" and value not in _KINDS:
        config.faults.append(Fault(line, f"config: no type of a field: {shown(value)}"))


class _Reader:
    """The maker of readings from values, by what the configuration says of their fields."""

    def __init__(self, config: MuninConfig) -> None:
        self.readings: list[Reading] = []
        self.faults: list[Fault] = []
        self.skipped = 0
        self._graphs = config.graphs
        self._described: dict[tuple[str, str], tuple[str, Kind, str, str]] = {}

    def read(self, values: Iterable[Value]) -> None:
        for line, graph, field, text in values:
            time = None
            if timed := _TIMED.fullmatch(text):
                time = None if timed[1] == "N" else float(timed[1])
                text = timed[2]
            value = number(text)
            if value is None or time == math.inf:
                self.faults.append(Fault(line, f"value of {shown(field)} is no number: {shown(text)}"))
            elif not math.isfinite(value):
                self.skipped += 1
            else:
                name, kind, unit, explanation = self._describe(graph, field)
                self.readings.append(Reading(name, kind, unit, (), value, explanation, time))

    def _describe(self, section: str, field: str) -> tuple[str, Kind, str, str]:
        described = self._described.get((section, field))
        if described is None:
            graph = self._graphs.get(section, Graph({}, {}))
            attributes = graph.fields.get(field, {})
            described = self._described[section, field] = (
                fit_name(".".join(part for part in ("munin", section, field) if part)),
                _KINDS.get(attributes.get("type", ""), "gauge"),
                _unit(graph, attributes),
                attributes.get("info") or attributes.get("label", ""),
            )
        return described


def _unit(graph: Graph, attributes: dict[str, str]) -> str:
    """Return the unit, where it is to be known: the axis tells that of what is drawn, a rate or a cdef's result."""
    if attributes.get("type", "GAUGE") != "GAUGE" or "cdef" in attributes:
        return "1"
    return _UNITS.get(graph.attributes.get("graph_vlabel", "").lower(), "1")


def _field_name(name: str) -> str:
    """Return a field's name as Munin makes it fit."""
    return re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"^[^A-Za-z_]", "_", name))
