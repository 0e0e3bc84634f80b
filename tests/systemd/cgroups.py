"""Control groups that a machine and all that is run in it are put into: cgroups(7)."""

import contextlib
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness import DEADLINE
from tree import UnavailableError

PREFIX = "plugd-test"


def new_name() -> str:
    """Return a name for a machine and its groups that no other run has: it tells which process is to remove them."""
    return f"{PREFIX}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def is_left(name: str) -> bool:
    """Whether a name is from :func:`new_name`, of a process that is no more."""
    pid = name.removeprefix(f"{PREFIX}-").partition("-")[0]
    return pid.isdigit() and not Path("/proc", pid).exists()


class Groups:
    """A group of one name in each hierarchy that systemd keeps track of processes in.

    systemd-nspawn makes groups with fixed names below the one that it is started in: two machines that are started
    in the same one are in each other's way.

    Args:
        name: of the groups, from :func:`new_name`.

    Raises:
        UnavailableError: if none can be made.
    """

    def __init__(self, name: str) -> None:
        parents = hierarchies(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if not parents:
            raise UnavailableError("no cgroup hierarchy is mounted that systemd could use", preventable=False)
        self.paths = tuple(parent / name for parent in parents)
        for parent in parents:
            _remove_empty(parent)
        try:
            for path in self.paths:
                (path / "commands").mkdir(parents=True)
        except OSError as error:
            self.remove()
            raise UnavailableError(f"cannot make a cgroup: {error}", preventable=False) from error

    @property
    def unified(self) -> bool:
        """Whether version 2 is among the hierarchies."""
        return any((path / "cgroup.controllers").exists() for path in self.paths)

    @property
    def for_commands(self) -> list[str]:
        """The groups of what is run in the machine from outside."""
        return [str(path / "commands") for path in self.paths]

    def processes(self) -> set[int]:
        """Return every process that is left in them."""
        return _processes(self.paths)

    def kill(self) -> None:
        """Kill all that is in them; return once it has gone."""
        _kill(self.processes)

    def kill_commands(self) -> None:
        """Kill what was run in the machine from outside; return once it has gone, and who waits for it, too.

        Who waits is outside: it is to reap what was inside, since nobody else may.
        """
        own = os.stat("/proc/self/ns/pid").st_ino
        paths = [Path(path) for path in self.for_commands]
        _kill(lambda: {pid for pid in _processes(paths) if _namespace(pid) not in {own, None}})
        _kill(lambda: _processes(paths), patience=1.0)

    def remove(self) -> None:
        """Remove them; nothing may be left in them."""
        end = time.monotonic() + DEADLINE
        while left := [path for path in self.paths if not _rmdir(path)]:
            assert time.monotonic() < end, f"cannot remove {left}"
            time.sleep(0.01)  # A process that has ended is in its group until it is reaped.


def _processes(paths: Iterable[Path]) -> set[int]:
    found = set()
    for path in paths:
        for directory, _, _ in os.walk(path):
            with contextlib.suppress(OSError):  # It has gone since.
                found |= {int(line) for line in Path(directory, "cgroup.procs").read_text().split()}
    return found - {0}  # of another namespace


def _namespace(pid: int) -> int | None:
    """Return what tells a process's PID namespace from others; None: it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def _kill(find: Callable[[], set[int]], patience: float = 0.0) -> None:
    """Kill what is found until nothing is, at first waiting for it to end by itself for so many seconds."""
    begin = time.monotonic()
    while left := find():
        assert time.monotonic() < begin + DEADLINE, f"cannot kill {left}"
        if time.monotonic() >= begin + patience:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def hierarchies(memberships: str, mounts: str) -> list[Path]:
    """Return this process's own directories in the hierarchies that systemd uses: "name=systemd", and version 2."""
    found = []
    for line in memberships.splitlines():
        number, controllers, own = line.split(":", 2)
        if number != "0" and controllers != "name=systemd":
            continue
        for mount in mounts.splitlines():
            left, _, right = mount.partition(" - ")
            root, point = left.split()[3:5]
            kind, _, options = right.split(" ", 2)
            if kind == "cgroup2" if number == "0" else kind == "cgroup" and controllers in options.split(","):
                # The mount may show a part of the hierarchy only, as in a container.
                inside = own.removeprefix(root.rstrip("/")) if f"{own}/".startswith(f"{root.rstrip('/')}/") else "/"
                found.append(Path(re.sub(r"\\040", " ", point) + inside.rstrip("/")))
                break
    return found


def _remove_empty(parent: Path) -> None:
    """Remove what is left of runs that were killed: their processes died with them."""
    for path in parent.glob(f"{PREFIX}-*-*"):
        if is_left(path.name):
            _rmdir(path)


def _rmdir(path: Path) -> bool:
    """Remove a group and those below it; return whether it has gone. One that holds a process is left."""
    for directory in [path for path, _, _ in os.walk(path, topdown=False)]:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not path.exists()


@contextlib.contextmanager
def groups(name: str) -> Iterator[Groups]:
    """Yield groups of this name; all that is in them at the end is killed, and they are removed."""
    made = Groups(name)
    try:
        yield made
    finally:
        made.kill()
        made.remove()
