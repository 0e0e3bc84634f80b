"""The processes that a process has started, as /proc has them, proc(5); and how to be rid of all of them."""

import os
import signal
from collections.abc import Iterable

ROUNDS = 16  # of looking for processes that were forked while the others were being stopped


def children_of(pid: int, threads: int = 0) -> list[int]:
    """Return the children of all threads of a process: /proc/PID/task/TID/children, proc(5).

    Args:
        pid: of the process.
        threads: how many it has; with 1, the only one needs not be looked for.
    """
    children: list[int] = []
    try:
        for thread in (pid,) if threads == 1 else os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                children += map(int, file.readall().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # It, or one of its threads, has ended since.
    return children


def descendants_of(pid: int) -> list[int]:
    """Return the children, their children and so on, parents before their children."""
    found: list[int] = []
    waiting = children_of(pid)
    while waiting:
        found += waiting
        waiting = [child for parent in waiting for child in children_of(parent)]
    return found


def stop_descendants(pid: int) -> set[int]:
    """Stop all that a process has started, and return it, to be killed.

    While one of them runs, it may fork faster than it is found.
    """
    seen: set[int] = set()
    for _ in range(ROUNDS):
        fresh = [each for each in descendants_of(pid) if each not in seen]
        if not fresh:
            break
        seen.update(fresh)
        signal_all(fresh, signal.SIGSTOP)
    return seen


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that is still there and may be sent one."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # It has ended; or it has more rights than this process, which then can do nothing.
