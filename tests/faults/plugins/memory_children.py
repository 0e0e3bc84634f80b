"""Forks six children of 64 MB each in its third collection; they end by themselves after 30 s."""

import os
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class MemoryChildren(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            for _ in range(6):
                if os.fork() == 0:
                    block = b"x" * 64_000_000
                    time.sleep(30)
                    os._exit(len(block) == 0)
        yield self.collections(self.count)
