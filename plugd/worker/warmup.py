"""What every worker would do for the first time, done once in the forkserver.

Modules that are imported on first use, caches, and the bytecode that the interpreter specialises as it runs: done
before the first fork, their pages are shared by all workers, and not copied into each. Measured with the eight
plugins of the benchmark, this and the separate analysis halve what a worker costs.
"""

import gc

from plugd.worker.python import PythonHost

ROUNDS = 20  # the interpreter specialises code that has run a few times

SOURCE = b'''"""Warm-up."""
import os
from collections.abc import Iterable
from typing import Any, NamedTuple
from plugd.plugin import Counter, Gauge, Plugin, Sample, command, setting
class Row(NamedTuple):
    """Warm."""
    name: str
    values: dict[str, int]
class WarmUp(Plugin):
    """Warm-up."""
    interval = 10.0
    requires = ("cpu>=1.2",)
    gauge = Gauge("warm.gauge", unit="By", labels={"mode": "warm.mode", "cpu": "warm.cpu"}, help="Warm.")
    counter = Counter("warm.counter", labels=("name",))
    level: int = setting(7, help="Warm.", minimum=0, maximum=10)
    class Options:
        """Warm."""
        path: str = "/"
        top: int = 3
        names: list[str] = []
    def collect(self) -> Iterable[Sample]:
        for cpu in range(40):
            yield self.gauge(1, mode="user", cpu=cpu)
            yield self.counter(cpu * 1.5, name=str(cpu))
    @command
    def info(self, name: str = "all") -> dict[str, list[int]]:
        """Warm."""
        return {"list": [1, 2]}
'''


def warm_up() -> None:
    """Load a plugin here, and have it do what plugins do."""
    import psutil

    host = PythonHost(lambda _method, _params: None)
    host.load(
        {
            "name": "warm_up",
            "path": "<warm-up>",
            "source": SOURCE,
            "options": {"top": 4},
            "settings": {"level": 3},
            "budget": 1000,
            "samples": 1000,
        }
    )
    host.start({})
    for _ in range(ROUNDS):
        host.collect({})
    host.call({"command": "info", "args": ["x"], "kwargs": {}})
    host.get({})
    host.save_state({})
    psutil.cpu_times(percpu=True)
    psutil.virtual_memory()
    gc.collect()
