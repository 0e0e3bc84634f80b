"""Starts fifty threads more in each collection from the third on, and 1,000 at most; they end after 30 s."""

import threading
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class ThreadLeak(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0
        self.threads: list[threading.Thread] = []

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3 and len(self.threads) < 1000:
            for _ in range(50):
                self.threads.append(threading.Thread(target=time.sleep, args=(30,), daemon=True))
                self.threads[-1].start()
        yield self.collections(self.count)
