"""Counts the seconds and its own collections: a missed tick, a wrong rate and a restart show in them."""

import time
from collections.abc import Iterable
from typing import Any

from plugd.plugin import Counter, Plugin, Sample


class Good(Plugin):
    interval = 0.1  # seconds

    uptime = Counter("good.uptime", unit="s", help="CLOCK_MONOTONIC: its rate is 1.")
    collections = Counter("good.collections", unit="{collection}", help="Collections of this plugin, over reloads.")

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        yield self.uptime(time.monotonic())
        yield self.collections(self.count)

    def save_state(self) -> Any:
        return self.count

    def load_state(self, state: Any) -> None:
        self.count = state
