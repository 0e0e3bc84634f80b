"""The series of a native plugin: numbers from the start, checked as bytes and sets, and never one by one.

A plugin gets an id for each series once, and fills an array with ids and one with values. While the ids are those of
the collection before, they are compared as bytes, and that is all; the values are looked at by their exponents.
"""

import itertools
import math
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from plugd.worker.abi import DROPPED, NO_SERIES
from plugd.worker.series import DEFAULT_BUDGET, DEFAULT_SAMPLES, FORGET_AFTER, Collected

# Of each float64, the byte with its sign and seven bits of its exponent: all ones in what is not finite, and huge.
_TOP = slice(7, None, 8) if sys.byteorder == "little" else slice(0, None, 8)


class SeriesError(ValueError):
    """A plugin asked for a series that cannot be, or emitted what it may not."""


class MetricRow(NamedTuple):
    """A metric as its plugin declares it."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    help: str


class _Resolved(NamedTuple):
    """What the ids of a collection come to."""

    ids: "array[int]"  # those that are kept
    new: list[int]  # of those: not known to the daemon so far
    selectors: bytes | None  # which of the samples are kept; None: all
    dropped: dict[str, int]


class NativeSeries:
    """The series that a plugin has asked for, and those of them that it emits.

    Args:
        metrics: the declared metrics, in the order in which the daemon and the plugin know them.
        budget: how many series of one metric the daemon gets; the samples of further ones are dropped and counted.
        most: how many samples one collection may have.
    """

    def __init__(self, metrics: Sequence[MetricRow], budget: int = DEFAULT_BUDGET, most: int = DEFAULT_SAMPLES) -> None:
        self._metrics = metrics
        self._budget = budget
        self._most = most
        self._ids: list[dict[tuple[bytes, ...], int]] = [{} for _ in metrics]
        self._series: dict[int, tuple[int, tuple[bytes, ...]]] = {}  # id: metric and labels
        self._live: set[int] = set()  # ids that the daemon knows
        self._counts = [0] * len(metrics)  # of those
        self._used: dict[int, int] = {}  # id: collection it was last in; not those of the last one
        self._next_id = 0
        self._collections = 0
        self._raw: bytes | None = None  # the ids of the last collection, as the plugin gave them
        self._last = _Resolved(array("I"), [], None, {})  # what they came to

    def series(self, metric: int, labels: tuple[bytes | None, ...]) -> int:
        """Return the id of a series, the same for the same labels.

        Raises:
            SeriesError: there is no such metric, or it has other labels.
        """
        if metric >= len(self._metrics):
            raise SeriesError(f"metric number {metric} of {len(self._metrics)}: there is none")
        table = self._ids[metric]
        found = table.get(labels)  # type: ignore[arg-type]  # one with None in it is not there
        if found is not None:
            return found
        declared = self._metrics[metric]
        if len(labels) != len(declared.labels):
            raise SeriesError(f"metric {declared.name!r}: {len(labels)} label values for {len(declared.labels)} labels")
        known = tuple([value for value in labels if value is not None])
        if len(known) != len(labels):
            raise SeriesError(f"metric {declared.name!r}: label {declared.labels[labels.index(None)]!r} is NULL")
        is_full = len(table) >= 2 * self._budget and not self._forget_idle(metric)
        if is_full or self._next_id == DROPPED:
            return DROPPED | metric
        identifier = self._next_id
        self._next_id += 1
        table[known] = identifier
        self._series[identifier] = (metric, known)
        self._used[identifier] = self._collections
        return identifier

    def take(self, ids: bytes, values: bytes, overflow: int = 0, overflow_series: int = NO_SERIES) -> Collected:
        """Check the samples of one collection and return them as the daemon takes them.

        Args:
            ids: uint32s.
            values: as many float64s.
            overflow: samples for which there was no room.
            overflow_series: the series of the first of them.

        Raises:
            SeriesError: a value is not a finite number, an id was never given out or is forgotten, or it comes twice.
        """
        if not _all_finite(values):
            raise self._not_finite(ids, values)
        collected = Collected()
        resolved = self._last if ids == self._raw else self._resolve(array("I", ids))
        if resolved is not self._last:
            self._adopt(resolved, collected)
            self._raw = ids
        collected.values = values if resolved.selectors is None else _selected(values, resolved.selectors)
        collected.dropped = dict(resolved.dropped)
        if overflow:
            collected.cut = True
            metric = self._metric_of(overflow_series)
            if metric is not None:
                name = self._metrics[metric].name
                collected.dropped[name] = collected.dropped.get(name, 0) + overflow
        collected.exploding = self._exploding(collected.dropped)
        self._forget_unused(collected)
        return collected

    def _resolve(self, ids: "array[int]") -> _Resolved:
        """See what the daemon gets of these ids; nothing is changed yet."""
        distinct = set(ids)
        new: list[int] = []
        over: set[int] = set()
        counts = list(self._counts)
        room = 2 * self._most - len(self._live)  # of all metrics together, for a daemon that counts as well
        for identifier in sorted(distinct - self._live):
            metric = self._metric_of(identifier)
            if metric is None:
                raise SeriesError(self._unknown(identifier))
            if identifier >= DROPPED or counts[metric] >= self._budget or len(new) >= room:
                over.add(identifier)
            else:
                counts[metric] += 1
                new.append(identifier)
        if not over:
            if len(distinct) != len(ids):
                raise self._repeated(ids)
            return _Resolved(ids, new, None, {})
        selectors = bytes([identifier not in over for identifier in ids])
        kept = array("I", itertools.compress(ids, selectors))
        if len(set(kept)) != len(kept):
            raise self._repeated(kept)
        return _Resolved(kept, new, selectors, self._by_metric(identifier for identifier in ids if identifier in over))

    def _adopt(self, resolved: _Resolved, collected: Collected) -> None:
        """Make these ids those of the last collection."""
        for identifier in resolved.new:
            metric, labels = self._series[identifier]
            self._live.add(identifier)
            self._counts[metric] += 1
            collected.define.append([identifier, metric, [_text(value) for value in labels]])
        if self._raw is None or resolved.ids != self._last.ids:
            self._used.update(dict.fromkeys(self._last.ids, self._collections))
            collected.ids = resolved.ids.tobytes()
        self._last = resolved

    def _forget_unused(self, collected: Collected) -> None:
        """Once in a while, have the daemon let go of what has not been emitted for long; the plugin keeps its id."""
        self._collections += 1
        if self._collections % FORGET_AFTER:
            return
        self._used.update(dict.fromkeys(self._last.ids, self._collections))
        deadline = self._collections - FORGET_AFTER
        old = [identifier for identifier in self._live if self._used[identifier] <= deadline]
        for identifier in old:
            self._live.discard(identifier)
            self._counts[self._series[identifier][0]] -= 1
        if old:
            collected.forget = sorted(old)
            self._raw = None  # There may be room now for what was dropped.

    def _forget_idle(self, metric: int) -> bool:
        """Take ids back that the plugin has not emitted for long; whether there were any."""
        table, deadline = self._ids[metric], self._collections - FORGET_AFTER
        last = set(self._last.ids)
        idle = [
            (labels, identifier)
            for labels, identifier in table.items()
            if identifier not in self._live and identifier not in last and self._used[identifier] <= deadline
        ]
        for labels, identifier in idle:
            del table[labels], self._series[identifier], self._used[identifier]
        return bool(idle)

    def _metric_of(self, identifier: int) -> int | None:
        if identifier in self._series:
            return self._series[identifier][0]
        metric = identifier ^ DROPPED
        return metric if metric < len(self._metrics) else None

    def _by_metric(self, ids: Any) -> dict[str, int]:
        counts: dict[str, int] = {}
        for identifier, count in Counter(ids).items():
            metric = self._metric_of(identifier)
            assert metric is not None
            counts[self._metrics[metric].name] = counts.get(self._metrics[metric].name, 0) + count
        return counts

    def _exploding(self, dropped: dict[str, int]) -> dict[str, str]:
        """Name, for each of these metrics that has labels, the label with the most values."""
        found = {}
        for metric, row in enumerate(self._metrics):
            if row.name in dropped and row.labels and self._ids[metric]:
                columns = zip(*self._ids[metric], strict=True)
                counts = {label: len(set(column)) for label, column in zip(row.labels, columns, strict=True)}
                found[row.name] = max(counts, key=counts.__getitem__)
        return found

    # What to say

    def _not_finite(self, ids: bytes, values: bytes) -> SeriesError:
        position, value = next(
            (position, value) for position, value in enumerate(array("d", values)) if not math.isfinite(value)
        )
        return SeriesError(f"{self._named(array('I', ids)[position])}: value {value} is not a finite number")

    def _repeated(self, ids: "array[int]") -> SeriesError:
        identifier = next(identifier for identifier, count in Counter(ids).items() if count > 1)
        return SeriesError(f"{self._named(identifier)} came twice in one collection")

    def _unknown(self, identifier: int) -> str:
        if identifier < self._next_id:
            return (
                f"series {identifier} is forgotten: it was not emitted for {FORGET_AFTER} collections, and its metric "
                "has many; ask plugd_series() again"
            )
        return f"series {identifier} is none that plugd_series() has returned"

    def _named(self, identifier: int) -> str:
        if identifier not in self._series:
            return f"series {identifier}"
        metric, labels = self._series[identifier]
        row = self._metrics[metric]
        pairs = ", ".join(f"{name}={_text(value)}" for name, value in zip(row.labels, labels, strict=True))
        return f"metric {row.name!r}: the series {{{pairs}}}"


def _all_finite(values: bytes) -> bool:
    """Whether all float64s are finite: by their top bytes, and one by one only where there are very large ones."""
    top = values[_TOP]
    return (0x7F not in top and 0xFF not in top) or all(map(math.isfinite, array("d", values)))


def _selected(values: bytes, selectors: bytes) -> bytes:
    return array("d", itertools.compress(array("d", values), selectors)).tobytes()


def _text(value: bytes) -> str:
    # A file's name may be any bytes; what is told over the wire is UTF-8.
    return value.decode("utf-8", "backslashreplace")
