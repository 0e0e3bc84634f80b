"""Load average of the host.

Source: getloadavg(3), which reads /proc/loadavg (proc(5)). The kernel computes it anew every five seconds.
"""

import os
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample

WINDOWS = ("1m", "5m", "15m")


class Load(Plugin):
    """Threads that run, wait for a CPU or wait for the disk, averaged over three windows."""

    version = "1.0.0"
    interval = 5.0  # seconds

    average = Gauge("system.cpu.load_average", unit="{thread}", labels=("window",), help="Run-queue length, averaged.")

    def collect(self) -> Iterable[Sample]:
        """Yield the average of each window; nothing where the kernel does not tell."""
        try:
            averages = os.getloadavg()
        except OSError:
            return
        for window, value in zip(WINDOWS, averages, strict=True):
            yield self.average(value, window=window)
