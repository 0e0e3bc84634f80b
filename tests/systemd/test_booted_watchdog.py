"""When systemd's watchdog bites, and when it must not; and what comes after a daemon that was killed."""

from harness import wait_until
from service import SHIPPED, Service

CRASHES = 6  # more than systemd allows by default in ten seconds: systemd-system.conf(5), DefaultStartLimitBurst
WATCHDOG = 3.0  # seconds, instead of the unit's own

HANGING = '''
"""Hangs in every collection, asleep or busy."""

import time
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class {name}(Plugin):
    interval = 1.0
    timeout = 0.5

    value = Gauge("hanging.value", unit="1")
    collected = 0

    def collect(self) -> Iterable[Sample]:
        self.collected += 1
        while self.collected > 1:  # Otherwise it were not even loaded.
            {hang}
        yield self.value(1)
'''


def with_watchdog(plugd: Service, period: float) -> int:
    """Start plugd with another period of the watchdog, in seconds; return its process id."""
    plugd.drop_in(f"[Service]\nWatchdogSec={period}s\nRestartSec=100ms\n")
    plugd.must("start")
    return plugd.pid


def test_the_unit_has_a_watchdog(stopped: Service) -> None:
    """Of its own: the other tests shorten it."""
    assert stopped.machine.show("plugd.service", "WatchdogUSec") not in {"0", "infinity"}


def test_a_plugin_that_hangs_does_not_trip_it(stopped: Service) -> None:
    """However it hangs: it is killed at its deadline, and the daemon goes on beyond the period of the watchdog."""
    stopped.add_plugin("asleep", HANGING.format(name="Asleep", hang="time.sleep(3600)"))
    stopped.add_plugin("busy", HANGING.format(name="Busy", hang="pass"))
    pid = with_watchdog(stopped, WATCHDOG)

    def hung_long_enough() -> bool:
        stats = stopped.ask("stats", "asleep", "busy")
        hung = all(row["timeouts"] for row in stats["plugins"].values())
        return hung and stats["uptime"] > 2 * WATCHDOG

    wait_until(hung_long_enough, "two periods of the watchdog with plugins that hang")
    assert (stopped.pid, stopped.restarts) == (pid, 0)
    assert set(stopped.ask("stats")["plugins"]) == SHIPPED | {"asleep", "busy"}


def test_a_daemon_that_is_stopped_trips_it(stopped: Service) -> None:
    """SIGSTOP: within a period of the watchdog systemd ends it, and starts another."""
    pid = with_watchdog(stopped, WATCHDOG)
    stopped.machine.output("kill", "-STOP", str(pid))
    stopped.wait_restarted(pid)
    assert stopped.restarts == 1
    assert any("Watchdog timeout" in line for line in stopped.journal("--unit=plugd"))
    assert set(stopped.plugins()) == SHIPPED


def test_a_forkserver_that_is_stopped_trips_it(stopped: Service) -> None:
    """A daemon that can start no worker is not well, however busy its event loop is; the journal names the part.

    With the unit's own, longer period the forkserver is replaced before that.
    """
    pid = with_watchdog(stopped, WATCHDOG)
    forkserver = stopped.machine.output("pgrep", "--parent", str(pid), "--full", "plugd.worker.forkserver", "--oldest")
    stopped.machine.output("kill", "-STOP", forkserver)
    stopped.wait_restarted(pid)
    assert any("watchdog_not_fed part=forkserver" in line for line in stopped.journal("--identifier=plugd"))
    assert set(stopped.plugins()) == SHIPPED


def test_a_daemon_that_is_killed_is_restarted(stopped: Service) -> None:
    """SIGKILL: its workers end with it, and systemd starts another."""
    stopped.drop_in("[Service]\nRestartSec=100ms\n")
    stopped.must("start")
    pid = stopped.pid
    workers = set(stopped.machine.output("pgrep", "--uid", "plugd").split())
    assert len(workers) > len(SHIPPED)
    stopped.machine.output("kill", "-KILL", str(pid))
    stopped.wait_restarted(pid)
    assert stopped.restarts == 1
    assert workers.isdisjoint(stopped.machine.output("pgrep", "--uid", "plugd").split())
    assert {row["state"] for row in stopped.plugins().values()} == {"running"}


def test_a_crash_after_the_other_is_no_end(stopped: Service) -> None:
    """No start limit leaves it, or its socket, for dead: it is the operator's eyes in a bad hour."""
    stopped.drop_in("[Service]\nRestartSec=100ms\n")
    stopped.must("start")
    for number in range(1, CRASHES + 1):
        pid = stopped.pid
        stopped.machine.output("kill", "-KILL", str(pid))
        stopped.wait_restarted(pid)
        assert stopped.restarts == number
    assert stopped.state("plugd.socket") == "active"
    assert set(stopped.plugins()) == SHIPPED
