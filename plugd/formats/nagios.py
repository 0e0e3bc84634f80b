"""Output of Nagios plugins, after the Monitoring Plugins Development Guidelines.

The first line is the status text, a ``|``, and performance data. Lines of long text follow, and after the first ``|``
in these all lines are performance data again: ``'label'=value[UOM];[warn];[crit];[min];[max]``, separated by spaces.

A value is kept as it was printed, in the unit it was printed in. As a metric has one unit and one kind, and a plugin
such as check_ping prints milliseconds beside percents, the unit printed ends the metric's name; the label of the
performance data is a label here too, since it mostly names an instance (a file system, a host)::

    nagios.status                                     0 OK, 1 warning, 2 critical, 3 unknown
    nagios.perfdata.ms   {label="rta"}                  rta=0.101ms;100;~:200;0
    nagios.threshold.ms  {label="rta", level="warning", bound="upper"}
    nagios.minimum.ms    {label="rta"}

``nagios.perfdata`` alone has no unit, ``.percent`` is ``%``, and ``.c`` are counters.
"""

import math
import re
from collections.abc import Iterator

from plugd.formats.lines import number, numbered_lines, shown
from plugd.formats.reading import Fault, Kind, Parsed, Reading, fit_name

UNKNOWN = 3
LEVELS = ("warning", "critical")
EXTREMES = ("minimum", "maximum")

# The letters decide: whether a plugin that prints KB counts in 1000 or 1024 is not to be seen from outside.
_UNITS = {
    "": "1",
    "c": "1",
    "%": "%",
    "s": "s",
    "ms": "ms",
    "us": "us",
    "ns": "ns",
    "B": "By",
    "KB": "kBy",
    "kB": "kBy",
    "MB": "MBy",
    "GB": "GBy",
    "TB": "TBy",
    "PB": "PBy",
    "KiB": "KiBy",
    "MiB": "MiBy",
    "GiB": "GiBy",
    "TiB": "TiBy",
    "b": "bit",
    "A": "A",
    "V": "V",
    "W": "W",
    "C": "Cel",
}
_UNIT_LENGTH = 40  # characters of a unit nobody knows

_HELP = {
    "status": "Exit status: 0 OK, 1 warning, 2 critical, 3 unknown.",
    "perfdata": "Performance data, as the plugin printed it.",
    "threshold": "Bound of the range outside which the plugin alerts.",
    "minimum": "Least value possible, as the plugin says.",
    "maximum": "Greatest value possible, as the plugin says.",
}

_SPACE = re.compile(r"\s*+")
_WORD = re.compile(r"\S*+")
_QUOTED = re.compile(r"'([^']*+(?:''[^']*+)*+)'")
_BARE = re.compile(r"[^\s=]*+")
_VALUE = re.compile(
    r"(?P<value>[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?)(?P<uom>[^0-9;'\",.+=-]*+)"
)
_UNKNOWN_VALUE = re.compile(r"(?:U|[-+]?(?i:nan|inf(?:inity)?))(?P<uom>[^0-9;'\",.+=-]*+)")


def parse_nagios(stdout: bytes, status: int) -> Parsed:
    """Return what a plugin printed and said by its exit status; the text of the first line is the notice.

    Args:
        stdout: all that it printed.
        status: its exit status. One that is not 0 to 3, or a signal's (negative), is told, and counts as unknown.
    """
    reader = _Perfdata()
    known = 0 <= status <= UNKNOWN
    checked = Reading("nagios.status", "gauge", "1", (), float(status if known else UNKNOWN), _HELP["status"])
    if not known:
        reader.fault(1, f"exit status {status} is none of 0 to 3")
    if not stdout.strip():
        reader.fault(1, "the plugin printed nothing")
    notices: list[str] = []
    in_perfdata = False
    for line, text in numbered_lines(stdout):
        if in_perfdata:
            reader.read(line, text)
            continue
        words, bar, data = text.partition("|")
        if line == 1 and words.strip():
            notices.append(words.strip())
        in_perfdata = bool(bar) and line > 1
        reader.read(line, data)
    return Parsed([checked, *reader.readings], reader.faults, notices, reader.skipped)


