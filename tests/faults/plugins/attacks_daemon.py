"""Tries what a process can do to another one, on the daemon, in its third collection.

Each attempt is a series whose value is 1 where it succeeded. What would change something sets what is there.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterable

from plugd.plugin import Gauge, Plugin, Sample

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206  # sys/ptrace.h
PIDFD_GETFD = 438  # of every architecture: asm-generic/unistd.h

libc = ctypes.CDLL(None, use_errno=True)


class AttacksDaemon(Plugin):
    interval = 0.1  # seconds

    succeeded = Gauge("fault.succeeded", labels=("attempt",))

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        if self.count == 3:
            daemon = os.getppid()
            self.results = {name: succeeds(attempt, daemon) for name, attempt in ATTEMPTS.items()}
        if self.count >= 3:
            for name, result in self.results.items():
                yield self.succeeded(result, attempt=name)


def succeeds(attempt: Callable[[int], object], pid: int) -> bool:
    try:
        attempt(pid)
    except OSError as error:
        return not isinstance(error, PermissionError)
    return True


def call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def read_memory(pid: int) -> None:
    with open(f"/proc/{pid}/mem", "rb") as file:
        file.read(1)


def write_memory(pid: int) -> None:
    with open(f"/proc/{pid}/mem", "r+b") as file:
        file.write(b"x")


def take_descriptor(pid: int) -> None:
    call(libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), 0, 0))


ATTEMPTS: dict[str, Callable[[int], object]] = {
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
    "stop": lambda pid: os.kill(pid, signal.SIGSTOP),
    "terminate": lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM),
    "killpg": lambda pid: os.killpg(os.getpgid(pid), signal.SIGKILL),
    "ptrace attach": lambda pid: call(libc.ptrace(PTRACE_ATTACH, pid, None, None)),
    "ptrace seize": lambda pid: call(libc.ptrace(PTRACE_SEIZE, pid, None, None)),
    "read memory": read_memory,
    "write memory": write_memory,
    "take descriptor": take_descriptor,
    "environment": lambda pid: open(f"/proc/{pid}/environ", "rb").close(),
    "limits": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE)),
    "priority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid)),
    "affinity": lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(pid)),
}
