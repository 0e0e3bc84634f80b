"""Yields one series twice in one collection from its third on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class SeriesTwice(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value(1)
        if self.count >= 3:
            yield self.value(2)
