"""OpenMetrics metric families: their types, the samples each type has, and in which order those may come."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from plugd.formats.exposition import SampleLine, parse_number
from plugd.formats.reading import Kind, Labels, MalformedError, excerpt
from plugd.formats.ucum import ucum, ucum_in_name

# What the value of a sample may be. NaN compares false with everything.
_RULES: dict[str, tuple[Callable[[float], bool], str]] = {
    "any": (lambda _: True, ""),
    "number": (lambda value: not math.isnan(value), "must not be NaN"),
    "counter": (lambda value: value >= 0, "must not be NaN or below zero"),
    "count": (lambda value: value >= 0 and value.is_integer(), "must be a whole number, not below zero"),
    "quantile": (lambda value: not value < 0, "must not be below zero"),
    "time": (math.isfinite, "must be a time"),
    "one": (lambda value: value == 1, "must be 1"),
    "boolean": (lambda value: value in (0, 1), "must be 0 or 1"),
}


class Role(NamedTuple):
    """What a sample is to its family."""

    suffix: str
    kind: Kind = "gauge"
    rule: str = "any"
    unit: str = ""  # "": the family's.
    label: str = ""  # One it must have: part of the sample, not of the metric.
    not_label: str = ""  # One it must not have, since other samples of the family have it so.
    exemplar: bool = False

    def check(self, line: SampleLine) -> float:
        """Return a bucket's threshold; 0 for any other sample.

        Raises:
            MalformedError: a sample of this role has no such value, labels or exemplar.
        """
        threshold = self._check_labels(line.labels)
        allows, demand = _RULES[self.rule]
        if not allows(line.value):
            raise MalformedError(f"the value of {excerpt(line.name)} {demand}")
        if line.exemplar:
            if not self.exemplar:
                raise MalformedError("an exemplar on what is neither a bucket nor a counter's total")
            if self.label == "le" and line.exemplar.value > threshold:
                raise MalformedError("the exemplar's value is not in its bucket")
        return threshold

    def _check_labels(self, labels: dict[str, str]) -> float:
        if self.not_label and self.not_label in labels:
            raise MalformedError(f"label {excerpt(self.not_label)} on a sample that has none")
        if not self.label:
            return 0.0
        spelled = labels.get(self.label)
        if spelled is None:
            raise MalformedError(f"label {excerpt(self.label)} is missing")
        if self.label == "le" and self.suffix == "_bucket":
            threshold = parse_number(spelled)
            if math.isnan(threshold) or (threshold == math.inf and spelled != "+Inf"):
                raise MalformedError(f"not a threshold (le): {excerpt(spelled)}")
            return threshold
        if self.label == "quantile" and self.rule == "quantile" and not 0 <= parse_number(spelled) <= 1:
            raise MalformedError(f"not a quantile from 0 to 1: {excerpt(spelled)}")
        return 0.0


_CREATED = Role("_created", rule="time", unit="s")
UNKNOWN = "unknown"
ROLES: dict[str, tuple[Role, ...]] = {
    UNKNOWN: (Role(""),),
    "gauge": (Role(""),),
    "counter": (Role("_total", "counter", "counter", exemplar=True), _CREATED),
    "summary": (
        Role("", rule="quantile", label="quantile"),
        Role("_count", "counter", "count", "1", not_label="quantile"),
        Role("_sum", "counter", "counter", not_label="quantile"),
        _CREATED._replace(not_label="quantile"),
    ),
    "histogram": (
        Role("_bucket", "counter", "count", "1", label="le", exemplar=True),
        Role("_count", "counter", "count", "1", not_label="le"),
        Role("_sum", "counter", "counter", not_label="le"),
        _CREATED._replace(not_label="le"),
    ),
    "gaugehistogram": (
        Role("_bucket", rule="count", unit="1", label="le", exemplar=True),
        Role("_gcount", rule="count", unit="1", not_label="le"),
        Role("_gsum", rule="number", not_label="le"),
    ),
    "info": (Role("_info", rule="one", unit="1"),),
    "stateset": (Role("", rule="boolean", unit="1"),),  # Its label has the name of the family.
}
_UNITLESS = ("info", "stateset")


class Family:
    """One metric family while its lines are read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = UNKNOWN
        self.help = ""
        self.unit = ucum_in_name(name)  # UCUM
        self.roles = {name: ROLES[UNKNOWN][0]}  # By the name of the sample.
        self.sampled = False
        self.refused = ""  # Why none of its lines count.
        self._metadata: dict[str, str] = {}
        self._groups: set[Labels] = set()
        self._group: Labels | None = None  # The labels of the present metric.
        self._time: float | None = None
        self._series: dict[tuple[str, Labels], str] = {}  # The time of the last sample, as spelled.

    @property
    def is_histogram(self) -> bool:
        """Whether its samples make histograms."""
        return self.type.endswith("histogram")

    def describe(self, keyword: str, text: str) -> None:
        """Take a line of metadata: TYPE, HELP or UNIT.

        Raises:
            MalformedError: it says nothing valid, or something for the second time.
        """
        if self.sampled:
            raise MalformedError(f"{keyword} of {excerpt(self.name)} after its samples")
        if keyword in self._metadata:
            raise MalformedError(f"a second {keyword} of {excerpt(self.name)}")
        self._metadata[keyword] = text
        if keyword == "TYPE":
            self._set_type(text)
        elif keyword == "HELP":
            self.help = text
        elif text and not (text.isascii() and self.name.endswith(f"_{text}")):
            raise MalformedError(f"the name {excerpt(self.name)} does not end in its unit, {excerpt(text)}")
        elif text:
            self.unit = ucum(text)
        if self.type in _UNITLESS and self._metadata.get("UNIT"):
            raise MalformedError(f"a unit for the {self.type} {excerpt(self.name)}")

    def place(self, line: SampleLine, role: Role, labels: Labels) -> bool:
        """Take the next sample; return whether it begins another point of a metric.

        Raises:
            MalformedError: it does not belong where it stands.
        """
        # Which labels of an info are the metric's and which the point's cannot be told: all are one metric.
        group = () if self.type == "info" else _without(labels, role.label)
        time = float(line.time) if line.time else None
        begins = True
        if group == self._group:
            if self.type != "info":
                self._check_time(time)
            begins = time != self._time
        elif group in self._groups:
            raise MalformedError(f"the samples of one metric of {excerpt(self.name)} are not together")
        self._groups.add(group)
        self._group, self._time = group, time
        last = self._series.get((line.name, labels))
        # Times that differ by less than a 64-bit number can tell count as increasing.
        if last is not None and (last == line.time or (time is not None and last and time < float(last))):
            raise MalformedError(f"a sample of {excerpt(line.name)} is there twice")
        self._series[line.name, labels] = line.time
        return begins

    def _set_type(self, text: str) -> None:
        if text not in ROLES:
            raise MalformedError(f"no type: {excerpt(text)}")
        self.type = text
        roles: Iterable[Role] = ROLES[text]
        if text == "stateset":
            roles = [role._replace(label=self.name) for role in roles]
        self.roles = {self.name + role.suffix: role for role in roles}

    def _check_time(self, time: float | None) -> None:
        if (time is None) != (self._time is None):
            raise MalformedError("some samples of one metric have a time and some have none")
        if time is not None and self._time is not None and time < self._time:
            raise MalformedError("the time goes back within a metric")


def _without(labels: Labels, name: str) -> Labels:
    return tuple([label for label in labels if label[0] != name]) if name else labels
