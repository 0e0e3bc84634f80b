"""Samples to ids and values: each series is described to the daemon once, and is a number from then on."""

import itertools
import math
import operator
import time
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from plugd.metric import Metric, MetricError, Sample

FORGET_AFTER = 100  # collections without the series
DEFAULT_BUDGET = 10_000  # series of one metric
DEFAULT_SAMPLES = 20_000  # of one collection


class Collected:
    """One collection: new series, forgotten ones, and the values.

    ``ids`` is None when they are those of the collection before, as they nearly always are. ``dropped`` counts by
    metric the samples that were not taken; ``exploding`` names, for each of these metrics that has labels, the
    label with the most values. ``cut`` says that the plugin had more samples than one collection may have.
    """

    __slots__ = ("cut", "define", "dropped", "exploding", "forget", "ids", "values")

    def __init__(self) -> None:
        self.define: list[list[Any]] = []
        self.forget: list[int] = []
        self.ids: bytes | None = None
        self.values = b""
        self.dropped: dict[str, int] = {}
        self.exploding: dict[str, str] = {}
        self.cut = False

    def answer(self, wall: float, started: float) -> dict[str, Any]:
        """Return what a host answers to ``collect``, at its end; ``define`` has been sent ahead.

        Args:
            wall: when it was begun, in Unix seconds.
            started: the same in seconds of CLOCK_MONOTONIC.

        Returns: ``time`` and ``monotonic``, these two; ``duration`` (seconds); ``ids`` (uint32s) and ``values``
        (float64s), in native order; ``forget``, ``dropped``, ``exploding`` and ``cut``.
        """
        return {
            "time": wall,
            "monotonic": started,
            "duration": time.monotonic() - started,
            "ids": self.ids,
            "values": self.values,
            "forget": self.forget,
            "dropped": self.dropped,
            "exploding": self.exploding,
            "cut": self.cut,
        }


