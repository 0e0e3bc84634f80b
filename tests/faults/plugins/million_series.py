"""Yields a million series from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class MillionSeries(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value", labels=("number",))

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        for number in range(1_000_000 if self.count >= 3 else 10):
            yield self.value(number, number=number)
