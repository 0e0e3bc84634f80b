"""A thousand reloads of a plugin that collects every 100 ms: ``python bench/reloads.py [--count N] [--many N]``.

Nine other plugins collect as often, and a client asks for ``list`` as fast as it is answered. Every tenth edit is
broken, and must leave the old generation running. ``--many`` reloads that often and looks at what the daemon keeps.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:1] = [str(TESTS / "faults"), str(TESTS)]  # bench/harness.py is another one

from harness import Client  # noqa: E402
from probe import EARLY, INTERVAL, percentile  # noqa: E402
from rig import Rig, good  # noqa: E402

NAME = "ticker"
WARM_UP = 200  # reloads
BROKEN_EVERY = 10
COUNT_LINE = "        self.count += 1\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="reloads under load (default: 1000)")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="then N reloads, for what the daemon keeps")
    parser.add_argument("--hammer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hammer:
        hammer(options.hammer)
        return
    with tempfile.TemporaryDirectory(prefix="pr-") as directory, Rig(Path(directory), ()) as rig:
        rig.install(NAME, good(NAME))
        rig.client.call("load", names=[NAME])
        if options.count:
            print(*report(under_load(rig, options.count)), sep="\n", flush=True)
        if options.many:
            print("", *what_is_kept(rig, options.many), sep="\n")


class Result(NamedTuple):
    latencies: list[float]  # seconds, of the reloads that were to succeed
    broken: int  # edits that were refused, and left the old generation running
    seconds: float
    asked: int  # answers that the hammering client had
    ticker: "Ticks"
    others: dict[str, Any]  # see tests/faults/probe.py
    skipped: int  # by the daemon's own count, of all ten plugins


class Ticks(NamedTuple):
    """What a subscriber saw of the plugin."""

    collections: int
    due: int  # between the first and the last
    missed: int
    wrong_steps: int  # collections lost or doubled, by the plugin's own count
    rates: list[float]  # of a clock
    rates_missing: int


def broken_edits() -> list[str]:
    """Return versions that cannot be loaded: no Python, an import that raises, a first collection that raises."""
    source = good(NAME)
    return [
        source + "\n)\n",
        source + '\nraise RuntimeError("not today")\n',
        source.replace(COUNT_LINE, f'{COUNT_LINE}        raise RuntimeError("not today")\n'),
    ]


def under_load(rig: Rig, count: int) -> Result:
    """Reload so often, as fast as it goes."""
    rig.client.call("subscribe", patterns=[NAME])  # It reads its samples with every answer.
    latencies, broken = [], 0
    skipped = rig.skipped() + rig.stats(NAME)["skipped"]
    edits = broken_edits()
    with hammering(rig.daemon.socket) as hammer:
        rig.probe.figures()
        began = time.monotonic()
        for number in range(count):
            if number % BROKEN_EVERY == BROKEN_EVERY - 1:
                broken += refuse(rig, edits[number // BROKEN_EVERY % len(edits)])
            else:
                latencies.append(reload(rig, number))
        seconds = time.monotonic() - began
        others = rig.probe.figures()
        asked = int(hammer.communicate(b"\n")[0])
    ticks = look(rig.client.notifications)
    skipped = rig.skipped() + rig.stats(NAME)["skipped"] - skipped
    return Result(latencies, broken, seconds, asked, ticks, others, skipped)


def reload(rig: Rig, number: int) -> float:
    """Reload another good version; return the seconds that the answer took."""
    rig.install(NAME, f"{good(NAME)}\n# {number}\n")
    began = time.perf_counter()
    answer = rig.client.call("reload", names=[NAME])
    seconds = time.perf_counter() - began
    if answer["reloaded"] != [NAME]:
        raise RuntimeError(f"reload {number}: {answer}")
    return seconds


def refuse(rig: Rig, source: str) -> bool:
    """Reload a broken version; whether it was refused and the old generation, the same process, runs on."""
    before = rig.row(NAME)
    rig.install(NAME, source)
    answer = rig.client.call("reload", names=[NAME])
    after = rig.row(NAME)
    kept = [(row["state"], row["generation"], row["pid"], row["sha256"]) for row in (before, after)]
    if [each["name"] for each in answer["failed"]] != [NAME] or kept[0] != kept[1]:
        raise RuntimeError(f"a broken edit: {answer}, {before}, {after}")
    return True


def look(notifications: list[tuple[str, dict[str, Any]]]) -> Ticks:
    """Return what the notifications say."""
    missed = wrong = absent = 0
    rates: list[float] = []
    first = 0
    last: tuple[int, float] | None = None
    for _, params in notifications:
        values = {each["name"]: each for each in params["samples"]}
        tick, counted = int((params["time"] + EARLY) // INTERVAL), values["good.collections"]["value"]
        if last is None:
            first = tick
        else:
            missed += max(0, tick - last[0] - 1)
            wrong += counted - last[1] != 1
            rate = values["good.uptime"]["rate"]
            if rate is None:
                absent += 1
            else:
                rates.append(rate)
        last = tick, counted
    due = 0 if last is None else last[0] - first + 1
    return Ticks(len(notifications), due, missed, wrong, rates, absent)


def report(result: Result) -> list[str]:
    """Return the lines that tell it."""
    latencies, ticker, others = result.latencies, result.ticker, result.others
    negative = sum(rate < 0 for rate in ticker.rates)
    doubled = sum(not 0.5 < rate < 1.5 for rate in ticker.rates)
    return [
        (
            f"{len(latencies)} reloads and {result.broken} broken edits that were refused, in {result.seconds:.1f} s, "
            f"with {result.asked / result.seconds:,.0f} answers a second to another client"
        ),
        (
            f"reload: p50 {percentile(latencies, 0.5) * 1e3:.1f} ms, p99 {percentile(latencies, 0.99) * 1e3:.1f} ms, "
            f"max {max(latencies) * 1e3:.1f} ms (aim: below 30 and 100)"
        ),
        (
            f"its ticks: {ticker.collections} collections of {ticker.due} that were due, {ticker.missed} missed, "
            f"{ticker.wrong_steps} lost or doubled (aim: 0)"
        ),
        (
            f"rate of a clock: {min(ticker.rates):.3f} to {max(ticker.rates):.3f} per second; {negative} negative, "
            f"{doubled} below a half or above one and a half, {ticker.rates_missing} missing (aim: 0)"
        ),
        (
            f"the others: {others['samples']} collections, {others['missed']} missed, {others['wrong_steps']} lost or "
            f"doubled; late at most {others['late_max'] * 1e3:.1f} ms, p99 {others['late_p99'] * 1e3:.1f} ms"
        ),
        (
            f"all ten, by the daemon's count: {result.skipped} ticks skipped; "
            f"ping p99 {others['ping_p99'] * 1e3:.1f} ms, list p99 {others['list_p99'] * 1e3:.1f} ms, "
            f"stall of the machine {others['stall'] * 1e3:.1f} ms, "
            f"load average {os.getloadavg()[0]:.1f}"
        ),
    ]


class Kept(NamedTuple):
    """What the daemon has."""

    rss_kib: int  # /proc/PID/status, VmRSS
    descriptors: int
    threads: int
    processes: int

    @classmethod
    def of(cls, rig: Rig) -> "Kept":
        status = Path(f"/proc/{rig.daemon.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return cls(
            int(fields["VmRSS"].split()[0]), rig.descriptors(), int(fields["Threads"]), len(rig.processes())
        )  # fmt: skip


def what_is_kept(rig: Rig, count: int) -> list[str]:
    """Reload so often; return the lines that tell what the daemon had before and has after."""
    for number in range(WARM_UP):
        reload(rig, number)
    before, began = Kept.of(rig), time.monotonic()
    lines = [f"after {WARM_UP} to warm up: {before}"]
    for number in range(count):
        reload(rig, number)
        if number + 1 in (count // 4, count // 2):
            lines.append(f"after {number + 1:,} more: {Kept.of(rig)}")
    after = Kept.of(rig)
    return [
        *lines,
        f"after {count:,} more, {time.monotonic() - began:.0f} s later: {after}",
        (
            f"drift: {(after.rss_kib - before.rss_kib) / 1024:+.2f} MiB (aim: below 1), "
            f"{after.descriptors - before.descriptors:+} descriptors, {after.threads - before.threads:+} threads, "
            f"{after.processes - before.processes:+} processes (aim: 0)"
        ),
    ]


@contextlib.contextmanager
def hammering(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client that asks as fast as it is answered; a line on its stdin ends it, and it prints how often."""
    command = [sys.executable, __file__, "--hammer", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def hammer(path: Path) -> None:
    """Ask for ``list`` until there is something on stdin."""
    os.set_blocking(0, False)
    count = 0
    with Client(path) as client:
        while True:
            with contextlib.suppress(BlockingIOError):
                os.read(0, 1)
                break
            client.call("list")
            count += 1
    print(count)


if __name__ == "__main__":
    main()
