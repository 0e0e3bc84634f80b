"""Returns from its third collection after the deadline, as if nothing were."""

import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class LateReturn(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            time.sleep(0.35)
        yield self.collections(self.count)
