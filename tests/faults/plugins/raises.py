"""Raises an error with a text of a million characters from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class Raises(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3:
            raise ValueError("too long " * 100_000)
        yield self.collections(self.count)
