"""Yields a label that is an object from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class LabelObject(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value", labels=("of",))

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value(1, of="x" if self.count < 3 else object())
