"""Two versions of plugd side by side: ``python bench/compare.py BEFORE AFTER [--rounds N] [--json FILE]``.

BEFORE and AFTER are the Python interpreters of two environments, each with its own plugd installed. A daemon of each
runs all the time; they are asked in turn, for a second each, in the order A B B A, so that what the machine
does meanwhile does to both. The ratio is that of requests a second, the median over the rounds; between its quartiles
lies half of them. BEFORE twice tells how far the ratio itself can be trusted; on a machine that others use, the CPU
that a request takes is the steadier figure.
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import statistics
import subprocess
from typing import Any

from harness import EIGHT, Daemon
from run import machine
from throughput import CLIENTS, METHODS, _ask

PLUGINS = (*EIGHT, "sensors")
LOST = 0.10  # of the requests a second, at most


class DaemonOf(Daemon):
    """A daemon that another interpreter runs, with the plugins that are its own."""

    def __init__(self, python: str) -> None:
        super().__init__(PLUGINS)
        self._command[0] = python
        package = pathlib.Path(code_of(python))
        shipped = package / "shipped"  # of a wheel; beside the package in a checkout
        for name in PLUGINS:
            directory = shipped if shipped.is_dir() else package.parent / "plugins"
            shutil.copyfile(directory / f"{name}.py", self.plugin_dir / f"{name}.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="an interpreter")
    parser.add_argument("after", help="another one")
    parser.add_argument("--rounds", type=int, default=15, help="A and B each, of every kind (default: 15)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement (default: 1)")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write all figures there, too")
    options = parser.parse_args()
    facts = machine()
    for name, value in facts.items():
        print(f"{name:12}{value}")
    pythons = {"before": options.before, "after": options.after}
    for which, python in pythons.items():
        print(f"{which:12}{code_of(python)}")
    results = measure(pythons, options.rounds, options.seconds)
    print("", *report(results), sep="\n")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


def code_of(python: str) -> str:
    """Return where an interpreter has its plugd from; it is compiled by that."""
    program = "import plugd.daemon, plugd.control.server, os; print(os.path.dirname(plugd.__file__))"
    return subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def measure(pythons: dict[str, str], rounds: int, seconds: float) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the figures of each round, by kind and version."""
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    with contextlib.ExitStack() as stack:
        running = {which: stack.enter_context(DaemonOf(python)) for which, python in pythons.items()}
        for method in METHODS:
            for clients in CLIENTS:
                rows = results[f"{method} {clients}"] = {which: [] for which in running}
                for each in running.values():
                    _ask(each.socket, each.pid, method, clients, 0.5)  # warm-up
                for number in range(rounds):
                    for which in sorted(running, reverse=number % 2 == 0):
                        daemon = running[which]
                        rows[which].append(_ask(daemon.socket, daemon.pid, method, clients, seconds))
    return results


def report(results: dict[str, Any]) -> list[str]:
    """Return the lines that tell it."""
    columns = ("clients", "before/s", "after/s", "ratio", "quartiles", "CPU µs before", "after", "ratio")
    widths = (8, 12, 12, 8, 14, 15, 8, 8)
    lines = [f"{'method':8}" + "".join(f"{text:>{width}}" for text, width in zip(columns, widths, strict=True))]
    worst = 10.0
    for key, rows in results.items():
        method, clients = key.split()
        rates, costs = ([[row[figure] for row in rows[which]] for which in ("before", "after")]
                        for figure in ("per_second", "cpu_us"))  # fmt: skip
        ratios = [after / before for before, after in zip(*rates, strict=True)]
        cost_ratio = statistics.median(after / before for before, after in zip(*costs, strict=True))
        low, ratio, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        worst = min(worst, ratio)
        quartiles = f"{low:.2f} to {high:.2f}"
        lines.append(
            f"{method:8}{clients:>8}{statistics.median(rates[0]):12,.0f}{statistics.median(rates[1]):12,.0f}"
            f"{ratio:8.2f}{quartiles:>14}{statistics.median(costs[0]):15.1f}{statistics.median(costs[1]):8.1f}"
            f"{cost_ratio:8.2f}"
        )
    met = "met" if worst >= 1 - LOST else "NOT MET"
    return [*lines, "", f"{f'at most {LOST:.0%} of the requests a second lost; worst ratio {worst:.2f}':64}{met}"]


if __name__ == "__main__":
    main()
