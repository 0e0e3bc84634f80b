"""Ends its process when it is started."""

import os
from collections.abc import Iterable

from plugd.plugin import Plugin, Sample


class StartExits(Plugin):
    interval = 0.1  # seconds

    def start(self) -> None:
        os._exit(3)

    def collect(self) -> Iterable[Sample]:
        return []
