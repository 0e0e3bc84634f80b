"""What each shipped plugin measures inside the unit, beside what it measures outside of any, as root."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness import wait_until
from machine import Machine, explained
from service import Service

COLLECTS = 3  # of each plugin: some measure what has changed since the collection before
CONFIGURATION = '[defaults]\ninterval = "500ms"\n'

DIRECTORY = "/run/plugd-outside"
SOCKET = f"{DIRECTORY}/control.sock"
START_OUTSIDE = f"""
echo $$ >{DIRECTORY}/pid
exec plugd --socket {SOCKET} --state-dir {DIRECTORY}/state --log-level error
"""

# Filesystems where services see others of their own, or less than others do, one that is read-only, and a network
# interface besides the loopback where the kernel has bridges.
FILESYSTEMS = {"/home": "rw", "/run/user/4711": "rw", "/srv/data": "rw", "/srv/archive": "ro", "/var/tmp": "rw"}
INTERFACE = "plugdtest0"
SIOCBRADDBR, SIOCBRDELBR = 0x89A0, 0x89A1  # linux/sockios.h

PREPARE = "\n".join(
    f"mkdir -p {place}; mountpoint -q {place} || mount -t tmpfs -o {mode},size=1m test {place}"
    for place, mode in FILESYSTEMS.items()
)
TIDY = "\n".join(f"umount {place}" for place in FILESYSTEMS)


class Measured(NamedTuple):
    """What one plugin measures."""

    metrics: frozenset[str]
    series: frozenset[str]

    def __str__(self) -> str:
        return f"{len(self.metrics)} metrics, {len(self.series)} series"


def prepare(machine: Machine) -> bool:
    """Give a machine more to measure; return whether it has got the interface. :func:`tidy` takes it back."""
    machine.shell(PREPARE)
    return _bridge(machine, SIOCBRADDBR)


def tidy(machine: Machine) -> None:
    """Take back what :func:`prepare` has done; no service may be running that still uses it."""
    machine.shell(TIDY)
    _bridge(machine, SIOCBRDELBR)


def inside(plugd: Service) -> dict[str, Any]:
    """Return the stats of plugd as a unit, which is restarted for it."""
    plugd.configure(CONFIGURATION)
    plugd.must("restart")
    return settled(plugd.machine)


def outside(plugd: Service) -> dict[str, Any]:
    """Return the stats of plugd as root, in the mounts and the network of the machine itself."""
    plugd.configure(CONFIGURATION)
    machine = plugd.machine
    machine.output("mkdir", "-p", DIRECTORY)
    daemon = machine.popen("sh", "-euc", START_OUTSIDE)
    try:
        wait_until(lambda: machine.run("plugctl", "--socket", SOCKET, "ping").returncode == 0, "the daemon outside")
        return settled(machine, "--socket", SOCKET)
    finally:
        machine.shell(f"kill $(cat {DIRECTORY}/pid)")
        daemon.wait()
        machine.output("rm", "-rf", DIRECTORY)


def settled(machine: Machine, *options: str) -> dict[str, Any]:
    """Return the stats once every plugin has collected a few times; one that fails fails the test."""

    def look() -> dict[str, Any] | None:
        done = machine.run("plugctl", *options, "--json", "stats")
        assert done.returncode == 0, explained(done)
        stats: dict[str, Any] = json.loads(done.stdout)
        rows: Mapping[str, dict[str, Any]] = stats["plugins"]
        for name, row in rows.items():
            assert row["state"] in {"starting", "running"}, f"{name}: {row}"
            assert not row["failures"] + row["timeouts"], f"{name}: {row}"
        return stats if all(row["collects"] >= COLLECTS for row in rows.values()) else None

    found: dict[str, Any] = wait_until(look, f"{COLLECTS} collections of every plugin")
    return found


def measured(stats: Mapping[str, Any]) -> dict[str, Measured]:
    """Return the metrics and series of each plugin; one that has none is there too."""
    rows: dict[str, list[tuple[str, str]]] = {name: [] for name in stats["plugins"]}
    for row in stats["metrics"]:
        labels = ",".join(f"{name}={value}" for name, value in sorted(row["labels"].items()))
        rows[row["plugin"]].append((row["name"], f"{row['name']}{{{labels}}}"))
    return {
        name: Measured(frozenset(metric for metric, _ in pairs), frozenset(series for _, series in pairs))
        for name, pairs in rows.items()
    }


def total(stats: Mapping[str, Any], metric: str, **labels: str) -> float:
    """Return the sum of a metric's values over all series that have these labels; dots in labels are written "_"."""
    rows = [row for row in stats["metrics"] if row["name"] == metric]
    found = [({name.replace(".", "_"): value for name, value in row["labels"].items()}, row["value"]) for row in rows]
    return float(sum(value for has, value in found if labels.items() <= has.items()))


def _bridge(machine: Machine, request: int) -> bool:
    script = f"import fcntl, socket; fcntl.ioctl(socket.socket(), {request:#x}, b'{INTERFACE}\\0')"
    return machine.run("python3", "-c", script).returncode == 0
