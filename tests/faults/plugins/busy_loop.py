"""Computes without end in its third collection."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class BusyLoop(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            while True:
                pass
        yield self.collections(self.count)
