"""Yields an infinity from its third collection on."""

import math
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ValueInfinity(Plugin):
    interval = 0.1  # seconds

    value = Gauge("fault.value")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.value(-math.inf if self.count >= 3 else 1)
