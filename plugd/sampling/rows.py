"""A plugin's latest samples as ``stats`` and ``sample`` have them, encoded once for all who want some of them."""

from typing import Any

import msgpack

from plugd.hosting.collection import MetricDeclaration
from plugd.sampling.patterns import Patterns
from plugd.sampling.slices import Work
from plugd.sampling.store import Latest

RUN = 128  # rows that are encoded together: about a tenth of a millisecond
LOOKED_AT = 512  # series between two places to interrupt; one that is encoded counts as several


class Rows:
    """The rows of one collection: ``{plugin, name, kind, unit, labels, value, time}``, of counters ``rate``, too.

    Neighbours are encoded together: where all rows are wanted, so many at a time; otherwise those that have their
    metric in common, as plugins yield them. What one has selected another gets without its being encoded again.
    """

    def __init__(self, plugin: str, latest: Latest) -> None:
        self._plugin = plugin
        self._latest = latest
        self._runs: list[tuple[MetricDeclaration, int, int]] | None = None
        self._encoded: dict[tuple[int, int], bytes] = {}  # by where they start and stop

    def select(self, patterns: Patterns | None) -> Work[tuple[int, list[bytes]]]:
        """Return how many rows are of a plugin or a metric that the patterns fit, and their bytes; None: all."""
        if patterns is None or (yield from patterns.learn(self._plugin)):
            return (yield from self._all())
        if self._runs is None:
            self._runs = yield from self._divide()
        length, looked_at, chunks = 0, 0, []
        for metric, start, stop in self._runs:
            fits = patterns.known(metric.name)
            if fits is None:
                fits = yield from patterns.learn(metric.name)
            looked_at += 1
            if fits:
                chunks.append(self._chunk(start, stop))
                length += stop - start
                looked_at += (stop - start) * (LOOKED_AT // RUN)
            if looked_at >= LOOKED_AT:
                looked_at = 0
                yield
        return length, chunks

    def _all(self) -> Work[tuple[int, list[bytes]]]:
        length, chunks = len(self._latest.series), []
        for start in range(0, length, RUN):
            if start:
                yield
            chunks.append(self._chunk(start, min(start + RUN, length)))
        return length, chunks

    def _divide(self) -> Work[list[tuple[MetricDeclaration, int, int]]]:
        series, runs = self._latest.series, []
        start = 0
        metric = series[0].key.metric if series else None
        for number, each in enumerate(series):
            other = each.key.metric
            if other is not metric or number - start == RUN:
                assert metric is not None
                runs.append((metric, start, number))
                metric, start = other, number
            if not number % LOOKED_AT:
                yield
        if metric is not None:
            runs.append((metric, start, len(series)))
        return runs

    def _chunk(self, start: int, stop: int) -> bytes:
        chunk = self._encoded.get((start, stop))
        if chunk is None:
            chunk = self._encoded[start, stop] = self._encode(start, stop)
        return chunk

    def _encode(self, start: int, stop: int) -> bytes:
        series, values, rates, wall = self._latest
        row: dict[str, Any] = {
            "plugin": self._plugin,
            "name": "",
            "kind": "",
            "unit": "",
            "labels": None,
            "value": 0.0,
            "time": wall,
        }
        pack, known, counter = _packer.pack, None, False
        for number in range(start, stop):
            each = series[number]
            metric = each.key.metric
            if metric is not known:
                known = metric
                row["name"], row["kind"], row["unit"] = metric.name, metric.kind, metric.unit
                counter = metric.kind == "counter"
                if not counter:
                    row.pop("rate", None)
            row["labels"] = each.labels
            row["value"] = values[number]
            if counter:
                row["rate"] = rates[number]
            pack(row)
        encoded: bytes = _packer.bytes()
        _packer.reset()
        return encoded


_packer = msgpack.Packer(autoreset=False)  # empty between two runs; making one takes as long as ten rows
