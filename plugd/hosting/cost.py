"""What a process costs, read from outside: /proc/PID/stat, proc(5)."""

import os
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")  # per second
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Cost(NamedTuple):
    """What a process has used: CPU seconds with those of its reaped children, and resident bytes now."""

    cpu_seconds: float
    memory_bytes: int
    threads: int = 1


GONE = Cost(0.0, 0, 0)


def cost_of(pid: int) -> Cost:
    """Return the cost of a process so far; nothing where it is gone."""
    try:
        return parse_stat(read_file(f"/proc/{pid}/stat"))
    except OSError:
        return GONE  # It has ended since.


def parse_stat(text: bytes) -> Cost:
    """Return the cost that a line of /proc/PID/stat states."""
    fields = text[text.rindex(b")") + 2 :].split()  # The name in parentheses may hold anything.
    ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])  # utime stime cutime cstime
    return Cost(ticks / _TICKS, int(fields[21]) * _PAGE_BYTES, int(fields[17]))


def read_file(path: str) -> bytes:
    """Return the contents of a small file of /proc.

    Raises:
        OSError: it cannot be read; its process may have ended.
    """
    # Half of what open() costs, for what is read twenty times a second.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
