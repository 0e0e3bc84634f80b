"""The control socket's place in the file system: one daemon has it at a time, and nobody sees it half made."""

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterator, Sequence

import structlog

from plugd.config_values import SOCKET_PATH_BYTES
from plugd.systemd import HandedOver

log = structlog.get_logger()

BACKLOG = 512


class SocketInUse(Exception):  # noqa: N818 - a state of the world
    """Another plugd owns the socket, whose path this is, and goes on serving."""


class SocketError(Exception):
    """The socket cannot be made, or not be served on; the message says why."""


@contextlib.contextmanager
def listening_socket(path: str, mode: int, group: str | None) -> Iterator[socket.socket]:
    """Listen on a Unix socket at ``path``; removes it on leaving.

    The right to the path is a lock on ``path.lock``, which the kernel takes back when its holder dies, so that a
    stale socket is told from a living one without a race. The socket is bound under another name, given its mode
    and group, and renamed when it is ready: nobody can open it before, or with more rights.

    A directory that is not there is made, for the group, and for others to pass through where ``mode`` lets them
    open the socket. One that is there is left as it is.

    Raises:
        SocketInUse: another process has it.
        SocketError: the directory or the socket cannot be made.
    """
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise _failure(path, "it must have an absolute path; an abstract socket has no permissions")
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise _failure(path, f"its path may have {SOCKET_PATH_BYTES} bytes at most")
    directory = os.path.dirname(path)
    with contextlib.ExitStack() as stack:
        try:
            group_id = None if group is None else _group_id(group)
            with _umask(0o077):
                _make_directory(directory, 0o751 if mode & stat.S_IWOTH else 0o750, group_id)
                _check_directory(directory)
                stack.enter_context(_lock(path))
            _check_free(path)
            listener, identity = _bound(path, mode, group_id)
        except OSError as error:
            place = f"{error.filename!r}: " if error.filename not in (None, path) else ""
            raise _failure(path, f"{place}{error.strerror or error}") from error
        stack.enter_context(listener)
        stack.callback(_remove, path, identity)
        yield listener


@contextlib.contextmanager
def inherited_socket(handed: Sequence[HandedOver], path: str, mode: int) -> Iterator[tuple[socket.socket, str]]:
    """Serve on a socket that was handed over, and say where it is; its file is not ours, and stays.

    Args:
        handed: what was handed over; all of it is closed on leaving.
        path: where the socket is by the configuration: if there are several, the one there is taken, else the first.
        mode: the permissions that it should have by the configuration; wider ones are logged.

    Raises:
        SocketInUse: another plugd serves there.
        SocketError: none of them can be served on.
    """
    with contextlib.ExitStack() as stack:
        usable = [(stack.enter_context(each.listener), each.path) for each in handed if each.listener is not None]
        if not usable:
            faults = "; ".join([f"descriptor {each.descriptor}: {each.fault}" for each in handed])
            raise SocketError(f"cannot serve on the socket that was handed over: {faults}")
        wanted = os.path.realpath(path)
        chosen = next((each for each in usable if os.path.realpath(each[1]) == wanted), usable[0])
        for each in handed:
            if each.listener is not chosen[0]:
                reason = each.fault or f"plugd serves on {chosen[1]!r}"
                log.warning("socket_not_used", descriptor=each.descriptor, socket=each.path or None, reason=reason)
                if each.listener is not None:
                    each.listener.close()
        listener, found = chosen
        try:
            stack.enter_context(_lock(found))
        except OSError:
            pass  # The directory may be its manager's alone. A plugd that comes later finds that somebody answers.
        _check_inherited(found, mode)
        # There is no listen(2) here: it would make us the one whom clients see as the socket's owner (SO_PEERCRED),
        # in the place of the manager, whom they trust.
        listener.setblocking(False)
        yield listener, found


