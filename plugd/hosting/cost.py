"""What a process costs, read from outside: /proc/PID/stat, proc(5)."""

import os
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")  # per second
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Cost(NamedTuple):
    """CPU seconds in user and system mode, of the process and its reaped children; resident bytes."""

    cpu_seconds: float
    memory_bytes: int


def cost_of(pid: int) -> Cost:
    """Return the cost of a process so far; nothing where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return parse_stat(file.read())
    except OSError:
        return Cost(0.0, 0)  # It has ended since.


def parse_stat(text: bytes) -> Cost:
    """Return the cost that a line of /proc/PID/stat states."""
    fields = text[text.rindex(b")") + 2 :].split()  # The name in parentheses may hold anything.
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return Cost((utime + stime + cutime + cstime) / _TICKS, int(fields[21]) * _PAGE_BYTES)
