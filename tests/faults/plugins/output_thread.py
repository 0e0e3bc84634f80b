"""Prints for twenty seconds from a thread, 10 GB if it is let, and collects meanwhile."""

import os
import threading
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


def flood() -> None:
    line = b"a line of sixty-four bytes, one of very many that nobody wants\n" * 1024
    written, end = 0, time.monotonic() + 20
    while written < 10_000_000_000 and time.monotonic() < end:
        written += os.write(1, line)


class OutputThread(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            threading.Thread(target=flood, daemon=True).start()
        yield self.collections(self.count)
