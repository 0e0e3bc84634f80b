"""Metrics that nobody has declared: found in what a program prints, and declared to the daemon as they come."""

from collections.abc import Sequence
from typing import NamedTuple

from plugd.formats.reading import Fault, Parsed, Reading
from plugd.metric import Counter, Gauge, Metric, Sample
from plugd.worker.notifications import HELP_CHARACTERS, Notify, declare, define
from plugd.worker.series import Collected, SeriesTable

MOST_METRICS = 2000
MOST_LABELS = 64  # of one metric
LABEL_CHARACTERS = 1024  # of one value; the daemon cuts there as well
NOTICE_CHARACTERS = 1000

_KINDS: dict[str, type[Metric]] = {"gauge": Gauge, "counter": Counter}

Shape = tuple[str, str, str, tuple[str, ...]]  # name, kind, unit, names of the labels


class Told(NamedTuple):
    """What else there is to tell of one output: malformed lines, the first of them, and a line for people."""

    faults: int
    first_fault: str
    notice: str | None


class DiscoveredMetrics:
    """The metrics of a program so far.

    A metric is a name with a kind, a unit and label names; where a later output has the same name with others, that is
    a further metric, and the series of the one before get no more values.

    Args:
        notify: sends a notification to the daemon.
        budget: how many series one metric may have.
        most: how many samples one collection may have.
    """

    def __init__(self, notify: Notify, budget: int, most: int) -> None:
        self._notify = notify
        self._metrics: dict[Shape, Metric] = {}
        self._table = SeriesTable((), budget, most)

    def take(self, parsed: Parsed) -> tuple[Collected, Told]:
        """Return the samples of one output as numbers; the daemon has been told of what is new in it."""
        faults = _Refusals()
        declared: list[Metric] = []
        samples = self._samples(parsed.readings, faults, declared)
        declare(self._notify, declared)
        collected = self._table.take(samples)
        define(self._notify, collected.define)
        return collected, _told(parsed, faults)

    def _samples(self, readings: Sequence[Reading], faults: "_Refusals", declared: list[Metric]) -> list[Sample]:
        """Return one sample of each series: the latest."""
        shapes: dict[str, tuple[str, str]] = {}  # kind and unit, in this output
        latest: dict[tuple[Metric, tuple[str, ...]], tuple[float, Sample]] = {}
        for reading in readings:
            name, kind, unit, labels, value, _, time = reading
            shape = shapes.setdefault(name, (kind, unit))
            if shape != (kind, unit):
                faults.add(f"metric {name!r} is a {kind} in {unit!r}, and was a {shape[0]} in {shape[1]!r} before")
                continue
            metric = self._metric(reading, faults, declared)
            if metric is None:
                continue
            values = tuple([text[:LABEL_CHARACTERS] for _, text in labels])
            key = (metric, values)
            known = latest.get(key)
            when = float("inf") if time is None else time
            if known is None or when >= known[0]:
                latest[key] = (when, Sample(metric, value, values))
        return [sample for _, sample in latest.values()]

    def _metric(self, reading: Reading, faults: "_Refusals", declared: list[Metric]) -> Metric | None:
        shape = (reading.name, reading.kind, reading.unit, tuple([name for name, _ in reading.labels]))
        metric = self._metrics.get(shape)
        if metric is not None:
            return metric
        name, kind, unit, labels = shape
        if len(labels) > MOST_LABELS:
            faults.add(f"metric {name!r} has {len(labels)} labels; at most {MOST_LABELS} are possible")
            return None
        if len(self._metrics) >= MOST_METRICS:
            faults.add(f"metric {name!r} is one too many: at most {MOST_METRICS} are possible")
            return None
        explanation = clean(reading.help)[:HELP_CHARACTERS]
        metric = self._metrics[shape] = _KINDS[kind](name, unit=unit, labels=labels, help=explanation)
        self._table.declare(metric)
        declared.append(metric)
        return metric


class _Refusals:
    """Readings that were not taken: how many, and why the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def add(self, message: str) -> None:
        self.count += 1
        self.first = self.first or message


def _told(parsed: Parsed, refused: _Refusals) -> Told:
    faults: list[Fault] = parsed.faults
    first = f"line {faults[0].line}: {faults[0].message}" if faults else refused.first
    notice = clean(parsed.notices[-1])[:NOTICE_CHARACTERS] if parsed.notices else None
    return Told(parsed.fault_count + refused.count, clean(first), notice)


def clean(text: str) -> str:
    """Return a text as one line that is safe to show."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text])
