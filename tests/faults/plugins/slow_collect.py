"""Takes two and a half intervals for each collection from the third on, within its deadline."""

import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class SlowCollect(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3:
            time.sleep(0.25)
        yield self.collections(self.count)
