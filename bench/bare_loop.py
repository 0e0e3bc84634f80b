"""The yardsticks of the footprint: the same sampling in one process, with no daemon round it.

``psutil``: one loop round the psutil calls that answer the same questions.
``plugins``: one loop round the shipped plugins themselves, with nobody to take their samples.

Either collects once a second, half a second away from the whole second at which the daemon does, until it is killed.
"""

import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    collect = plugins(sys.argv[2:]) if sys.argv[1] == "plugins" else calls
    while True:
        time.sleep(1.0 - (time.time() + 0.5) % 1.0)
        collect()


def calls() -> None:
    """Ask psutil, or the standard library, what the eight plugins ask, as far as that is cheap.

    Connections and processes by state are left out: psutil finds them by way of every process's files, at several
    times the cost of everything else here.
    """
    import psutil

    psutil.cpu_times()
    psutil.cpu_times(percpu=True)
    psutil.cpu_stats()
    psutil.cpu_freq(percpu=True)
    psutil.virtual_memory()
    psutil.swap_memory()
    psutil.disk_io_counters(perdisk=True)
    for partition in psutil.disk_partitions():
        psutil.disk_usage(partition.mountpoint)
    psutil.net_io_counters(pernic=True)
    os.getloadavg()
    psutil.pids()
    psutil.boot_time()
    psutil.users()


def plugins(paths: list[str]) -> Callable[[], None]:
    """Return what collects from all of these plugins, one after the other, and throws the samples away."""
    instances = [instance(pathlib.Path(path)) for path in paths]

    def collect() -> None:
        for plugin in instances:
            for _ in plugin.collect():
                pass

    return collect


def instance(file: pathlib.Path) -> Any:
    """Return a started plugin with the defaults of its options: all that its author knows of plugd."""
    module: dict[str, Any] = {"__name__": file.stem}
    exec(compile(file.read_bytes(), file, "exec", dont_inherit=True), module)
    cls = module[file.stem.title().replace("_", "")]
    plugin = cls.__new__(cls)
    plugin.name, plugin.inputs = file.stem, {}
    plugin.options = cls.Options() if hasattr(cls, "Options") else None
    plugin.__init__()
    plugin.start()
    return plugin


if __name__ == "__main__":
    main()
