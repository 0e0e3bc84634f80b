"""OpenMetrics text 1.0: what the lines of one document must be to each other.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. By the standard a document with one
fault is erroneous as a whole. Here the fault is told, its line and what that makes meaningless is left out, and the
rest is kept. Meaningless is the rest of a histogram, and a family whose name another one has already.
"""

import math
import re

from plugd.formats.exposition import STRICT, SampleLine, parse_sample, unescape
from plugd.formats.families import Family, Role
from plugd.formats.histogram import HistogramPoint
from plugd.formats.reading import Faults, Labels, MalformedError, Parsed, Reading, excerpt, fit_labels, fit_name

EOF = b"# EOF"

# A HELP is taken as it comes: a lone quote or backslash there does no harm.
_METADATA = re.compile(r"# (TYPE|HELP|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)", re.DOTALL)


def parse_openmetrics(text: bytes) -> Parsed:
    """Return what an OpenMetrics document holds; any bytes will do, and take time and memory by their number."""
    document = _Document()
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    ended = False
    for number, line in enumerate(lines, 1):
        if ended:
            document.faults.add(number, "a line after # EOF")
        elif line == EOF:
            ended = True
        else:
            document.read(number, line)
    document.end_point()
    if not ended:
        document.faults.add(max(len(lines), 1), "no # EOF at the end")
    return Parsed(document.readings, document.faults.listed(), [], document.skipped, document.faults.unlisted)


class _Document:
    """A document while it is read line by line."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.faults = Faults()
        self.skipped = 0
        self._owners: dict[str, Family] = {}  # By every name a sample may have.
        self._family = Family("")
        self._point: HistogramPoint | None = None

    def read(self, number: int, line: bytes) -> None:
        """Take the next line, or its fault."""
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.faults.add(number, f"not UTF-8: {excerpt(line)}")
            return
        try:
            if text.endswith("\r"):
                raise MalformedError("a carriage return at the end of the line")
            if text.startswith("#"):
                self._take_metadata(text)
            else:
                self._take_sample(number, parse_sample(text, STRICT))
        except MalformedError as error:
            self.faults.add(number, str(error))

    def end_point(self) -> None:
        """Keep the readings of the histogram that ends here, if it is whole."""
        point, self._point = self._point, None
        if point is None:
            return
        if fault := point.fault():
            self.faults.add(point.line, f"histogram {excerpt(self._family.name)}: {fault}")
        if fault is None:
            self.readings += point.readings
            self.skipped += point.skipped

    def _take_metadata(self, text: str) -> None:
        metadata = _METADATA.fullmatch(text)
        if metadata is None:
            raise MalformedError(f"neither TYPE, HELP nor UNIT with a name and a text: {excerpt(text)}")
        keyword, name, rest = metadata.groups()
        if name != self._family.name:
            self._open(name)
        if self._family.refused:
            raise MalformedError(self._family.refused)
        self._family.describe(keyword, unescape(rest))
        if keyword == "TYPE":
            self._claim(list(self._family.roles))

    def _take_sample(self, number: int, line: SampleLine) -> None:
        role = self._family.roles.get(line.name)
        if role is None:
            self._open(line.name)  # A family that has no metadata.
            role = self._family.roles[line.name]
        family = self._family
        family.sampled = True
        if family.refused:
            raise MalformedError(family.refused)
        labels = line.sorted_labels()
        if family.place(line, role, labels):
            self.end_point()
            self._point = HistogramPoint(number) if family.is_histogram else None
        try:
            threshold = role.check(line)
            if self._point:
                self._point.add(role.suffix, line.value, threshold)
        except MalformedError:
            if self._point:
                self._point.spoil()
            raise
        self._keep(line, role, labels)

    def _keep(self, line: SampleLine, role: Role, labels: Labels) -> None:
        place: _Document | HistogramPoint = self._point or self
        if not math.isfinite(line.value):
            place.skipped += 1
            return
        family = self._family
        time = float(line.time) if line.time else None
        name = fit_name(line.name)
        reading = Reading(name, role.kind, role.unit or family.unit, fit_labels(labels), line.value, family.help, time)
        place.readings.append(reading)

    def _open(self, name: str) -> None:
        """Begin a family, which ends the one before."""
        self.end_point()
        self._family = Family(name)
        self._claim([name])

    def _claim(self, names: list[str]) -> None:
        """Take names of samples for the present family, which is refused where another has one of them."""
        family = self._family
        for name in names:
            owner = self._owners.setdefault(name, family)
            if owner is family:
                continue
            if owner.name == family.name:
                family.refused = f"the lines of {excerpt(name)} are not together"
            else:
                both = f"{excerpt(owner.name)} and {excerpt(family.name)}"
                family.refused = f"{both} could both have a sample {excerpt(name)}"
            raise MalformedError(family.refused)
