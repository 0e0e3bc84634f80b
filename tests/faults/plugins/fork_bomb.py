"""Forks, and has its children fork, in its third collection: 400 processes at most, for 10 s at most."""

import os
import signal
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample

LARGEST = 400  # processes


def explode(tickets: int) -> None:
    """Fork as often as there are tickets, and so does each child; one read takes one ticket, whoever reads."""
    while True:
        try:
            os.read(tickets, 1)
            if os.fork() == 0:
                signal.alarm(10)
        except BlockingIOError:  # No ticket is left, or the kernel gives no more processes.
            time.sleep(0.001)


class ForkBomb(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            tickets, more = os.pipe()
            os.write(more, b"." * LARGEST)
            os.set_blocking(tickets, False)
            explode(tickets)
        yield self.collections(self.count)
