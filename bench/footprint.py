"""What plugd costs while it does nothing but its work: eight shipped plugins at one second."""

import time
from typing import Any

from harness import EIGHT, Cost, Daemon, cost_of, memory_of, program, ticks_ns

WARM_UP = 5.0  # seconds
ROLES = ("daemon", "forkserver", "worker")
CONFIGURATION = '[defaults]\ninterval = "1s"\n'


def measure(seconds: float) -> dict[str, Any]:
    """Run plugd and both yardsticks through the same seconds; return what each of them cost."""
    with Daemon(EIGHT, CONFIGURATION) as daemon:
        paths = [str(daemon.plugin_dir / f"{name}.py") for name in EIGHT]
        with program("bare_loop.py", "psutil") as psutil, program("bare_loop.py", "plugins", *paths) as plugins:
            time.sleep(WARM_UP)
            if psutil.poll() is not None or plugins.poll() is not None:
                raise RuntimeError("a yardstick could not be started")
            # All pids of one window; what plugd forks or loses in it would be a fault of the measurement.
            roles = {**daemon.roles(), psutil.pid: "psutil", plugins.pid: "plugins"}
            before, ticks, collects = _costs(roles), _ticks(roles), _collects(daemon)
            started = time.monotonic()
            time.sleep(seconds)
            elapsed = time.monotonic() - started
            after, ticks_after, collects_after = _costs(roles), _ticks(roles), _collects(daemon)
            if {pid for pid in roles if roles[pid] in ROLES} != set(daemon.roles()):
                raise RuntimeError("a process of plugd was replaced while it was measured")
            memory = {pid: memory_of(pid) for pid in roles}
        # Again without the yardsticks, which had their share of the pages that all interpreters have in common.
        memory.update({pid: memory_of(pid) for pid in roles if roles[pid] in ROLES})
    result: dict[str, Any] = {"seconds": elapsed, "collections": collects_after - collects}
    for role in (*ROLES, "psutil", "plugins"):
        pids = [pid for pid in roles if roles[pid] == role]
        result[role] = {
            "processes": len(pids),
            "cpu_percent": sum(after[pid].cpu_ns - before[pid].cpu_ns for pid in pids) / elapsed / 1e7,
            "cpu_percent_ticks": sum(ticks_after[pid] - ticks[pid] for pid in pids) / elapsed / 1e7,
            "switches_per_second": sum(after[pid].switches - before[pid].switches for pid in pids) / elapsed,
            "pss_bytes": sum(memory[pid].pss for pid in pids),
            "private_bytes": sum(memory[pid].private for pid in pids),
        }
    result["plugd"] = {key: sum(result[role][key] for role in ROLES) for key in result["daemon"]}
    return result


def report(result: dict[str, Any]) -> list[str]:
    """Return the lines that tell it."""
    lines = [
        f"{len(EIGHT)} plugins at 1 s, {result['seconds']:.0f} s, {result['collections']} collections",
        f"{'':18}{'processes':>10}{'CPU %':>9}{'by ticks':>10}{'PSS MB':>9}{'private':>9}{'wake-ups/s':>12}",
    ]
    for name, title in (
        ("daemon", "daemon"),
        ("forkserver", "forkserver"),
        ("worker", "workers"),
        ("plugd", "plugd in all"),
        ("plugins", "plugins, bare"),
        ("psutil", "psutil, bare"),
    ):
        row = result[name]
        lines.append(
            f"{title:18}{row['processes']:10}{row['cpu_percent']:9.3f}{row['cpu_percent_ticks']:10.3f}"
            f"{row['pss_bytes'] / 1e6:9.1f}{row['private_bytes'] / 1e6:9.1f}{row['switches_per_second']:12.1f}"
        )
    plugd = result["plugd"]
    lines.append(
        f"plugd takes {plugd['cpu_percent'] / result['psutil']['cpu_percent']:.2f} times the CPU of the bare psutil "
        f"loop, {plugd['cpu_percent'] / result['plugins']['cpu_percent']:.2f} times that of the plugins alone, and "
        f"{plugd['cpu_percent'] * 1e4 * result['seconds'] / result['collections']:.0f} µs per collection"
    )
    return lines


def _costs(pids: Any) -> dict[int, Cost]:
    return {pid: cost_of(pid) for pid in pids}


def _ticks(pids: Any) -> dict[int, int]:
    return {pid: ticks_ns(pid) for pid in pids}


def _collects(daemon: Daemon) -> int:
    return sum(row["collects"] for row in daemon.request("list"))
