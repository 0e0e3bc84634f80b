"""The control socket under attack: ``python bench/hostile.py [--seconds S] [--same-user] [--json FILE]``.

A daemon of its own with nine plugins at 100 ms is attacked by 1,000 slow-loris clients, 200 subscribers that stop
reading and 5,000 connects a second, spread over eight users if root runs this. Meanwhile root calls ``list``, on one
connection and on new ones, and hears the plugins' samples. Told is what root has felt, what the plugins have missed,
and what memory the daemon has kept.

The attackers' 5,000 connects a second are those of the flood; lorises and subscribers that were refused come again
after ``--retry`` seconds, on top of it, and those that were dropped at once.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from attackers import BEAT, DEAF, FLOOD, LORIS, Settings
from harness import Daemon, compile_bytecode, cost_of, program

GOOD = pathlib.Path(__file__).resolve().parent.parent / "tests" / "faults" / "good.py"
NAMES = tuple(f"good_{letter}" for letter in "abcdefghi")
INTERVAL = 0.1  # seconds, of these plugins
EARLY = 0.002  # seconds by which a tick may come before its time
FIRST_UID = 60001
ATTACKERS = 8  # processes, and users
LEAD = 2.0  # seconds for the attackers to start
AFTER = 10.0  # seconds, after which memory must have come back
PATIENCE = 30.0  # seconds
WITNESSES = {"asking": 0.02, "coming": 0.1, "hearing": 0.0}  # their periods, in seconds
LIST_P99 = 0.05  # seconds
RSS_BYTES = 5_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the attack (default: 60)")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds that are measured before it (default: 10)")
    parser.add_argument("--loris", type=int, default=1000)
    parser.add_argument("--deaf", type=int, default=200)
    parser.add_argument("--connects", type=float, default=5000.0, help="per second")
    parser.add_argument("--retry", type=float, default=1.0, help="seconds until one that was refused comes again")
    parser.add_argument("--same-user", action="store_true", help="attack as the user who runs this, root's lot too")
    parser.add_argument("--answered", action="store_true", help="have each loris make one good request first")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write all figures there, too")
    options = parser.parse_args()
    if os.geteuid():
        options.same_user = True
    compile_bytecode()  # The daemon is not to have memory of that.
    sources = {name: good(name) for name in NAMES}
    with Daemon((), '[control]\nmode = "0666"\n', sources) as daemon:
        os.chmod(os.path.dirname(daemon.socket), 0o711)  # The attackers are other users.
        time.sleep(3)
        results = measure(daemon, options)
    print(*report(results, options), sep="\n")
    if options.json:
        results["options"] = {key: value for key, value in vars(options).items() if key != "json"}
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def good(name: str) -> str:
    """Return the source of a well-behaved plugin."""
    title = "".join(part.capitalize() for part in name.split("_"))
    return GOOD.read_text().replace("class Good(", f"class {title}(")


def measure(daemon: Daemon, options: argparse.Namespace) -> dict[str, Any]:
    """Look at the daemon in quiet, attack it, and look at it again."""
    results: dict[str, Any] = {"load": [os.getloadavg()[0]]}
    with witnesses(daemon, time.monotonic() + 0.5, options.quiet) as running:
        results["quiet"] = outputs(running, options.quiet)
    before = Moment.of(daemon)
    start = time.monotonic() + LEAD
    with witnesses(daemon, start, options.seconds) as seeing, attackers(daemon, options, start) as attacking:
        time.sleep(max(0.0, start - time.monotonic()))
        cpu_ns = cost_of(daemon.pid).cpu_ns
        with Watch(daemon.pid) as watch:
            time.sleep(max(0.0, start + options.seconds - time.monotonic()))
            results["cpu_share"] = (cost_of(daemon.pid).cpu_ns - cpu_ns) / options.seconds / 1e9
            attacks = list(outputs(attacking, PATIENCE).values())
        ended = time.monotonic()
        results["attacked"] = outputs(seeing, PATIENCE)
        results["load"].append(os.getloadavg()[0])
    results["attack"] = joined(attacks)
    results["attack"]["cpu_share"] = sum(each["cpu"] for each in attacks) / options.seconds
    time.sleep(max(0.0, ended + AFTER - time.monotonic()))
    rss = rss_of(daemon.pid)
    after = Moment.of(daemon)
    results["rss"] = {"before": before.rss, "peak": max(watch.rss), "after": rss, "each_second": watch.rss[::10]}
    results["descriptors"] = {"before": before.descriptors, "peak": max(watch.descriptors), "after": after.descriptors}
    results["ticks"] = {name: before.ticks[name].until(after.ticks[name]) for name in NAMES}
    results["control"] = {key: value - before.control.get(key, 0) for key, value in after.control.items()}
    return results


class Ticks(NamedTuple):
    """How far a plugin has come."""

    tick: int  # its latest, in intervals since the epoch
    collections: float  # by its own count
    skipped: int
    failures: int
    late_max: float  # seconds, since it was loaded

    @classmethod
    def of(cls, name: str, stats: dict[str, Any]) -> "Ticks":
        plugin = stats["plugins"][name]
        (row,) = (each for each in stats["metrics"] if (each["plugin"], each["name"]) == (name, "good.collections"))
        tick = int((row["time"] + EARLY) // INTERVAL)
        failures = plugin["failures"] + plugin["timeouts"] + plugin["restarts"]
        return cls(tick, row["value"], plugin["skipped"], failures, plugin["late_max"])

    def until(self, after: "Ticks") -> dict[str, float]:
        return {
            "ticks": after.tick - self.tick,
            "missed": after.tick - self.tick - (after.collections - self.collections),
            "skipped": after.skipped - self.skipped,
            "failures": after.failures - self.failures,
            "late_max_before": self.late_max,
            "late_max": after.late_max,
        }


class Moment(NamedTuple):
    """The daemon at a moment without attackers."""

    control: dict[str, int]
    ticks: dict[str, Ticks]
    rss: int
    descriptors: int

    @classmethod
    def of(cls, daemon: Daemon) -> "Moment":
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                status, stats = daemon.request("status"), daemon.request("stats")
                break
            except (OSError, RuntimeError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        ticks = {name: Ticks.of(name, stats) for name in NAMES}
        return cls(status["control"], ticks, rss_of(daemon.pid), descriptors_of(daemon.pid))


class Watch:
    """Looks ten times a second at the daemon's memory and descriptors; a context manager."""

    def __init__(self, pid: int) -> None:
        self.rss: list[int] = []
        self.descriptors: list[int] = []
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # It has died, which others tell.
                self.rss.append(rss_of(self._pid))
                self.descriptors.append(descriptors_of(self._pid))
            if self._end.wait(0.1):
                return


