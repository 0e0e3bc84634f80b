"""Reads address 0 in its third collection."""

import ctypes
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class Segfault(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            ctypes.string_at(0)
        yield self.collections(self.count)
