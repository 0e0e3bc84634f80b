"""Takes 100 MB more in each collection from the third on, 1 GB at most."""

from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class MemoryHog(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0
        self.blocks: list[bytes] = []

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count >= 3 and len(self.blocks) < 10:
            self.blocks.append(b"x" * 100_000_000)
        yield self.collections(self.count)
