"""Answers a request that nobody has made, in its third collection."""

import os
import time
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class RpcForgedAnswer(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            os.write(3, b"\x94\x01\xcd\xff\xff\xc0\xc0")
            time.sleep(3600)
        yield self.collections(self.count)
