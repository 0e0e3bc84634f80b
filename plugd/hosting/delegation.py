"""The part of the cgroup tree that systemd has left to this daemon, with Delegate=: cgroups(7), version 2.

https://systemd.io/CGROUP_DELEGATION has the rules: nobody touches what was not delegated, which an extended attribute
tells, and processes are in leaves only. So the daemon moves into one, and workers get theirs beside it.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import structlog

log = structlog.get_logger()

DAEMON = "daemon"  # the leaf of the daemon and its forkserver
WORKERS = "plugin-"  # begins the names of the others
CONTROLLERS = ("cpu", "memory", "pids")
MARKS = ("user.delegate", "trusted.delegate")  # extended attributes; the former since systemd 251
EMPTYING = 2.0  # seconds for what a daemon that was killed has left
PERIOD = 0.005  # seconds


class Delegation(NamedTuple):
    """What this daemon may do with cgroups.

    Attributes:
        path: the directory below which its own are.
        daemon: the leaf that the daemon is in.
        lock: a descriptor that keeps other daemons from it; whoever has this closes it.
        controllers: what limits there are, of CONTROLLERS; without any, a worker can be killed as a whole all the same.
    """

    path: str
    daemon: str
    lock: int
    controllers: tuple[str, ...]


class DelegationError(Exception):
    """Something was delegated, and cannot be used; the message says why."""


def take_delegated() -> Delegation | None:
    """Take over what was delegated to this process, and move it there; blocks, two seconds at most.

    Returns: None where nothing was: it is not systemd's, or its unit has no Delegate=.

    Raises:
        DelegationError: something was, and cannot be used.
    """
    try:
        own = own_cgroup(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    except OSError:
        return None
    path = None if own is None else delegated(own)
    if own is None or path is None:
        return None
    try:
        return take(path, own)
    except BlockingIOError as error:
        raise DelegationError(f"{path}: another plugd has it") from error
    except OSError as error:
        hint = " (ProtectControlGroups= keeps it so)" if error.errno == errno.EROFS else ""
        raise DelegationError(f"{path}: {(error.strerror or str(error)).lower()}{hint}") from error


def stir(delegation: Delegation) -> None:
    """Move this process to where it is; blocks for a grace period of RCU, some ten milliseconds.

    The kernel waits for one whenever a process is moved, unless another was moved just before. So a worker that is
    forked while, or shortly after, this is done is in its cgroup at once.
    """
    try:
        write(f"{delegation.daemon}/cgroup.procs", "0")
    except OSError:
        pass  # Then the worker waits.


def own_cgroup(cgroups: str, mounts: str) -> str | None:
    """Return the directory of a process's own cgroup of version 2, or None where it has none, or is in the root.

    Args:
        cgroups: its /proc/PID/cgroup.
        mounts: its /proc/PID/mountinfo.
    """
    path = next((line[3:] for line in cgroups.splitlines() if line.startswith("0::/")), "/")
    if path == "/" or ".." in path.split("/") or path.endswith(" (deleted)"):
        return None
    for root, mount_point in _mounts(mounts):
        below = path if root == "/" else path.removeprefix(root) if path.startswith(f"{root}/") else None
        if below is not None:
            return mount_point.rstrip("/") + below
    return None


def delegated(own: str) -> str | None:
    """Return the delegated cgroup that another is, or is a leaf of: DelegateSubgroup= makes one; None: neither is."""
    return next((path for path in (own, os.path.dirname(own)) if _has_mark(path)), None)


def take(path: str, own: str) -> Delegation:
    """Move this process into a leaf of a delegated cgroup, empty what was left there, and enable the controllers.

    Args:
        path: the delegated cgroup.
        own: the one that this process is in: that, or a leaf of it.

    Raises:
        OSError: it cannot be written; BlockingIOError: another daemon has it.
    """
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leaf = own
        if own == path:
            leaf = os.path.join(path, DAEMON)
            os.makedirs(leaf, exist_ok=True)
            _move_all(path, leaf)
        remove_workers(path, time.monotonic() + EMPTYING)
        return Delegation(path, leaf, lock, _enabled(path))
    except BaseException:
        os.close(lock)
        raise


def _move_all(path: str, leaf: str) -> None:
    """Move this process from a cgroup to a leaf of it, and whatever else is there, such as what has started it."""
    write(f"{leaf}/cgroup.procs", str(os.getpid()))
    for pid in pids_in(path):
        try:
            write(f"{leaf}/cgroup.procs", str(pid))
        except OSError:
            pass  # It has ended.


def _enabled(path: str) -> tuple[str, ...]:
    """Enable the controllers that are there and of use, for what is below a cgroup; return those that are."""
    for controller in sorted(set(CONTROLLERS).intersection(_read(f"{path}/cgroup.controllers").split())):
        try:
            write(f"{path}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            log.warning("cgroup_controller_unavailable", controller=controller, reason=error.strerror)
    enabled = _read(f"{path}/cgroup.subtree_control").split()
    return tuple(name for name in CONTROLLERS if name in enabled)


def remove_workers(path: str, deadline: float) -> list[str]:
    """Kill what is in the workers' leaves of a delegated cgroup, and remove them; return those that are left.

    Blocks until ``deadline``, in seconds of CLOCK_MONOTONIC, at most.
    """
    try:
        names = os.listdir(path)
    except OSError:
        return []  # It is gone, and they with it.
    leaves = [os.path.join(path, name) for name in names if name.startswith(WORKERS)]
    return [leaf for leaf in leaves if not remove(leaf, deadline)]


def remove(leaf: str, deadline: float) -> bool:
    """Kill what is in a cgroup and remove it; return whether it is gone. Blocks until ``deadline`` at most."""
    while True:
        kill(leaf)
        try:
            os.rmdir(leaf)
        except FileNotFoundError:
            return True  # It was never made.
        except OSError:
            if time.monotonic() >= deadline:
                return False  # What hangs in the kernel is there until that lets go of it.
            time.sleep(PERIOD)
        else:
            return True


def kill(leaf: str) -> None:
    """Kill all that is in a cgroup, whatever it forks meanwhile; where there is no such cgroup, nothing."""
    try:
        write(f"{leaf}/cgroup.kill", "1")
    except FileNotFoundError:  # Linux has it since 5.14
        for pid in pids_in(leaf):
            try:
                os.kill(pid, 9)
            except (ProcessLookupError, PermissionError):
                pass  # It has ended, or has more rights than the daemon.
    except OSError:
        pass  # It is being removed.


def pids_in(path: str) -> list[int]:
    """Return the processes of a cgroup; none where it is gone."""
    try:
        return [int(pid) for pid in _read(f"{path}/cgroup.procs").split()]
    except OSError:
        return []


def write(path: str, value: str) -> None:
    """Write a file of a cgroup, in one go.

    Raises:
        OSError: it is not there, or the kernel refuses the value.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _has_mark(path: str) -> bool:
    for mark in MARKS:
        try:
            if os.getxattr(path, mark) == b"1":
                return True
        except OSError:
            continue  # It has none, or only root may see it.
    return False


def _mounts(mounts: str) -> Iterator[tuple[str, str]]:
    """Yield the root and the mount point of each cgroup file system of version 2: proc_pid_mountinfo(5)."""
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            yield _unescaped(fields.split()[3]), _unescaped(fields.split()[4])


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
