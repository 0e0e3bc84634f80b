"""What one collection costs on its way from the daemon to a worker and back.

A daemon whose only plugin does nothing but yield: the durations that it reports itself, and the CPU time of its
processes for each collection. The yardstick is one byte there and back over a socketpair, at the same pace, to a
forked process that blocks in recv.
"""

import contextlib
import os
import socket
import statistics
import time
from typing import Any

from harness import Daemon, cost_of

MANY = 10_000  # samples
WARM_UP = 1.0  # seconds
PLUGIN = '''"""A plugin of the benchmark."""

from plugd.plugin import Gauge, Plugin


class Yielding(Plugin):
    interval = {interval}
    value = Gauge("bench.value", unit="1", labels=("number",), help="Nothing but a number.")

    def collect(self):
        for number in range({samples}):
            yield self.value(1.5, number=number)
'''
PACES = {1: 0.01, MANY: 0.1}  # samples: seconds between collections


def measure(seconds: float) -> dict[str, Any]:
    """Return the costs of collections of 1 and of 10 000 samples, and of the bare round trip, in microseconds."""
    return {
        "one": _collect(1, seconds),
        "many": _collect(MANY, seconds),
        "bare": _bare_round_trip(PACES[1], seconds),
    }


def report(result: dict[str, Any]) -> list[str]:
    """Return the lines that tell it."""
    one, many, bare = result["one"], result["many"], result["bare"]
    lines = [f"{'µs':16}{'every':>8}{'median':>10}{'p99':>10}{'daemon CPU':>12}{'worker CPU':>12}"]
    for title, pace, row in (
        ("1 sample", PACES[1], one),
        (f"{MANY:,} samples", PACES[MANY], many),
        ("1 byte, bare", PACES[1], bare),
    ):
        lines.append(
            f"{title:16}{pace * 1e3:5.0f} ms{row['median']:10.1f}{row['p99']:10.1f}"
            f"{row['daemon_cpu']:12.1f}{row['worker_cpu']:12.1f}"
        )
    lines.append(
        f"each of {MANY:,} samples: {many['median'] / MANY:.3f} µs, of it CPU of the daemon "
        f"{many['daemon_cpu'] / MANY:.3f} and of the worker {many['worker_cpu'] / MANY:.3f}"
    )
    lines.append(f"a collection of 1 sample takes {one['median'] / bare['median']:.1f} bare round trips")
    return lines


def _collect(samples: int, seconds: float) -> dict[str, float]:
    source = PLUGIN.format(interval=PACES[samples], samples=samples)
    with Daemon((), sources={"yielding": source}) as daemon:
        time.sleep(WARM_UP)
        roles = daemon.roles()
        worker = next(pid for pid, role in roles.items() if role == "worker")
        before, collects = {pid: cost_of(pid).cpu_ns for pid in roles}, _row(daemon)["collects"]
        time.sleep(seconds)
        after, row = {pid: cost_of(pid).cpu_ns for pid in roles}, _row(daemon)
    rounds = row["collects"] - collects
    return {
        "rounds": rounds,
        "median": row["duration_p50"] * 1e6,
        "p99": row["duration_p99"] * 1e6,
        "daemon_cpu": (after[daemon.pid] - before[daemon.pid]) / rounds / 1e3,
        "worker_cpu": (after[worker] - before[worker]) / rounds / 1e3,
    }


def _row(daemon: Daemon) -> dict[str, Any]:
    row: dict[str, Any] = daemon.request("stats")["plugins"]["yielding"]
    return row


def _bare_round_trip(pace: float, seconds: float) -> dict[str, float]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            with contextlib.suppress(OSError):
                while data := theirs.recv(16):
                    theirs.send(data)
        finally:
            os._exit(0)
    theirs.close()
    times = []
    with ours:
        mine, other = time.process_time_ns(), cost_of(pid).cpu_ns
        for _ in range(int(seconds / pace)):
            time.sleep(pace)
            started = time.perf_counter()
            ours.send(b"x")
            ours.recv(16)
            times.append((time.perf_counter() - started) * 1e6)
        mine, other = time.process_time_ns() - mine, cost_of(pid).cpu_ns - other
    os.waitpid(pid, 0)
    return {
        "rounds": len(times),
        "median": statistics.median(times),
        "p99": statistics.quantiles(times, n=100)[-1],
        "daemon_cpu": mine / len(times) / 1e3,
        "worker_cpu": other / len(times) / 1e3,
    }
