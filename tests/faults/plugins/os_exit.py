"""Ends its process in its third collection, without a word to anybody."""

import os
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class OsExit(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            os._exit(3)
        yield self.collections(self.count)
