"""Measure what plugd costs, and print a report: ``python bench/run.py`` or ``make bench``.

Figures of different machines, or of different days, do not compare. What does are the ratios to the yardsticks
that were measured in the same run: see docs/benchmarks.md.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import collecting
import footprint
import latency
import throughput
from harness import compile_bytecode


class Benchmark(NamedTuple):
    title: str
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    report: Callable[[dict[str, Any]], list[str]]


BENCHMARKS = {
    "footprint": Benchmark("Footprint", lambda options: footprint.measure(options.seconds), footprint.report),
    "requests": Benchmark(
        "Requests", lambda options: throughput.measure(1.0 if options.quick else 4.0), throughput.report
    ),
    "latency": Benchmark(
        "Latency of the command line", lambda options: latency.measure(10 if options.quick else 40), latency.report
    ),
    "collect": Benchmark(
        "One collection",
        lambda options: collecting.measure(2.0 if options.quick else 10.0),
        collecting.report,
    ),
}


class Aim(NamedTuple):
    text: str
    benchmark: str
    figure: Callable[[dict[str, Any]], float]
    holds: Callable[[float], bool]


AIMS = (
    Aim("CPU: at most 0.4 % of a core", "footprint", lambda r: r["plugd"]["cpu_percent"], lambda v: v <= 0.4),
    Aim("memory: at most 45 MB (PSS)", "footprint", lambda r: r["plugd"]["pss_bytes"] / 1e6, lambda v: v <= 45),
    Aim(
        "at least 25,000 requests/s (ping, 16 clients)",
        "requests",
        lambda r: r["plugd"]["ping 16"]["per_second"],
        lambda v: v >= 25_000,
    ),
    Aim(
        "plugctl list: at most 2.0 empty starts",
        "latency",
        lambda r: r.get(latency.SCRIPT, r[latency.MODULE])["ratio"],
        lambda v: v <= 2.0,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="length of the footprint's window (default: 60, quick: 10)")
    parser.add_argument("--quick", action="store_true", help="shorter and less exact: half a minute in all")
    parser.add_argument("--only", metavar="NAME", choices=BENCHMARKS, action="append", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write all figures there, too")
    options = parser.parse_args()
    if options.seconds is None:
        options.seconds = 10.0 if options.quick else 60.0
    compile_bytecode()
    facts = machine()
    for name, value in facts.items():
        print(f"{name:12}{value}")
    results = {}
    for name, benchmark in BENCHMARKS.items():
        if options.only and name not in options.only:
            continue
        results[name] = benchmark.measure(options)
        print(
            "", f"{benchmark.title}", "-" * len(benchmark.title), *benchmark.report(results[name]), sep="\n", flush=True
        )
    print("", "Aims", "----", *aims(results), f"load average at the end: {_load()}", sep="\n")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


def aims(results: dict[str, Any]) -> list[str]:
    """Return a line for each aim that was measured."""
    lines = []
    for aim in AIMS:
        if aim.benchmark in results:
            figure = aim.figure(results[aim.benchmark])
            lines.append(f"{aim.text:48}{figure:12,.2f}   {'met' if aim.holds(figure) else 'NOT MET'}")
    return lines


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("plugd", "anyio", "msgpack", "msgspec", "psutil", "structlog")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} cores, {_model()}, {memory / 1e9:.0f} GB",
        "system": f"Linux {platform.release()}, {platform.python_implementation()} {platform.python_version()}",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
        "load": _load(),
    }


def _model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
