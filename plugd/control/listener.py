"""The control socket's place in the file system: one daemon has it at a time, and nobody sees it half made."""

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterator

BACKLOG = 512


class SocketInUse(Exception):  # noqa: N818 - a state of the world
    """Another plugd owns the socket, and goes on serving."""


class SocketError(Exception):
    """The socket cannot be made; the message says why."""


@contextlib.contextmanager
def listening_socket(path: str, mode: int, group: str | None) -> Iterator[socket.socket]:
    """Listen on a Unix socket at ``path``; removes it on leaving.

    The right to the path is a lock on ``path.lock``, which the kernel takes back when its holder dies, so that a
    stale socket is told from a living one without a race. The socket is bound under another name, given its mode
    and group, and renamed when it is ready: nobody can open it before, or with more rights.

    Raises:
        SocketInUse: another process has it.
        SocketError: the directory or the socket cannot be made.
    """
    try:
        _make_directory(os.path.dirname(path))
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SocketError(f"cannot make the control socket {path!r}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SocketInUse(path) from None
        if _answers(path):
            raise SocketInUse(path)
        if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SocketError(f"cannot make the control socket {path!r}: there is something else of that name")
        try:
            listener = stack.enter_context(_bound(path, mode, group))
        except OSError as error:
            raise SocketError(f"cannot make the control socket {path!r}: {error.strerror or error}") from error
        stack.callback(_remove, path, os.stat(path).st_ino)
        yield listener


def _bound(path: str, mode: int, group: str | None) -> socket.socket:
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777)
        try:
            listener.bind(temporary)
        finally:
            os.umask(mask)
        if group is not None:
            os.chown(temporary, -1, _group_id(group))
        os.chmod(temporary, mode)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        os.rename(temporary, path)
    except BaseException:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return listener


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"no group {group!r}") from None


def _make_directory(directory: str) -> None:
    try:
        os.makedirs(directory, 0o750 if os.getuid() == 0 else 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if stat.S_ISLNK(status.st_mode):
            status = os.stat(directory)
        private = directory.startswith("/tmp/")  # noqa: S108 - where anybody may have made it before us
        if private and os.path.basename(directory).startswith("plugd-") and status.st_uid != os.getuid():
            raise OSError(errno.EPERM, f"{directory} belongs to somebody else") from None


def _answers(path: str) -> bool:
    """Whether somebody accepts connections there: a process that knows nothing of the lock."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # Its backlog is full, which is somebody's.
        except OSError:
            return False
        return True


def _remove(path: str, inode: int) -> None:
    """Remove the socket, unless somebody has put another in its place."""
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
