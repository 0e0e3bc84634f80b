"""Yields 10**400 from its third collection on, which no float can hold."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ValueWider(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value(10**400 if self.count >= 3 else 1)
