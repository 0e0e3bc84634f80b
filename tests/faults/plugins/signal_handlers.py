"""Ignores and blocks every signal, and sleeps on through its third collection."""

import contextlib
import signal
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample

for number in signal.valid_signals():
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class SignalHandlers(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            while True:
                time.sleep(3600)
        yield self.collections(self.count)
