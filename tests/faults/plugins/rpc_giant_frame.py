"""Announces a frame of 1 GB on its RPC socket in its third collection, and sends it."""

import os
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class RpcGiantFrame(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            os.write(3, b"\x94\x01\x01\xc0\xc6" + (1_000_000_000).to_bytes(4, "big"))
            for _ in range(1000):
                os.write(3, bytes(1_000_000))
        yield self.collections(self.count)
