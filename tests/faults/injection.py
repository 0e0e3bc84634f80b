"""System calls that fail at their Nth call, under a daemon at work: strace(1) puts the fault in.

``python tests/faults/injection.py --to 200`` does it for each N from 1 to 200, and prints a line for each kind.
"""

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Daemon, Daemons, RpcError, children, daemons, wait_until

DOCUMENTED_EXITS = (0, 64, 69, 73, 78)
PATIENCE = 10.0  # seconds for the Nth call to come
PLUGINS = 3

PLUGIN = '''"""Answers quickly."""
from plugd.plugin import Gauge, Plugin
class {name}(Plugin):
    interval = 0.1
    value = Gauge("test.value")
    def collect(self):
        yield self.value(1.0)
'''


class Fault(NamedTuple):
    """Which calls fail, how, and in which process: the daemon with its threads, or its forkserver."""

    calls: str
    error: str
    process: str = "plugd"


FAULTS = {
    "accept": Fault("accept,accept4", "EMFILE"),
    "accept-aborted": Fault("accept,accept4", "ECONNABORTED"),
    "read": Fault("read,recvfrom,recvmsg", "EIO"),
    "read-interrupted": Fault("read,recvfrom,recvmsg", "EINTR"),
    "write": Fault("write,sendto,sendmsg", "EIO"),
    "write-full": Fault("write,sendto,sendmsg", "ENOSPC"),
    "open": Fault("open,openat", "EMFILE"),
    "mmap": Fault("mmap", "ENOMEM"),
    "fork": Fault("fork,vfork,clone,clone3", "EAGAIN", "plugd:forksrv"),
    "forkserver-read": Fault("read,recvfrom,recvmsg", "EIO", "plugd:forksrv"),
    "forkserver-write": Fault("write,sendto,sendmsg", "EIO", "plugd:forksrv"),
    "forkserver-open": Fault("open,openat", "EMFILE", "plugd:forksrv"),
}


class Outcome(NamedTuple):
    """What became of it: whether the fault was put in, and the exit status of a daemon that has ended."""

    hit: bool
    status: int | None


def start(daemons: Daemons) -> Daemon:
    """Start a daemon with a few quick plugins."""
    names = [f"quick{number}" for number in range(PLUGINS)]
    # What is received is read into memory fresh from the kernel, so that there are calls to fail.
    allocator = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TOP_PAD_": "0", "MALLOC_TRIM_THRESHOLD_": "0"}
    return daemons(plugins={name: PLUGIN.format(name=name.title()) for name in names}, environ=allocator)


def inject(daemon: Daemon, fault: Fault, nth: int) -> Outcome:
    """Have the Nth of these calls fail while the daemon works; return when it has, and the daemon is well again."""
    trace = daemon.directory / "trace"
    trace.unlink(missing_ok=True)
    with tracing(target(daemon, fault.process), fault, nth, trace):
        end = time.monotonic() + PATIENCE
        work = working(daemon)
        while not (hit := "INJECTED" in trace.read_text(errors="replace")) and time.monotonic() < end:
            if daemon.process.poll() is not None:
                break
            next(work)
    wait_until(
        lambda: daemon.process.poll() is not None or is_well(daemon), f"a daemon that is well\n{daemon.log[-2000:]}"
    )
    return Outcome(hit, daemon.process.poll())


@contextlib.contextmanager
def tracing(pid: int, fault: Fault, nth: int, trace: Path) -> Iterator[None]:
    """Hold strace to a process; it lets go of it at the end."""
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={fault.calls}"]
    command += ["-e", f"inject={fault.calls}:error={fault.error}:when={nth}", "-p", str(pid)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            line = strace.stderr.readline()
            assert "attached" in line, line
            wait_until(trace.exists, "strace's file")
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()


def working(daemon: Daemon) -> Iterator[None]:
    """Keep the daemon at work, a little more at each step; whatever a client is told, or not told, is right."""
    for number in itertools.count():
        with contextlib.suppress(OSError, RpcError), daemon.client() as client:
            client.socket.settimeout(2)
            client.call("list")
            client.call("stats")
            client.call("reload", names=[f"quick{number % PLUGINS}"])
        yield


def is_well(daemon: Daemon) -> bool:
    """Whether it answers, and runs all that it should."""
    try:
        return [row["state"] for row in daemon.call("list")] == ["running"] * PLUGINS
    except (OSError, RpcError):
        return False


def target(daemon: Daemon, name: str) -> int:
    """Return the pid of the daemon, or of its forkserver."""
    if name == "plugd":
        return daemon.pid
    work = working(daemon)

    def find() -> int | None:
        next(work)  # A forkserver that has ended is started again when there is something to fork.
        return next((pid for pid, (command, _) in children(daemon.pid).items() if command == name), None)

    return int(wait_until(find, name))


def main() -> int:
    """Put every fault in at every call; return 1 if one of them ended a daemon without a documented status."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--to", type=int, default=200, help="N from 1 to this")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", choices=FAULTS, action="append")
    arguments = parser.parse_args()
    bad = 0
    for name in arguments.only or FAULTS:
        with daemons() as started:
            daemon = start(started)
            numbers = range(1, arguments.to + 1, arguments.step)
            hits, exits = 0, []
            began = time.monotonic()
            for nth in numbers:
                outcome = inject(daemon, FAULTS[name], nth)
                if not outcome.hit:
                    break  # It is not called so often by one process.
                hits += 1
                if outcome.status is not None:
                    exits.append((nth, outcome.status))
                    bad += outcome.status not in DOCUMENTED_EXITS
                    print(daemon.log[-1500:], flush=True)
                    daemon = start(started)
            descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
            seconds = time.monotonic() - began
            print(
                f"{name:18} {FAULTS[name].error:12} N = 1..{numbers[-1]}: put in {hits} times, "
                f"alive {hits - len(exits)}, exits {exits or 'none'}, {descriptors} descriptors, {seconds:.0f} s",
                flush=True,
            )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
