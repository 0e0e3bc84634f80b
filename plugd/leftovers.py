"""What plugins have started and a daemon that was killed could not end.

Workers die with the daemon: the kernel sees to it. What they have started does not, and belongs to nobody then. All
of it has a mark in its environment, proc(5), unless a plugin has taken pains to start it without: the forkserver, whose
channel ends with the daemon, kills what has the mark of its own, and of daemons that are no more.
"""

import os
import signal
import time
from collections.abc import Callable

VARIABLE = "PLUGD_RUN"
ROUNDS = 50  # of looking for processes that were forked while others were being killed
PAUSE = 0.02  # seconds between them


def mark_of(pid: int) -> str:
    """Return the mark of a daemon: its pid, when it started, in ticks since boot, and where its pid is one.

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read()
    return f"{pid}.{int(text[text.rindex(b')') + 2 :].split()[19])}.{_namespace()}"


def is_of_dead_daemon(mark: str) -> bool:
    """Whether a mark is that of a daemon which is no more.

    One in a container has a pid of its own there, and by it cannot be found from outside: it is taken for alive.
    """
    if mark.rpartition(".")[2] != _namespace():
        return False
    try:
        return mark_of(int(mark.partition(".")[0])) != mark
    except (OSError, ValueError):
        return True


def kill_marked(condemned: Callable[[str], bool]) -> None:
    """Kill all other processes whose mark is condemned, and what they fork meanwhile."""
    for _ in range(ROUNDS):
        found = [pid for pid, mark in _marked() if condemned(mark)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # It has ended; or it has more rights than this process.
        time.sleep(PAUSE)


def _namespace() -> str:
    """Return what tells this process's PID namespace from others: pid_namespaces(7)."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:  # This kernel knows of none.
        return "0"


def _marked() -> list[tuple[int, str]]:
    """The processes with a mark, but for this one; those that have ended have no environment."""
    prefix = f"{VARIABLE}=".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue  # Somebody else's, or gone.
        marks = [variable[len(prefix) :] for variable in variables if variable.startswith(prefix)]
        if marks:
            found.append((int(name), marks[0].decode(errors="replace")))
    return found
