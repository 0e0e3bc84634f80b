"""Prints for twenty seconds in its third collection: 10 GB, if it is let."""

import os
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class OutputFlood(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            line = b"a line of sixty-four bytes, one of very many that nobody wants\n" * 1024
            written, end = 0, time.monotonic() + 20
            while written < 10_000_000_000 and time.monotonic() < end:
                written += os.write(1, line)
        yield self.collections(self.count)
