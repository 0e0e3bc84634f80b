"""Returns a number where samples belong from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class CollectNumber(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        return [self.value(1)] if self.count < 3 else 1  # type: ignore[return-value]  # the fault
