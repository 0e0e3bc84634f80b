"""Calls itself without end from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class Recursion(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3:
            self.dig()
        yield self.collections(self.count)

    def dig(self) -> None:
        self.dig()
