"""Yields a counter that goes up, down and below zero."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class NegativeCounter(Plugin):
    interval = 0.1  # seconds

    value = Counter("fault.total")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value((5.0, 10.0, -5.0, 1e300, -1e300, 0.0)[self.count % 6])
