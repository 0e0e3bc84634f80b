"""Takes 32 MB more of shared memory in each collection from the third on, 1 GB at most: no rlimit counts that."""

import mmap
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class MemoryShared(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0
        self.maps: list[mmap.mmap] = []

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3 and len(self.maps) < 32:
            self.maps.append(mmap.mmap(-1, 32_000_000))
            self.maps[-1].write(b"x" * 32_000_000)
        yield self.collections(self.count)
