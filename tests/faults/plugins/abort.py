"""Aborts in its third collection, with last words on stderr."""

import os
import sys
from collections.abc import Iterable

from plugd.plugin import Counter, Plugin, Sample


class Abort(Plugin):
    interval = 0.1  # seconds

    collections = Counter("fault.collections", unit="{collection}")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            print("these are my last words", file=sys.stderr)
            os.abort()
        yield self.collections(self.count)
