"""Yields 2**70 from its third collection on: a number of its own type, that a float can hold."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ValueWide(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value(2**70 if self.count >= 3 else 1)
