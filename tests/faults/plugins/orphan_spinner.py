"""Leaves a process of another session computing in its third collection; that ends by itself after 30 s."""

import os
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class OrphanSpinner(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    pass
                os._exit(0)
            os.wait()
        yield self.collections(self.count)
