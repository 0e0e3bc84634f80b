"""A hundred restarts under clients that ask without a pause: ``python bench/restarts.py [--count N] [--release NAME]``.

On a machine with a booted systemd, on which the Debian package is installed, as tests/systemd has them; run as root.
One client makes a connection for every request, the other keeps its own. Exits with 1 if a request has failed.
"""

import argparse
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:1] = [str(TESTS / "systemd"), str(TESTS)]  # bench/harness.py is another one

import deb  # noqa: E402
from machine import booted, require_means  # noqa: E402
from restarts import Clients, busy_clients  # noqa: E402
from service import Service  # noqa: E402
from tree import RELEASES, Release, UnavailableError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="restarts (default: 100)")
    parser.add_argument("--release", choices=RELEASES, default="bookworm", help="of Debian (default: bookworm)")
    options = parser.parse_args()
    try:
        require_means()
        clients, took = measure(RELEASES[options.release], options.count)
    except UnavailableError as error:
        parser.error(str(error))
    print(*report(clients, took), sep="\n")
    return 1 if clients.failed else 0


def measure(release: Release, count: int) -> tuple[Clients, list[float]]:
    """Restart plugd so many times; return what the clients saw, and how long each restart took, in seconds."""
    package = deb.built(release)
    took = []
    with booted(release) as machine:
        machine.copy_in(package, "/var/tmp/plugd.deb")
        machine.output("dpkg", "--install", "/var/tmp/plugd.deb")
        machine.output("usermod", "--append", "--groups", "plugd", "alice")
        plugd = Service(machine)
        with busy_clients(machine) as clients:
            for _ in range(count):
                begin = time.monotonic()
                plugd.must("restart")
                took.append(time.monotonic() - begin)
    return clients, took


def report(clients: Clients, took: list[float]) -> list[str]:
    """Return the lines to print."""
    took = sorted(took)
    times = f"{took[len(took) // 2] * 1000:.0f} ms in the median, {took[-1] * 1000:.0f} ms at most"
    lines = [f"{len(took)} restarts; `systemctl restart plugd` took {times}"]
    for way, tally in clients.tallies.items():
        lines.append(
            f"{way:<8} {tally['answered']:>7,} requests answered, {len(tally['failed'])} failed, "
            f"{tally['sent_anew']} sent anew, {tally['connections']:,} connections, "
            f"worst wait {tally['worst'] * 1000:.0f} ms"
        )
    return [*lines, *clients.failed]


if __name__ == "__main__":
    sys.exit(main())