class SeriesTable:
    """The series that a plugin has emitted, and the checks on every sample.

    Args:
        metrics: the declared metrics, in the order in which the daemon knows them.
        budget: how many series one metric may have; the samples of further ones are dropped and counted.
        most: how many samples one collection may have; a plugin that goes on is not listened to any longer.
    """

    def __init__(self, metrics: Iterable[Metric], budget: int = DEFAULT_BUDGET, most: int = DEFAULT_SAMPLES) -> None:
        self._budget = budget
        self._most = most
        self._index = {metric: number for number, metric in enumerate(metrics)}
        self._ids: dict[Metric, dict[tuple[Any, ...], int]] = {metric: {} for metric in self._index}
        self._series = dict.fromkeys(self._index, 0)  # how many of each metric there are
        self._used: dict[int, int] = {}  # series id: collection it was last in; not those of the last one
        self._next_id = 0
        self._collections = 0
        self._last_ids: array[int] = array("I")

    def declare(self, metric: Metric) -> None:
        """Take a further metric, which the daemon knows before its first series."""
        self._index[metric] = len(self._index)
        self._ids[metric] = {}
        self._series[metric] = 0

    def take(self, samples: Iterable[Sample]) -> Collected:
        """Check the samples of one collection and return them as numbers.

        Raises:
            MetricError: a sample is no Sample, its metric is not declared, its value not a finite number, a
                label not text or an integer, or its series is in this collection already.
        """
        collected = Collected()
        try:
            ids = self._take(samples, collected)
        except BaseException:
            self._undefine(collected)
            raise
        if collected.ids is not None:
            # Those of before were in every collection until now.
            self._used.update(dict.fromkeys(self._last_ids, self._collections))
            self._last_ids = ids
        self._forget_unused(collected)
        return collected

    def _take(self, samples: Iterable[Sample], collected: Collected) -> "array[int]":
        ids = array("I")
        values = array("d")
        tables = self._ids
        isfinite = math.isfinite
        iterator = iter(samples)
        for sample in itertools.islice(iterator, self._most):
            try:
                metric, value, labels = sample
                identifier = tables[metric].get(labels)
            except (TypeError, ValueError, KeyError):
                raise self._refusal(sample) from None
            if identifier is None:
                identifier = self._define(metric, labels, collected)
                if identifier is None:
                    continue
            if type(value) is not float:
                value = _number(metric, value)
            if not isfinite(value):
                raise MetricError(f"metric {metric.name!r}: value {value} is not a finite number")
            ids.append(identifier)
            values.append(value)
        self._cut(iterator, collected)
        if ids != self._last_ids:
            self._check_unique(ids)
            collected.ids = ids.tobytes()
        collected.values = values.tobytes()
        return ids

    def _cut(self, rest: Iterator[Sample], collected: Collected) -> None:
        """See whether there are more samples, and count those that are there; what would yield them ends here."""
        sample = next(rest, None)
        if sample is None:
            return
        collected.cut = True
        metric = sample.metric if isinstance(sample, Sample) else None
        if metric not in self._ids:
            raise self._refusal(sample)
        collected.dropped[metric.name] = collected.dropped.get(metric.name, 0) + 1 + operator.length_hint(rest)
        self._name_exploding(metric, collected)

    def _name_exploding(self, metric: Metric, collected: Collected) -> None:
        """Name the label that has the most values among the series that there are."""
        if metric.labels and metric.name not in collected.exploding:
            values = zip(*self._ids[metric], strict=True)
            counts = {label: len(set(column)) for label, column in zip(metric.labels, values, strict=False)}
            if counts:
                collected.exploding[metric.name] = max(counts, key=counts.__getitem__)

    def _define(self, metric: Metric, labels: tuple[Any, ...], collected: Collected) -> int | None:
        table = self._ids[metric]
        if not isinstance(labels, tuple):
            raise MetricError(f"metric {metric.name!r}: malformed sample")
        if len(labels) != len(metric.labels):
            raise MetricError(f"metric {metric.name!r}: {len(labels)} label values for {len(metric.labels)} labels")
        text = tuple([_label(metric, name, value) for name, value in zip(metric.labels, labels, strict=True)])
        identifier = table.get(text)
        if identifier is None:
            if self._series[metric] >= self._budget:
                collected.dropped[metric.name] = collected.dropped.get(metric.name, 0) + 1
                self._name_exploding(metric, collected)
                return None
            identifier = self._next_id
            self._next_id += 1
            self._series[metric] += 1
            table[text] = identifier
            collected.define.append([identifier, self._index[metric], text])
        table[labels] = identifier  # What the plugin writes as cpu=0 and as cpu="0" is one series.
        return identifier

    def _forget_unused(self, collected: Collected) -> None:
        """Once in a while, let go of the series that have not been emitted for long."""
        self._collections += 1
        if self._collections % FORGET_AFTER:
            return
        self._used.update(dict.fromkeys(self._last_ids, self._collections))
        old = {number for number, used in self._used.items() if used <= self._collections - FORGET_AFTER}
        if old:
            self._delete(old)
            collected.forget = sorted(old)

    def _undefine(self, collected: Collected) -> None:
        """Take the new series of a failed collection back: the daemon is not told of them."""
        if collected.define:
            self._delete({identifier for identifier, _, _ in collected.define})

    def _delete(self, numbers: set[int]) -> None:
        for metric, table in self._ids.items():
            for labels in [labels for labels, number in table.items() if number in numbers]:
                del table[labels]
            self._series[metric] = len(set(table.values()))
        for number in numbers:
            self._used.pop(number, None)

    def _check_unique(self, ids: "array[int]") -> None:
        seen: set[int] = set()
        for identifier in ids:
            if identifier in seen:
                metric, labels = next(
                    (metric, labels)
                    for metric, table in self._ids.items()
                    for labels, number in table.items()
                    if number == identifier
                )
                pairs = ", ".join(f"{name}={value}" for name, value in zip(metric.labels, labels, strict=True))
                raise MetricError(f"metric {metric.name!r}: the series {{{pairs}}} came twice in one collection")
            seen.add(identifier)

    def _refusal(self, sample: object) -> MetricError:
        if not isinstance(sample, Sample):
            return MetricError(f"collect() gave a {type(sample).__name__} where a Sample belongs")
        if not isinstance(sample.metric, Metric):
            return MetricError(f"undeclared metric {sample.metric!r}")
        if sample.metric not in self._ids:
            return MetricError(f"undeclared metric {sample.metric.name!r}: declare it as an attribute of the class")
        for name, value in zip(sample.metric.labels, sample.labels, strict=False):
            _label(sample.metric, name, value)
        return MetricError(f"metric {sample.metric.name!r}: malformed sample")


def _number(metric: Metric, value: object) -> float:
    """Take what is a number, numpy's and decimal's included; text and bytes are none."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise MetricError(f"metric {metric.name!r}: value {_brief(value)} is not a number")
    try:
        return float(value)
    except (OverflowError, ValueError, TypeError) as error:
        raise MetricError(f"metric {metric.name!r}: value {_brief(value)} is not a finite number") from error


def _label(metric: Metric, name: str, value: object) -> str:
    if isinstance(value, str):
        # A file's name whose bytes are no text has stand-ins for them that UTF-8 cannot carry.
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if isinstance(value, int):
        return str(value)
    raise MetricError(f"metric {metric.name!r}: label {name!r} is {_brief(value)}, neither text nor an integer")


def _brief(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the object may be the plugin's own; an integer may have too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
