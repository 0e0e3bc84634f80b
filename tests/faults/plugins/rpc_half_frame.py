"""Writes the beginning of a frame to its RPC socket in its third collection, and goes on as if nothing were."""

import os
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class RpcHalfFrame(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            os.write(3, b"\x94\x01")
        yield self.collections(self.count)
