"""Raises an error whose text raises an error, from its third collection on."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class BrokenStr(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3:
            raise BrokenError
        yield self.collections(self.count)
