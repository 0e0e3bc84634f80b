"""A worker and all that it has started: found in /proc, stopped and killed as a whole.

Each worker is a child subreaper: what it starts stays below it, however often it forks and whatever session it
makes. What outlives its worker becomes a child of the daemon, which is a subreaper too, and is killed there.
"""

import os
import signal
from collections.abc import Iterable

from plugd.descendants import children_of, descendants_of, signal_all, stop_descendants
from plugd.hosting.cost import Cost, cost_of, read_file

ROUNDS = 16  # of looking at who is above whom, while processes end


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is a child of another, or a child's child and so on.

    Where /proc hides other users' processes (``hidepid``), one that is hidden is taken for none: what the ancestor
    starts can be seen by it, since no worker can change its user.

    Raises:
        ProcessLookupError: it has ended, be it reaped or not, so that nobody can tell.
        OSError: nobody can tell for another reason, such as for want of descriptors.
    """
    for _ in range(ROUNDS):
        each = pid
        try:
            while each > 1:
                text = read_file(f"/proc/{each}/stat")
                state, parent, _ = text[text.rindex(b")") + 2 :].split(maxsplit=2)
                if each == pid and state in b"ZX":
                    raise ProcessLookupError(f"process {pid} has ended")
                each = int(parent)
                if each == ancestor:
                    return True
        except FileNotFoundError:
            if not exists(each):
                if each == pid:
                    raise ProcessLookupError(f"process {pid} has ended") from None
                continue  # One above it has ended: it has another parent now.
        return False
    raise ProcessLookupError(f"what is above process {pid} keeps ending")


def exists(pid: int) -> bool:
    """Whether there is such a process, be it anybody's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def cost_of_tree(pid: int) -> Cost:
    """Return the cost of a process and its descendants; what they have in common is counted for each."""
    total = cost_of(pid)
    for child in children_of(pid, total.threads):
        cost = cost_of_tree(child)
        total = Cost(total.cpu_seconds + cost.cpu_seconds, total.memory_bytes + cost.memory_bytes, total.threads)
    return total


def kill_tree(pid: int, pidfd: int) -> None:
    """Kill a child of this process with all its descendants; returns at once, and they are not reaped.

    They are stopped first: while one of them runs, it may fork faster than it is found.
    """
    if not _signal(pidfd, signal.SIGSTOP):
        return
    signal_all(stop_descendants(pid), signal.SIGKILL)
    _signal(pidfd, signal.SIGKILL)


def kill_strays(known: Iterable[int]) -> int:
    """Kill and reap the children of this process that nobody knows: left behind by workers that are gone.

    Returns: how many there still are; a process that was killed may take a moment to end.
    """
    left = 0
    for pid in set(children_of(os.getpid())).difference(known):
        signal_all([*descendants_of(pid), pid], signal.SIGKILL)
        try:
            reaped, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # It has become somebody else's.
        left += not reaped
    return left


def _signal(pidfd: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
