"""Yields a thousand series that were never there before in each collection from its third on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ChangingSeries(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value", labels=("number",))

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        for number in range(1000 if self.count >= 3 else 10):
            yield self.value(number, number=self.count * 1000 + number)
