"""The processes that a process has started, as /proc has them: proc(5)."""

import os


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
