"""Runs the fuzzers, and tells what they have done: ``python tests/fuzz/run.py --frames 10_000_000``."""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
CRASHES = HERE.parents[1] / ".cache" / "fuzz"
SHARES = {"decoder": 0.5, "session": 0.5}
FRAMES_OF_RUN = 1_000_000  # at most: the programs that atheris keeps grow with them, and are none of plugd's memory
GROWTH_ALLOWED = 5_000_000  # bytes of resident memory, from the end of a run's warm-up to its end

HEADS = ("run", "engine", "frames", "programs", "coverage", "crashes", "RSS, MB", "growth, MB", "seconds", "frames/s")
ROW = "{:<12} {:<8} {:>11} {:>9} {:>8} {:>7} {:>15} {:>10} {:>8} {:>9}"


class Job(NamedTuple):
    """One run of one fuzzer."""

    target: str
    number: int
    frames: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1_000_000, help="of all runs together")
    parser.add_argument("--target", choices=SHARES, action="append", help="only this one")
    parser.add_argument("--runs", type=int, help="of each fuzzer, with another seed each; else one for each million")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2, help="at one time")
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; 0: an own one for each")
    parser.add_argument("--crashes", type=Path, default=CRASHES, help="a directory for programs that crash")
    flags = parser.parse_args()
    flags.crashes.mkdir(parents=True, exist_ok=True)
    names = flags.target or list(SHARES)
    targets = {name: SHARES[name] / sum(SHARES[each] for each in names) for name in names}
    jobs = sorted(
        (job for name, share in targets.items() for job in jobs_of(name, share * flags.frames, flags.runs)),
        key=lambda job: job.number,
    )
    print(ROW.format(*HEADS), flush=True)
    begun = time.monotonic()
    with ThreadPoolExecutor(flags.processes) as pool:
        reports = list(pool.map(lambda job: run(job, flags), jobs))
    return conclude(reports, time.monotonic() - begun)


def jobs_of(target: str, frames: float, runs: int | None) -> list[Job]:
    """Return the runs that these frames are done in."""
    count = runs or math.ceil(frames / FRAMES_OF_RUN)
    return [Job(target, number, math.ceil(frames / count)) for number in range(count)]


def run(job: Job, flags: argparse.Namespace) -> dict[str, Any]:
    """Run one fuzzer in a process of its own; print and return its report."""
    with tempfile.TemporaryDirectory(prefix="plugd-fuzz-") as name:
        report, log = Path(name) / "report", Path(name) / "log"
        command = [sys.executable, str(HERE / f"fuzz_{job.target}.py"), "--frames", str(job.frames)]
        command += ["--engine", flags.engine, "--report", str(report), "--crashes", str(flags.crashes)]
        command += ["--seed", str(flags.seed + job.number)] if flags.seed else []
        with log.open("wb") as stderr:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr).returncode
        text = log.read_text(errors="replace")
        done = json.loads(report.read_text()) if report.exists() else {"frames": 0, "crashes": 1}
        coverage = re.findall(r"\bcov: (\d+)", text)
    row = {"name": f"{job.target} {job.number + 1}", "coverage": int(coverage[-1]) if coverage else None, **done}
    if status != 0 or row["crashes"]:
        row["crashes"] = 1
        print(text[-6000:], file=sys.stderr)
    elif not job.number and "not installed" in text:
        print(text.splitlines()[0], file=sys.stderr)
    print(format_row(row), flush=True)
    return row


def format_row(row: dict[str, Any]) -> str:
    if "engine" not in row:
        return f"{row['name']:<12} ended without a report"
    start, end = row["rss_start_bytes"] / 1e6, row["rss_end_bytes"] / 1e6
    return ROW.format(
        row["name"],
        row["engine"],
        f"{row['frames']:,}",
        f"{row['executions']:,}",
        row["coverage"] or "-",
        row["crashes"],
        f"{start:.1f} to {end:.1f}",
        f"{end - start:+.2f}",
        f"{row['duration_seconds']:.0f}",
        f"{row['frames'] / row['duration_seconds']:,.0f}",
    )


def conclude(reports: list[dict[str, Any]], duration: float) -> int:
    """Print what they come to; return the exit status: 1 where something crashed or grew."""
    frames = sum(each["frames"] for each in reports)
    crashes = sum(each["crashes"] for each in reports)
    growth = max((each["rss_end_bytes"] - each["rss_start_bytes"] for each in reports if "engine" in each), default=0)
    print(
        f"\n{frames:,} fuzz frames in {len(reports)} runs and {duration:.0f} s: {crashes} crashes, "
        f"RSS growth {growth / 1e6:.2f} MB at most"
    )
    return 1 if crashes or growth >= GROWTH_ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
