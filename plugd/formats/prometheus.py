"""Prometheus text, in both of its forms: 0.0.4 here, OpenMetrics 1.0 in its own module.

0.0.4 is https://prometheus.io/docs/instrumenting/exposition_formats/. Each line there stands for itself, but for the
TYPE and HELP before it.
"""

import math
import re

from plugd.formats.exposition import LAX, SampleLine, parse_number, parse_sample
from plugd.formats.openmetrics import EOF, parse_openmetrics
from plugd.formats.reading import Faults, Kind, Labels, MalformedError, Parsed, Reading, excerpt, fit_labels, fit_name
from plugd.formats.ucum import ucum_in_name

__all__ = ["parse", "parse_openmetrics", "parse_prometheus"]

TYPES = ("counter", "gauge", "histogram", "summary", "untyped")

_METADATA = re.compile(r"#[ \t]*(TYPE|HELP)[ \t]+([^ \t]+)[ \t]*(.*)", re.DOTALL)
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_HELP_ESCAPES = re.compile(r"\\([\\n])")


def parse(text: bytes) -> Parsed:
    """Return what a document holds: OpenMetrics if its last line says ``# EOF``, else 0.0.4."""
    last = text.rstrip(b"\n").rpartition(b"\n")[2]
    return parse_openmetrics(text) if last == EOF else parse_prometheus(text)


def parse_prometheus(text: bytes) -> Parsed:
    """Return what a document of 0.0.4 holds; any bytes will do, and take time and memory by their number."""
    document = _Document()
    for number, line in enumerate(text.split(b"\n"), 1):
        document.read(number, line)
    return Parsed(document.readings, document.faults.listed(), [], document.skipped, document.faults.unlisted)


class _Document:
    """A document while it is read line by line."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.faults = Faults()
        self.skipped = 0
        self._types: dict[str, str] = {}
        self._helps: dict[str, str] = {}
        self._sampled: set[str] = set()  # Metrics that have samples.
        self._series: set[tuple[str, Labels]] = set()

    def read(self, number: int, line: bytes) -> None:
        """Take the next line, or its fault."""
        try:
            text = line.decode().strip(" \t")
        except UnicodeDecodeError:
            self.faults.add(number, f"not UTF-8: {excerpt(line)}")
            return
        try:
            if text.startswith("#"):
                self._take_comment(text)
            elif text:
                self._take_sample(parse_sample(text, LAX))
        except MalformedError as error:
            self.faults.add(number, str(error))

    def _take_comment(self, text: str) -> None:
        metadata = _METADATA.fullmatch(text)
        if metadata is None:
            return  # Any other comment means nothing.
        keyword, name, rest = metadata.groups()
        if not _METRIC_NAME.fullmatch(name):
            raise MalformedError(f"{keyword} of {excerpt(name)}, which is no metric's name")
        if name in (self._types if keyword == "TYPE" else self._helps):
            raise MalformedError(f"a second {keyword} of {excerpt(name)}")
        if keyword == "HELP":
            self._helps[name] = _HELP_ESCAPES.sub(lambda match: "\n" if match[1] == "n" else "\\", rest)
        elif rest not in TYPES:
            raise MalformedError(f"no type: {excerpt(rest)}")
        elif name in self._sampled:
            raise MalformedError(f"TYPE of {excerpt(name)} after its samples")
        else:
            self._types[name] = rest

    def _take_sample(self, line: SampleLine) -> None:
        metric, kind, unit = self._place(line)
        labels = line.sorted_labels()
        if (line.name, labels) in self._series:
            raise MalformedError(f"a sample of {excerpt(line.name)} is there twice")
        self._series.add((line.name, labels))
        self._sampled.add(metric)
        if not math.isfinite(line.value):
            self.skipped += 1
            return
        time = float(line.time) / 1000 if line.time else None
        name, labels, text = fit_name(line.name), fit_labels(labels), self._helps.get(metric, "")
        self.readings.append(Reading(name, kind, unit, labels, line.value, text, time))

    def _place(self, line: SampleLine) -> tuple[str, Kind, str]:
        """Return the metric a sample is of, its kind and its unit."""
        name = line.name
        metric, _, suffix = name.rpartition("_")
        family = self._types.get(metric)
        if name not in self._types and suffix in ("bucket", "sum", "count") and family in ("histogram", "summary"):
            if suffix == "sum":
                return metric, "counter", ucum_in_name(metric)
            if suffix == "count":
                return metric, "counter", "1"
            if family == "histogram":
                if math.isnan(parse_number(_label(line, "le"))):
                    raise MalformedError("a bucket's threshold (le) is NaN")
                return metric, "counter", "1"
        kind = self._types.get(name)
        if kind == "histogram":
            raise MalformedError(f"{excerpt(name)} is a histogram, and its samples end in _bucket, _sum and _count")
        if kind == "summary":
            parse_number(_label(line, "quantile"))
        return name, "counter" if kind == "counter" else "gauge", ucum_in_name(name.removesuffix("_total"))


def _label(line: SampleLine, name: str) -> str:
    value = line.labels.get(name)
    if value is None:
        raise MalformedError(f"label {excerpt(name)} is missing")
    return value
