"""Yields a list that contains itself from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ValueRecursive(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        nested: list[object] = []
        nested.append(nested)
        yield self.value(nested if self.count >= 3 else 1)  # type: ignore[arg-type]  # the fault