def rss_of(pid: int) -> int:
    """Return resident bytes: /proc/PID/statm."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def witnesses(daemon: Daemon, start: float, seconds: float) -> Any:
    """Run the honest clients; give their processes by name."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(program("witness.py", kind, daemon.socket, str(period), str(start), str(seconds)))
            for kind, period in WITNESSES.items()
        }


@contextlib.contextmanager
def attackers(daemon: Daemon, options: argparse.Namespace, start: float) -> Any:
    """Run the attackers; give their processes."""
    with contextlib.ExitStack() as stack:
        running = {}
        for number in range(ATTACKERS):
            settings = Settings(
                path=daemon.socket,
                uid=None if options.same_user else FIRST_UID + number,
                loris=share(options.loris, number),
                deaf=share(options.deaf, number),
                connects=options.connects / ATTACKERS,
                start=start + number * BEAT / ATTACKERS,
                seconds=options.seconds,
                retry=options.retry,
                answered=options.answered,
            )
            running[str(number)] = stack.enter_context(program("attackers.py", json.dumps(settings._asdict())))
        yield running


def share(total: int, number: int) -> int:
    return total // ATTACKERS + (number < total % ATTACKERS)


def outputs(running: dict[str, "subprocess.Popen[str]"], patience: float) -> dict[str, Any]:
    """Return what processes print at their end."""
    found = {}
    for name, process in running.items():
        text = process.communicate(timeout=patience + PATIENCE)[0]
        if process.returncode:
            raise RuntimeError(f"{name} ended with status {process.returncode}")
        found[name] = json.loads(text)
    return found