def _failure(path: str, reason: str) -> SocketError:
    return SocketError(f"cannot make the control socket {path!r}: {reason}")


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):  # ValueError: it has a NUL character
        raise OSError(errno.EINVAL, f"no group {group!r}") from None


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _make_directory(directory: str, permissions: int, group_id: int | None) -> None:
    """Make a directory and those above it, where they are missing; the umask must leave the owner all rights."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(directory)
        if parent == directory:
            raise
        _make_directory(parent, permissions, group_id)
        _make_directory(directory, permissions, group_id)
        return
    try:
        _give(directory, stat.S_IFDIR, permissions, group_id)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(directory)  # Left like this, the next start would take it as it is.
        raise


def _check_directory(directory: str) -> None:
    """Log it if others than root and this user can put something else in the socket's place."""
    status = os.stat(directory)
    owners = {status.st_uid, os.lstat(directory).st_uid}
    if directory.startswith("/tmp/plugd-") and owners != {os.geteuid()}:  # noqa: S108 - anybody may make it before us
        raise OSError(errno.EPERM, f"{directory} belongs to somebody else")
    reason = ""
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        reason = "everybody may write to it"
    elif status.st_uid not in (0, os.geteuid()):
        reason = f"it belongs to user {status.st_uid}"
    if reason:
        log.warning("socket_directory_unsafe", directory=directory, reason=reason)


def _check_inherited(path: str, mode: int) -> None:
    try:
        _check_directory(os.path.dirname(path))
        status = os.stat(path)
    except OSError as error:
        # It can be served on all the same, and whoever has removed it may put it back.
        log.warning("socket_unreachable", socket=path, reason=error.strerror)
        return
    found = stat.S_IMODE(status.st_mode)
    if found & ~mode:
        log.warning("socket_mode_wider", socket=path, mode=f"{found:04o}", configured=f"{mode:04o}")


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold the lock of a socket's path.

    Raises:
        SocketInUse: another process holds it.
        OSError: it cannot be made.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SocketInUse(path) from None
        yield
    finally:
        os.close(lock)


def _check_free(path: str) -> None:
    """See to it that nobody serves there who knows nothing of the lock, and that nothing else is there.

    Raises:
        SocketInUse: somebody accepts connections.
        SocketError: what is there is no stale socket, or nobody can tell.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
            raise SocketInUse(path)
        except BlockingIOError:
            raise SocketInUse(path) from None  # Its backlog is full, which is somebody's.
        except OSError as error:
            refusal = error
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    # EPROTOTYPE: it is alive, but of another type.
    if not stat.S_ISSOCK(status.st_mode) or refusal.errno == errno.EPROTOTYPE:
        raise _failure(path, "there is something else of that name")
    if isinstance(refusal, PermissionError) and status.st_uid != os.geteuid():
        raise _failure(path, f"there is a socket of user {status.st_uid}, who may be serving on it")


def _bound(path: str, mode: int, group_id: int | None) -> tuple[socket.socket, tuple[int, int]]:
    """Return the socket, ready and in its place, and its identity there."""
    temporary = f"{path}.new"
    if len(os.fsencode(temporary)) > SOCKET_PATH_BYTES:
        temporary = f"{os.path.dirname(path)}/.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _umask(0o777):
            _bind(listener, temporary)
        identity = _give(temporary, stat.S_IFSOCK, mode, group_id)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        os.rename(temporary, path)
    except BaseException:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return listener, identity


def _bind(listener: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        listener.bind(path)
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


def _give(path: str, kind: int, permissions: int, group_id: int | None) -> tuple[int, int]:
    """Set group and permissions of what has just been made at ``path``, and return its device and inode.

    Never of anything else: where others may write to the directory, a link may be there by now. The detour over
    /proc is what Linux has in the place of a chmod(2) that follows none.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, "somebody has put something else in its place", path)
        try:
            if group_id is not None:
                os.chown(f"/proc/self/fd/{descriptor}", -1, group_id)
            os.chmod(f"/proc/self/fd/{descriptor}", permissions)
        except OSError as error:
            raise OSError(error.errno, f"cannot set its group and mode: {error.strerror}", path) from error
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


def _remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the socket, unless somebody has put another in its place."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
