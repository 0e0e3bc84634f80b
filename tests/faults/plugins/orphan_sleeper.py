"""Leaves a process of another session asleep in its third collection; that ends by itself after a minute."""

import os
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class OrphanSleeper(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
            os.wait()
            print("an orphan is asleep")
        yield self.collections(self.count)
