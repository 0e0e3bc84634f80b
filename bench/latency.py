"""How long ``plugctl list`` takes, as a multiple of an interpreter's empty start."""

import os
import pathlib
import statistics
import sys
import time
from typing import Any

from harness import TEN, Daemon

RUNS = 40
WARM_UP = 5  # runs
INTERPRETER = "python3 -I -c pass"
SCRIPT = "plugctl list"
MODULE = "plugctl list, without the installer's script"


def measure(runs: int = RUNS) -> dict[str, Any]:
    """Run the three in turn, so that what disturbs the machine disturbs all; return the times in seconds."""
    with Daemon(TEN) as daemon:
        environment = {**os.environ, "PLUGD_SOCKET": daemon.socket}
        script = pathlib.Path(sys.executable).parent / "plugctl"
        commands = {
            INTERPRETER: [sys.executable, "-I", "-c", "pass"],
            MODULE: [sys.executable, "-I", "-c", "from plugctl.cli import main; main()", "list"],
        }
        if script.exists():
            commands[SCRIPT] = [str(script), "list"]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(WARM_UP + runs):
            for name, command in commands.items():
                duration = _time(command, environment)
                if run >= WARM_UP:
                    times[name].append(duration)
    return {
        name: {
            "median": statistics.median(values),
            "p90": statistics.quantiles(values, n=10)[-1],
            # Of pairs of neighbours: a disturbance that lasts is in both.
            "ratio": statistics.median(value / empty for value, empty in zip(values, times[INTERPRETER], strict=True)),
        }
        for name, values in times.items()
    }


def report(results: dict[str, Any]) -> list[str]:
    """Return the lines that tell it."""
    lines = [f"{'':46}{'median ms':>10}{'p90 ms':>8}{'ratio':>7}"]
    for name, row in results.items():
        lines.append(f"{name:46}{row['median'] * 1e3:10.1f}{row['p90'] * 1e3:8.1f}{row['ratio']:7.2f}")
    return lines


def _time(command: list[str], environment: dict[str, str]) -> float:
    """Run a command and return its wall-clock time in seconds."""
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environment, file_actions=[null])
    _, status = os.waitpid(pid, 0)
    duration = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)}: exited with status {os.waitstatus_to_exitcode(status)}")
    return duration
