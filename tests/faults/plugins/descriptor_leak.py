"""Opens fifty descriptors more in each collection from the third on, and 10,000 at most."""

import os
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class DescriptorLeak(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0
        self.leaked: list[int] = []

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3 and len(self.leaked) < 10_000:
            for _ in range(50):
                self.leaked.append(os.open(os.devnull, os.O_RDONLY))
        yield self.collections(self.count)
