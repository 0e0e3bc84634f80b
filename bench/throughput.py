"""How many requests a second the control socket answers, and how long one takes."""

import contextlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness import TEN, Daemon, cost_of, program

CLIENTS = {1: (1, 1), 16: (2, 8)}  # clients: processes, and connections of each
METHODS = ("ping", "list")
LEAD = 0.5  # seconds for the clients to start


def measure(seconds: float) -> dict[str, Any]:
    """Ask plugd and the bare server in turn; return requests per second and latencies by server, method, clients."""
    results: dict[str, Any] = {"plugd": {}, "bare": {}}
    with Daemon(TEN) as daemon, bare_server() as (bare_path, bare_pid):
        for method in METHODS:
            for clients in CLIENTS:
                for server, path, pid in (("plugd", daemon.socket, daemon.pid), ("bare", bare_path, bare_pid)):
                    _ask(path, pid, method, clients, 0.5)  # warm-up
                    results[server][f"{method} {clients}"] = _ask(path, pid, method, clients, seconds)
    return results


def report(results: dict[str, Any]) -> list[str]:
    """Return the lines that tell it."""
    columns = ("clients", "requests/s", "p50 µs", "p99 µs", "server CPU", "CPU µs each", "bare server", "ratio")
    widths = (8, 12, 9, 9, 12, 13, 13, 7)
    lines = [f"{'method':8}" + "".join(f"{text:>{width}}" for text, width in zip(columns, widths, strict=True))]
    for key, row in results["plugd"].items():
        method, clients = key.split()
        bare = results["bare"][key]
        lines.append(
            f"{method:8}{clients:>8}{row['per_second']:12,.0f}{row['p50_us']:9}{row['p99_us']:9}"
            f"{row['cpu_percent']:10.0f} %{row['cpu_us']:13.1f}{bare['per_second']:13,.0f}"
            f"{row['per_second'] / bare['per_second']:7.2f}"
        )
    return lines


def _ask(path: str, pid: int, method: str, clients: int, seconds: float) -> dict[str, float]:
    processes, connections = CLIENTS[clients]
    start = time.monotonic() + LEAD
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(program("client.py", path, method, str(connections), str(start), str(seconds)))
            for _ in range(processes)
        ]
        time.sleep(max(0.0, start - time.monotonic()))
        before = cost_of(pid).cpu_ns
        outputs = [process.communicate(timeout=seconds + 30)[0] for process in running]
        cpu_ns = cost_of(pid).cpu_ns - before
    latencies: Counter[int] = Counter()
    for output in outputs:
        latencies.update({int(value): count for value, count in json.loads(output)["latencies"].items()})
    total = latencies.total()
    return {
        "per_second": total / seconds,
        "p50_us": _percentile(latencies, 0.5),
        "p99_us": _percentile(latencies, 0.99),
        "cpu_percent": cpu_ns / seconds / 1e7,
        "cpu_us": cpu_ns / total / 1e3,
    }


def _percentile(latencies: Counter[int], share: float) -> int:
    left = latencies.total() * share
    for value in sorted(latencies):
        left -= latencies[value]
        if left <= 0:
            return value
    return 0


@contextlib.contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """Run the bare server; give its socket's path and its pid."""
    with tempfile.TemporaryDirectory(prefix="plugd-bench-") as directory:
        path = os.path.join(directory, "bare.sock")
        with program("bare_server.py", path) as server:
            assert server.stdout is not None
            if server.stdout.readline().strip() != "ready":
                raise RuntimeError("the bare server did not start")
            yield path, server.pid
