"""Leaves a thread computing without end in its third collection."""

import threading
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


def spin() -> None:
    while True:
        pass


class BusyThread(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            threading.Thread(target=spin, daemon=True).start()
        yield self.collections(self.count)