class _Perfdata:
    """The reader of performance data: the readings and faults of the lines given to it."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.faults: list[Fault] = []
        self.skipped = 0
        self._labels: set[str] = set()

    def fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(line, message))

    def read(self, line: int, data: str) -> None:
        for label, text in self._items(line, data):
            if label in self._labels:
                self.fault(line, f"label {shown(label)} comes twice")
                continue
            self._labels.add(label)
            self._item(line, label, text)

    def _items(self, line: int, data: str) -> Iterator[tuple[str, str]]:
        """Yield labels and what stands behind their equals signs; each character is looked at once."""
        position = 0
        while True:
            start = _end(_SPACE, data, position)
            if start == len(data):
                return
            if data[start] == "'":
                quoted = _QUOTED.match(data, start)
                if quoted is None:
                    self.fault(line, f"label without its closing quote: {shown(data[start:])}")
                    return
                label, after = quoted[1].replace("''", "'"), quoted.end()
            else:
                after = _end(_BARE, data, start)
                label = data[start:after]
            position = _end(_WORD, data, after)
            if label and data[after:position].startswith("="):
                yield label, data[after + 1 : position]
            else:
                self.fault(line, f"expected label=value, found {shown(data[start:position])}")

    def _item(self, line: int, label: str, text: str) -> None:
        value, *limits = text.split(";")
        match = _VALUE.fullmatch(value) or _UNKNOWN_VALUE.fullmatch(value)
        if match is None or (match.re is _UNKNOWN_VALUE and match["uom"] not in _UNITS):
            self.fault(line, f"value of {shown(label)} is no number: {shown(value)}")
            return
        if any(limits[4:]):
            self.fault(line, f"{shown(label)} has more than value, warning, critical, minimum and maximum")
        uom = match["uom"]
        if match.re is _UNKNOWN_VALUE:
            self.skipped += 1
        else:
            kind: Kind = "counter" if uom == "c" else "gauge"
            self._add("perfdata", uom, (("label", label),), float(match["value"]), kind)
        for level, limit in zip(LEVELS, limits[:2], strict=False):
            bounds = _bounds(limit, uom)
            if bounds is None:
                self.fault(line, f"{level} threshold of {shown(label)} is no range: {shown(limit)}")
            for bound, number_ in bounds or ():
                self._add("threshold", uom, (("bound", bound), ("label", label), ("level", level)), number_)
        for extreme, limit in zip(EXTREMES, limits[2:4], strict=False):
            if not limit:
                continue
            least = _limit(limit, uom)
            if least is None:
                self.fault(line, f"{extreme} of {shown(label)} is no number: {shown(limit)}")
            else:
                self._add(extreme, uom, (("label", label),), least)

    def _add(
        self, what: str, uom: str, labels: tuple[tuple[str, str], ...], value: float, kind: Kind = "gauge"
    ) -> None:
        if not math.isfinite(value):
            self.skipped += 1
            return
        suffix = "percent" if uom == "%" else uom
        name = f"nagios.{what}.{suffix}" if suffix else f"nagios.{what}"
        self.readings.append(Reading(fit_name(name), kind, _unit(uom), labels, value, _HELP[what]))


def _bounds(text: str, uom: str) -> list[tuple[str, float]] | None:
    """Return the bounds a range of the guidelines spells out, or None if it is no range.

    The zero that ``10`` begins with is left out, nobody wrote it; so is all of ``@10:20``, which alerts inside.
    """
    start, colon, end = text.removeprefix("@").rpartition(":")
    bounds: list[tuple[str, float]] = []
    for bound, part in (("lower", start), ("upper", end)):
        if part == "" or (part == "~" and bound == "lower"):
            continue
        value = _limit(part, uom)
        if value is None:
            return None
        bounds.append((bound, value))
    if text.startswith("@"):
        return [] if bounds or colon else None
    return bounds


def _limit(text: str, uom: str) -> float | None:
    # The guidelines have the unit once, at the value; many plugins repeat it.
    value = number(text.removesuffix(uom))
    return value if value is None or math.isfinite(value) else None


def _unit(uom: str) -> str:
    """Return the unit in UCUM; one that is not in the table becomes an annotation, which UCUM allows for any text."""
    known = _UNITS.get(uom)
    if known is not None:
        return known
    return "{" + re.sub(r"[^\x21-\x7a|~]", "_", uom[:_UNIT_LENGTH]) + "}"


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
