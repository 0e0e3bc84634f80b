"""Takes half a second to be imported, in which its file is swapped; VERSION tells which of the two runs."""

import time
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample

VERSION = 1
time.sleep(0.5)


class Swapped(Plugin):
    interval = 0.1  # seconds

    version_running = Gauge("fault.version")

    def collect(self) -> Iterable[Sample]:
        yield self.version_running(VERSION)
