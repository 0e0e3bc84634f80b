"""A part of the real cgroup tree that is given to a daemon under test, as systemd gives one to a unit."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness import DEADLINE, Daemon, Daemons

from plugd.hosting.delegation import CONTROLLERS, DAEMON, delegated, kill, own_cgroup, pids_in, write

HINT = "as root, or in a unit of its own: systemd-run --pipe -p Delegate=yes make test"

_numbers = itertools.count(1)


class Subtree:
    """A cgroup with the mark of a delegated one, or without, and what controllers there are; removed at the end."""

    def __init__(self, parent: Path, home: Path, *, marked: bool = True) -> None:
        self._home = home  # where the test's own process belongs
        self.path = parent / f"plugd-cgroup-test-{os.getpid()}-{next(_numbers)}"
        self.path.mkdir()
        self.controllers = set((self.path / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)
        if marked:
            os.setxattr(self.path, "user.delegate", b"1")

    def give_to(self, uid: int) -> None:
        """Let a user have it, as systemd does by User=."""
        for file in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(self.path / file, uid, uid)

    def start(self, daemons: Daemons, **how: object) -> Daemon:
        """Start a daemon in it."""
        # What systemd does as well before it starts a unit again: no process may be where controllers are enabled.
        for controller in (self.path / "cgroup.subtree_control").read_text().split():
            write(f"{self.path}/cgroup.subtree_control", f"-{controller}")
        write(f"{self.path}/cgroup.procs", str(os.getpid()))
        try:
            running = daemons(wait=False, **how)  # type: ignore[arg-type]
        finally:
            self.go_home()
        running.wait_ready()
        return running

    def go_home(self) -> None:
        """Have the test's own process back where it belongs."""
        write(f"{self._home}/cgroup.procs", str(os.getpid()))

    def leaves(self) -> list[Path]:
        """Return the cgroups below it, but for the daemon's."""
        return [each for each in self.path.iterdir() if each.is_dir() and each.name != DAEMON]

    def close(self) -> None:
        """End what is in it, and remove it with all that is below it."""
        for directory, _, _ in os.walk(self.path, topdown=False):
            end = time.monotonic() + DEADLINE
            while True:
                kill(directory)
                try:
                    os.rmdir(directory)
                    break
                except FileNotFoundError:
                    break  # The daemon was quicker.
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.01)


def cgroup_of(pid: int | str) -> Path:
    """Return the cgroup of a process."""
    path = own_cgroup(Path(f"/proc/{pid}/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    assert path is not None
    return Path(path)


class Unavailable(Exception):
    """There is no cgroup that a test may have; the message says why."""


def parent() -> tuple[Path, Path]:
    """Return where subtrees may be made, and where the test's own process is to be meanwhile.

    Below the cgroup of this process if that was delegated, which then is moved into a leaf of it; or below the root, of
    a machine or container where this process is in the root itself, so that nobody manages it.
    """
    mounts = Path("/proc/self/mountinfo").read_text()
    cgroups = Path("/proc/self/cgroup").read_text()
    own = own_cgroup(cgroups, mounts)
    if own is None:
        root = own_cgroup("0::/x", mounts)
        if "0::/\n" not in cgroups or root is None:
            raise Unavailable("there is no cgroup of version 2")
        if os.getuid() != 0:
            raise Unavailable("only root may make cgroups below the root")
        return Path(root).parent, Path(root).parent
    path = delegated(own)
    if path is None:
        raise Unavailable(f"{own} was not delegated to this process")
    home = Path(own)
    if path == own:
        home = Path(path) / "tests"
        home.mkdir(exist_ok=True)
        for pid in pids_in(path):
            write(f"{home}/cgroup.procs", str(pid))
    for controller in set(CONTROLLERS).intersection((Path(path) / "cgroup.controllers").read_text().split()):
        write(f"{path}/cgroup.subtree_control", f"+{controller}")
    return Path(path), home


@contextlib.contextmanager
def subtree(*, marked: bool = True, above: Path | None = None) -> Iterator[Subtree]:
    """Make one.

    Args:
        marked: whether it is delegated.
        above: where; None: where that can be done.

    Raises:
        Unavailable: it cannot be had here.
    """
    usual, home = parent()
    above = above or usual
    try:
        made = Subtree(above, home, marked=marked)
    except OSError as error:
        raise Unavailable(f"{above}: {error.strerror}") from error
    try:
        yield made
    finally:
        made.close()
