"""Every fault of tests/faults against one daemon, a line each: ``python bench/faults.py [NAME...] [--uid UID]``.

Other plugins' missed ticks and greatest lateness, and the answers of the control socket, as a process of its own sees
them meanwhile; ``stall`` is by how much that process itself was woken late, which is the machine's doing.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:1] = [str(TESTS / "faults"), str(TESTS)]  # bench/harness.py is another one

from matrix import FAULTS  # noqa: E402
from rig import Outcome, Rig, run_fault  # noqa: E402

COLUMNS = (
    f"{'fault':26}{'state':9}{'s':>6}{'missed':>8}{'late ms':>9}{'ping p99':>10}{'max':>7}{'list p99':>10}{'max':>7}"
    f"{'stall':>7}  why, or what is wrong"
)
TIMES = {"late_max": 9, "ping_p99": 10, "ping_max": 7, "list_p99": 10, "list_max": 7, "stall": 7}  # their widths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these faults")
    parser.add_argument("--uid", type=int, help="have the daemon run as this user; needs root")
    parser.add_argument("--linger", type=float, default=2.0, help="seconds that each fault is let be (default: 2)")
    options = parser.parse_args()
    chosen = tuple(each for each in FAULTS if not options.names or each.name in options.names)
    print(COLUMNS)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="pf-") as directory, Rig(Path(directory), chosen, options.uid) as rig:
        for fault in chosen:
            outcomes.append(run_fault(rig, fault, linger=options.linger))
            print(line(outcomes[-1]), flush=True)
    print(*summary(outcomes), sep="\n")


def line(outcome: Outcome) -> str:
    """Return one fault's line; times in milliseconds."""
    head = f"{outcome.name:26}{outcome.state:9}{outcome.seconds:6.1f}"
    probe = outcome.probe
    if not probe:
        return f"{head}  PROBLEM: {'; '.join(outcome.problems)}"
    times = [f"{probe[key] * 1e3:{width}.1f}" for key, width in TIMES.items()]
    text = f"PROBLEM: {'; '.join(outcome.problems)}" if outcome.problems else outcome.why
    return f"{head}{max(probe['missed'], outcome.skipped):8}{''.join(times)}  {text[:200]}"


def summary(outcomes: list[Outcome]) -> list[str]:
    """Return the lines below the table."""
    probes = [each.probe for each in outcomes if each.probe]
    return [
        "",
        (
            f"{len(outcomes)} faults in {sum(each.seconds for each in outcomes):.0f} s; "
            f"with problems: {[each.name for each in outcomes if each.problems] or 'none'}"
        ),
        (
            f"others' ticks: {sum(each['samples'] for each in probes)} collections, "
            f"{sum(each['missed'] for each in probes)} missed, {sum(each.skipped for each in outcomes)} skipped, "
            f"{sum(each['wrong_steps'] for each in probes)} lost or doubled; "
            f"rate of a clock {min(each['rate_min'] for each in probes):.3f} to "
            f"{max(each['rate_max'] for each in probes):.3f} per second"
        ),
        (
            f"worst: late {max(each['late_max'] for each in probes) * 1e3:.1f} ms, "
            f"ping p99 {max(each['ping_p99'] for each in probes) * 1e3:.1f} ms, "
            f"list p99 {max(each['list_p99'] for each in probes) * 1e3:.1f} ms (aim: below 50); "
            f"load average {os.getloadavg()[0]:.1f}"
        ),
    ]


if __name__ == "__main__":
    main()
