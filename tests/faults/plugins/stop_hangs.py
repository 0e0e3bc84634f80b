"""Sleeps for an hour when it is stopped."""

import time
from collections.abc import Iterable

from plugd.plugin import Plugin, Sample


class StopHangs(Plugin):
    interval = 0.1  # seconds

    def collect(self) -> Iterable[Sample]:
        return []

    def stop(self) -> None:
        time.sleep(3600)
