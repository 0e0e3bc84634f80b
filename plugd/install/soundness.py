"""Whether a service may run a plugd: only root can change it, and everybody can read it.

What the service runs as ``plugd``, root runs as ``plugctl``. So nobody else may be able to change any of it: the
programs, the interpreter, the modules, and every directory and link on the way to them.
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator

from plugd.install.program import Program

ROOT_ONLY = frozenset({0})

# The unit has ProtectHome=, PrivateTmp= and PrivateDevices=, or may have them by a drop-in.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev")  # noqa: S108 - nothing is made there

_LINKS = 40  # on the way to one file, as in the kernel
_ACL = "system.posix_acl_access"
_NEW = "python3 -m venv /opt/plugd && /opt/plugd/bin/pip install ."


def fault(program: Program, owners: frozenset[int] = ROOT_ONLY, hidden: tuple[str, ...] = HIDDEN) -> str | None:
    """Return the first reason why a service may not run a plugd, with its remedy after ``try:``; None if it may.

    Args:
        program: which.
        owners: the users who may be able to change it.
        hidden: directories that a service does not see.
    """
    judge = _Judge(owners, hidden)
    # First what is plugd's own, since that is what can be mended; the modules beside it only must not be anybody's.
    for path in (*program.own, program.interpreter):
        reason = judge.way(path) or judge.below(path, readable=True)
        if reason is not None:
            return reason
    for path in program.others:
        reason = judge.way(path) or judge.below(path, readable=False)
        if reason is not None:
            return reason
    return None


def way(path: str) -> Iterator[str]:
    """Return every directory on the way to what a path leads to, links followed, and at last that itself.

    Raises:
        OSError: something on the way is not there, or there are too many links.
    """
    pending, here, links = _parts(path), "/", 0
    yield here
    while pending:
        name = pending.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name)
        if stat.S_ISLNK(os.lstat(step).st_mode):
            links += 1
            if links > _LINKS:
                raise OSError(f"too many links on the way to {path}")
            target = os.readlink(step)
            here = "/" if target.startswith("/") else here
            pending += _parts(target)
            continue
        yield step
        here = step


class _Judge:
    """Judges paths, each of them once."""

    def __init__(self, owners: frozenset[int], hidden: tuple[str, ...]) -> None:
        self._owners = owners
        self._hidden = hidden
        self._sound: set[str] = set()
        self._walked: set[str] = set()

    def way(self, path: str) -> str | None:
        """Return what is wrong with a path, or with anything on the way to what it leads to."""
        try:
            steps = list(way(path))
        except OSError as error:
            return f"cannot look at {path}: {error.strerror or error}"
        for step in steps:
            if step in self._hidden:
                through = "" if steps[-1] == path else f" by way of {path}"
                return f"{steps[-1]}{through} is below {step}, where a service does not look; try: {_NEW}"
            if step in self._sound:
                continue
            # Whoever stands above a directory need not list it.
            status = os.stat(step)
            reason = self._changeable(step, status) or _unreachable(step, status, listed=step == steps[-1])
            if reason is not None:
                return reason
            self._sound.add(step)
        return None

    def below(self, path: str, *, readable: bool) -> str | None:
        """Return what is wrong with anything in a directory, at any depth; nothing for a file."""
        if path in self._walked or not os.path.isdir(path):
            return None
        self._walked.add(path)
        try:
            for entry in list(os.scandir(path)):
                if entry.is_symlink():
                    reason = self.way(entry.path) if os.path.exists(entry.path) else None
                else:
                    status = entry.stat(follow_symlinks=False)
                    reason = self._changeable(entry.path, status)
                    if reason is None and readable:
                        reason = _unreachable(entry.path, status, listed=True)
                    if reason is None and stat.S_ISDIR(status.st_mode):
                        reason = self.below(entry.path, readable=readable)
                if reason is not None:
                    return reason
        except OSError as error:
            return f"cannot look at {error.filename or path}: {error.strerror}"
        return None

    def _changeable(self, path: str, status: os.stat_result) -> str | None:
        """Return who could change a file or a directory, and should not."""
        quoted = shlex.quote(path)
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in self._owners:
            return f"{path} belongs to {_user(status.st_uid)}, who could change it; try: chown root {quoted}"
        if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
            return None  # Others can neither remove nor rename what is not theirs.
        if mode & stat.S_IWOTH:
            return f"{path} can be written by everybody; try: chmod go-w {quoted}"
        if mode & stat.S_IWGRP:
            if _has_list(path):
                return f"{path} can be written by those in its access list; try: setfacl -b {quoted}"
            member = _member(status.st_gid, self._owners)
            if member is not None:
                return f"{path} can be written by {member} of its group; try: chmod g-w {quoted}"
        return None


def _unreachable(path: str, status: os.stat_result, *, listed: bool) -> str | None:
    """Return why the service's user cannot use a file or a directory; it is neither its owner nor in its group."""
    need = stat.S_IROTH if listed else 0
    if stat.S_ISDIR(status.st_mode):
        need |= stat.S_IXOTH
    if status.st_mode & need == need:
        return None
    mode = stat.S_IMODE(status.st_mode)
    return f"{path} (mode {mode:04o}) is closed to the service's user; try: chmod -R go+rX {shlex.quote(path)}"


def _member(gid: int, owners: frozenset[int]) -> str | None:
    """Return a member of a group who is not among the owners; None if there is none, as with Debian's staff."""
    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        names = []
    # Those who have it as their first group are not among its members: group(5).
    names += [user.pw_name for user in pwd.getpwall() if user.pw_gid == gid]
    for name in names:
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue  # nobody, until there is such a user
        if uid not in owners:
            return f"user {name}"
    return None


def _has_list(path: str) -> bool:
    """Whether an access list may let others write, beside the group: acl(5)."""
    try:
        return bool(os.getxattr(path, _ACL))
    except OSError:
        return False


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _parts(path: str) -> list[str]:
    """``/a/b`` gives ``["b", "a"]``: the next to be walked is the last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
