"""What a plugin is said to cost is what it costs, measured from outside."""

import resource
from pathlib import Path

from harness import Daemons, wait_until

BURNER = '''"""Burns CPU time, in itself and in a child process, and holds memory."""

import os
import resource
import time

from plugd.plugin import Gauge, Plugin, command


class Burner(Plugin):
    interval = 3600.0
    timeout = 20.0

    level = Gauge("test.level")

    def start(self):
        self.held = bytearray(os.urandom(1)) * 30_000_000

    def collect(self):
        yield self.level(1)

    @command
    def burn(self, seconds: float) -> float:
        """Burn CPU time here, and half as much in a child; return all that getrusage(2) knows of."""
        self._burn(seconds)
        child = os.fork()
        if child == 0:
            self._burn(seconds / 2)
            os._exit(0)
        os.waitpid(child, 0)
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    def _burn(self, seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
'''


def test_the_cost_of_a_plugin_is_that_of_its_process(daemon: Daemons) -> None:
    """CPU time with that of its children, and resident memory, each within a tenth of what is measured elsewhere."""
    running = daemon(plugins={"burner": BURNER})
    pid = running.plugin("burner")["pid"]
    used = running.call("call", name="burner", command="burn", args=[1.0])
    figures = running.call("stats")["plugins"]["burner"]
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    resident = pages * resource.getpagesize()
    assert abs(figures["cpu_seconds"] - used) < 0.1 * used
    assert abs(figures["memory_bytes"] - resident) < 0.1 * resident
    assert used > 1.4
    assert resident > 30_000_000


def test_the_cost_of_workers_that_are_gone_is_not_forgotten(daemon: Daemons) -> None:
    """A restart, or a reload, goes on counting where the worker before ended."""
    running = daemon(plugins={"burner": BURNER})
    used = running.call("call", name="burner", command="burn", args=[0.5])
    running.call("reload", names=["burner"])
    wait_until(lambda: running.plugin("burner")["generation"] == 2, "the second generation")
    assert running.call("stats")["plugins"]["burner"]["cpu_seconds"] >= 0.9 * used
