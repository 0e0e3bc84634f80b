"""Output of programs for collectd's exec plugin: PUTVAL and PUTNOTIF of its plain text protocol.

After collectd-exec(5), collectd-unixsock(5) and types.db(5)::

    PUTVAL leeloo/interface-eth0/if_octets interval=10 1180647081:421465:479194
    PUTNOTIF severity=warning time=1201094702 message="The roof is on fire!"

The type names the values: ``collectd.interface.if_octets.rx`` and ``.tx``. A type with one value adds nothing to the
name. Every reading has the labels ``host``, ``plugin_instance`` and ``type_instance``, empty where there is none: a
metric always has the same labels, and collectd's plugins often mix the two.

COUNTER and DERIVE are counters, with the value as printed. ABSOLUTE is a gauge of what has come since the last line.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from plugd.formats.lines import number, numbered_lines, shown
from plugd.formats.reading import Fault, Kind, Labels, Parsed, Reading, fit_name


class DataSource(NamedTuple):
    """One value of a type."""

    name: str
    kind: Kind


DataSet = tuple[DataSource, ...]  # The values of a type, in the order in which they come.

_KINDS: dict[str, Kind] = {"GAUGE": "gauge", "ABSOLUTE": "gauge", "COUNTER": "counter", "DERIVE": "counter"}
_GAUGE: DataSet = (DataSource("value", "gauge"),)
_COUNTER: DataSet = (DataSource("value", "counter"),)


def _pair(first: str, second: str) -> DataSet:
    return DataSource(first, "counter"), DataSource(second, "counter")


# The commonest types of collectd's own types.db that are no single gauge, for hosts without that file.
COMMON_TYPES: dict[str, DataSet] = {
    **dict.fromkeys(("if_octets", "if_packets", "if_errors", "if_dropped"), _pair("rx", "tx")),
    **dict.fromkeys(("io_octets", "io_packets", "node_octets", "serial_octets", "mysql_octets"), _pair("rx", "tx")),
    **dict.fromkeys(("disk_octets", "disk_ops", "disk_time", "disk_merged"), _pair("read", "write")),
    **dict.fromkeys(("ps_disk_octets", "ps_disk_ops"), _pair("read", "write")),
    **dict.fromkeys(("ps_pagefaults", "vmpage_faults"), _pair("minflt", "majflt")),
    **dict.fromkeys(("cpu", "counter", "derive", "contextswitch", "fork_rate", "irq", "operations"), _COUNTER),
    **dict.fromkeys(("connections", "packets", "if_collisions", "ipt_bytes", "ipt_packets", "swap_io"), _COUNTER),
    **dict.fromkeys(("apache_bytes", "apache_requests", "nginx_requests", "http_requests", "nfs_procedure"), _COUNTER),
    **dict.fromkeys(("total_bytes", "total_requests", "total_connections", "total_operations"), _COUNTER),
    "disk_io_time": _pair("io_time", "weighted_io_time"),
    "dns_octets": _pair("queries", "responses"),
    "ps_cputime": _pair("user", "syst"),
    "vmpage_io": _pair("in", "out"),
    "load": tuple(DataSource(name, "gauge") for name in ("shortterm", "midterm", "longterm")),
    "df": (DataSource("used", "gauge"), DataSource("free", "gauge")),
    "ps_count": (DataSource("processes", "gauge"), DataSource("threads", "gauge")),
}

_UNITS = {
    **dict.fromkeys(("bytes", "memory", "df", "df_complex", "swap", "file_size", "total_bytes", "ipt_bytes"), "By"),
    **dict.fromkeys(("if_octets", "disk_octets", "io_octets", "ps_disk_octets", "ps_rss", "ps_vm"), "By"),
    **dict.fromkeys(("percent", "percent_bytes", "percent_inodes", "humidity"), "%"),
    **dict.fromkeys(("duration", "uptime"), "s"),
    **dict.fromkeys(("ping", "disk_time", "total_time_in_ms"), "ms"),
    "temperature": "Cel",
    "voltage": "V",
    "current": "A",
    "power": "W",
    "frequency": "Hz",
}

_SPACE = re.compile(r"\s*+")
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"(?!\S)|([^\s"]\S*+)')
_OPTION = re.compile(r"([A-Za-z0-9_:]++)=")
_IDENTIFIER = re.compile(r"([^/]+)/([^/-][^/-]*+)(?:-([^/]*))?/([^/-][^/-]*+)(?:-(.*))?")
_SOURCE = re.compile(r"([^\s:]+):(\w+):([^\s:]+):([^\s:]+)")

_SEVERITIES = ("failure", "warning", "okay")


def parse_collectd(stdout: bytes, types: Mapping[str, DataSet] | None = None) -> Parsed:
    """Return the values and notifications that a program printed; the notifications are the notices.

    Args:
        stdout: whole lines of its output.
        types: from parse_types_db; they come before COMMON_TYPES. A type in neither is one gauge.
    """
    reader = _Commands({**COMMON_TYPES, **(types or {})})
    for line, text in numbered_lines(stdout):
        if text[0] == "#":
            continue
        try:
            reader.read(text)
        except ValueError as error:
            reader.faults.append(Fault(line, str(error)))
    return Parsed(reader.readings, reader.faults, reader.notices, reader.skipped)


def parse_types_db(content: bytes) -> tuple[dict[str, DataSet], list[Fault]]:
    """Return the types that a types.db defines, and its faults. The ranges of values are not kept."""
    types: dict[str, DataSet] = {}
    faults: list[Fault] = []
    for line, text in numbered_lines(content):
        if text[0] == "#":
            continue
        words = text.replace(",", " ").split()
        sources = [_source(specification) for specification in words[1:]]
        if sources and all(sources):
            types[words[0]] = tuple(source for source in sources if source)
        else:
            faults.append(Fault(line, f"expected a type and its data sources, found {shown(text)}"))
    return types, faults


class _Commands:
    """The reader of commands: what the lines given to it have held. A ValueError is a fault of its line."""

    def __init__(self, types: Mapping[str, DataSet]) -> None:
        self.readings: list[Reading] = []
        self.faults: list[Fault] = []
        self.notices: list[str] = []
        self.skipped = 0
        self._types = types

    def read(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        if command.upper() == "PUTVAL":
            self._put_value(rest)
        elif command.upper() == "PUTNOTIF":
            self.notices.append(_notice(rest))
        elif command.count("/") >= 2:  # Before there were commands, all lines were values.
            self._put_value(text)
        else:
            raise ValueError(f"expected PUTVAL or PUTNOTIF, found {shown(text)}")

    def _put_value(self, text: str) -> None:
        """Take all values of a line, or none: collectd does the same."""
        identifier, position = _string(text, 0)
        parts = _IDENTIFIER.fullmatch(identifier)
        if parts is None:
            raise ValueError(f"expected host/plugin/type, found {shown(identifier)}")
        host, plugin, plugin_instance, type_, type_instance = (part or "" for part in parts.groups())
        labels = (("host", host), ("plugin_instance", plugin_instance), ("type_instance", type_instance))
        readings: list[Reading] = []
        skipped = 0
        lists = [words for option, words in _words(text, position) if option is None]
        if not lists:
            raise ValueError(f"no values for {shown(identifier)}")
        for words in lists:
            time, values = _value_list(words)
            skipped += sum(not math.isfinite(value) for value in values)
            readings += self._named(plugin, type_, labels, time, values)
        self.readings += readings
        self.skipped += skipped

    def _named(
        self, plugin: str, type_: str, labels: Labels, time: float | None, values: list[float]
    ) -> Iterator[Reading]:
        sources = self._types.get(type_, _GAUGE)
        if len(sources) != len(values):
            known = f"type {shown(type_)} has {len(sources)}" if type_ in self._types else f"no type {shown(type_)}"
            raise ValueError(f"{len(values)} values, but {known}")
        for source, value in zip(sources, values, strict=True):
            if math.isfinite(value):
                name = f"collectd.{plugin}.{type_}" if len(sources) == 1 else f"collectd.{plugin}.{type_}.{source.name}"
                yield Reading(fit_name(name), source.kind, _UNITS.get(type_, "1"), labels, value, "", time)


def _value_list(text: str) -> tuple[float | None, list[float]]:
    """Return time and values of ``time:value:value``; the time is None for now."""
    first, *rest = text.split(":")
    time = None if first == "N" else number(first)
    values = [number(part) for part in rest]
    numbers = [value for value in values if value is not None]
    if not values or len(numbers) < len(values) or (first != "N" and not (time is not None and 0 <= time < math.inf)):
        raise ValueError(f"expected time:value, found {shown(text)}")
    return time or None, numbers  # To collectd too, zero is now.


def _notice(text: str) -> str:
    """Return a notification as one line: severity, what it is about, and the message."""
    options = {option.lower(): words for option, words in _words(text, 0) if option is not None}
    severity = options.get("severity", "").lower()
    if severity not in _SEVERITIES:
        raise ValueError(f"a notification's severity is failure, warning or okay: {shown(text)}")
    if number(options.get("time", "")) is None:
        raise ValueError(f"a notification without its time: {shown(text)}")
    if not options.get("message"):
        raise ValueError(f"a notification without message: {shown(text)}")
    about = "/".join(
        part
        for part in (
            options.get("host", ""),
            "-".join(filter(None, (options.get("plugin"), options.get("plugin_instance")))),
            "-".join(filter(None, (options.get("type"), options.get("type_instance")))),
        )
        if part
    )
    return f"{severity}: {about}: {options['message']}" if about else f"{severity}: {options['message']}"


def _words(text: str, position: int) -> Iterator[tuple[str | None, str]]:
    """Yield the words of a line: options with their names, and others with None."""
    while position < len(text):
        option = _OPTION.match(text, position)
        if option is None:
            word, position = _string(text, position)
            yield None, word
            continue
        start = option.end()
        if option[1].lower() == "message" and not text.startswith('"', start):
            yield option[1], text[start:]  # Unquoted it takes the rest of the line, as it once did.
            return
        if _skip_space(text, start) > start:
            raise ValueError(f"option {shown(option[1])} without value")
        word, position = _string(text, start)
        yield option[1], word


def _string(text: str, position: int) -> tuple[str, int]:
    """Return the string at a position, quoted or not, and where the next one begins."""
    match = _STRING.match(text, _skip_space(text, position))
    if match is None:
        raise ValueError(f"expected a word or a quoted string, found {shown(text[position:])}")
    word = match[2] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1])
    return word, _skip_space(text, match.end())


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _source(specification: str) -> DataSource | None:
    match = _SOURCE.fullmatch(specification)
    kind = _KINDS.get(match[2].upper()) if match else None
    return DataSource(match[1], kind) if match and kind else None