def joined(attacks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what came of all attackers together."""
    counts: Counter[str] = Counter()
    for each in attacks:
        counts.update(each["counts"])
    seconds = list(zip(*(each["held"] for each in attacks), strict=False))
    return {
        "counts": counts,
        "held": {kind: [sum(each[kind] for each in second) for second in seconds] for kind in (LORIS, DEAF)},
    }


def report(results: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return the lines that tell it."""
    attack, counts = results["attack"], results["attack"]["counts"]
    control, rss, descriptors = results["control"], results["rss"], results["descriptors"]
    users = "one user, root's lot too" if options.same_user else f"{ATTACKERS} users"
    lines = [
        (
            f"attack     {options.seconds:.0f} s by {users}; {results['cpu_share']:.0%} of a core for the daemon, "
            f"{attack['cpu_share']:.0%} for the attackers; load average {results['load'][0]:.1f} before, "
            f"{results['load'][1]:.1f} after"
        ),
    ]
    for kind in (FLOOD, LORIS, DEAF):
        told = ", ".join(
            f"{key.split()[1]} {value:,}" for key, value in sorted(counts.items()) if key.split()[0] == kind
        )
        held = attack["held"].get(kind)
        at_most = f"; held at most {max(held, default=0)}, at the end {held[-1] if held else 0}" if held else ""
        rate = counts.get(f"{kind} connects", 0) / options.seconds
        lines.append(f"{kind:11}{rate:,.0f} connects/s: {told}{at_most}")
    lines += [
        "daemon     " + ", ".join(f"{key} {value:,}" for key, value in sorted(control.items()) if value),
        (
            f"           descriptors {descriptors['before']} before, {descriptors['peak']} at most, "
            f"{descriptors['after']} after; RSS MB {rss['before'] / 1e6:.1f} before, {rss['peak'] / 1e6:.1f} at most, "
            f"{rss['after'] / 1e6:.1f} {AFTER:.0f} s after"
        ),
        "",
        (
            f"{'root':19}{'answers':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'p99 due':>9}{'max due':>9}"
            f"{'stall':>9}  failures"
        ),
    ]
    for phase in ("quiet", "attacked"):
        for kind in ("asking", "coming"):
            row = results[phase][kind]
            times = [row[key] for key in ("p50", "p99", "max", "p99_due", "max_due", "stall")]
            lines.append(
                f"{phase + ', ' + kind:19}{row['answers']:9,}" + "".join(f"{value * 1e3:9.1f}" for value in times)
                + f"  {told_failures(row)}"
            )  # fmt: skip
    lines += ["", f"{'hearing':19}{'samples':>9}{'missed':>9}{'late p50':>9}{'p99':>9}{'max ms':>9}  failures"]
    for phase in ("quiet", "attacked"):
        row = results[phase]["hearing"]
        times = [row[key] for key in ("late_p50", "late_p99", "late_max")]
        lines.append(
            f"{phase:19}{row['samples']:9,}{row['missed']:9}" + "".join(f"{value * 1e3:9.1f}" for value in times)
            + f"  {told_failures(row)}"
        )  # fmt: skip
    lines += ["", f"{'plugin':19}{'ticks':>9}{'missed':>9}{'skipped':>9}{'failures':>9}{'late_max ms, before':>21}"]
    for name, row in results["ticks"].items():
        lines.append(
            f"{name:19}{row['ticks']:9}{row['missed']:9.0f}{row['skipped']:9}{row['failures']:9}"
            f"{row['late_max'] * 1e3:12.1f}{row['late_max_before'] * 1e3:9.1f}"
        )
    return [*lines, "", *verdict(results, options)]


def told_failures(row: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {text}" for text, count in row["failures"].items()) or "none"


def verdict(results: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return a line for each aim."""
    attacked, ticks, rss = results["attacked"], results["ticks"].values(), results["rss"]
    connects = results["attack"]["counts"].get(f"{FLOOD} connects", 0) / options.seconds
    missed = sum(row["missed"] for row in ticks)
    skipped = sum(row["skipped"] for row in ticks)
    kept = rss["after"] - rss["before"]
    lines = [
        (f"the load was as asked: {connects:,.0f} connects/s", connects >= 0.98 * options.connects),
        *(
            (
                f"root's list {word} p99 {row['p99'] * 1e3:.1f} ms, {sum(row['failures'].values())} failures",
                row["p99"] < LIST_P99 and not row["failures"] and row["answers"] > 0,
            )
            for word, row in (("on one connection", attacked["asking"]), ("on new connections", attacked["coming"]))
        ),
        (f"ticks missed {missed:.0f}, skipped {skipped}, of {sum(row['ticks'] for row in ticks):,}",
         missed == skipped == 0),
        (f"RSS is {kept / 1e6:+.1f} MB from where it was", kept <= RSS_BYTES),
    ]  # fmt: skip
    return [f"{text:64}{'met' if holds else 'NOT MET'}" for text, holds in lines]


if __name__ == "__main__":
    main()
