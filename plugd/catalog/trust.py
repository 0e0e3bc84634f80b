"""Which files may run: ownership and mode, judged on opened descriptors and never on a path that may change meanwhile.

A walk begins at ``/`` and opens one component after the other from the one before it, following no links. Every
descriptor on the way is judged: only root, the daemon's own user and the owner of plugd's own code may be able to
change it. What is listed and read then is what was judged, whatever becomes of its name.
"""

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

ATTEMPTS = 2  # at reading a file that somebody is writing

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Nonblocking: the opening of a FIFO would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ACL = "system.posix_acl_access"
_KINDS = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
          (stat.S_ISLNK, "a symbolic link"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip


class Distrusted(Exception):  # noqa: N818 - it says what the file is
    """A file may not run; the text says which part of its path is the reason, and what to do."""


PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


class Listing(NamedTuple):
    """The names in a directory, sorted, and why nothing in it may run, or None."""

    names: list[str]
    fault: str | None


class _Directory(NamedTuple):
    descriptor: int  # O_PATH
    fault: str | None  # its own, or that of a directory above it


def trusted_owners() -> frozenset[int]:
    """Return the users who may change what runs: root, the daemon's, and the owner of plugd's own code."""
    return frozenset({0, os.geteuid(), os.stat(PACKAGE).st_uid})


def writes_plugd(gid: int) -> bool:
    """Whether the members of a group may write plugd's own code, and so change what runs in any case."""
    package = os.stat(PACKAGE)
    return gid == package.st_gid and bool(package.st_mode & stat.S_IWGRP)


class Trust:
    """One walk: opens directories, and keeps them open, so that each is judged once.

    A context manager; its end closes all descriptors.

    Args:
        owners: the users who may change what runs.
    """

    def __init__(self, owners: frozenset[int]) -> None:
        self.owners = owners
        self._directories: dict[str, _Directory] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for directory in self._directories.values():
            os.close(directory.descriptor)
        self._directories.clear()

    def list(self, path: str) -> Listing:
        """List a directory; also one that is not trusted, so that what is in it can be named.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it cannot be opened or read.
        """
        path = _normal(path)
        try:
            directory = self._open(path)
        except Distrusted as distrusted:  # a link is on the way
            directory = self._open(os.path.realpath(path))._replace(fault=str(distrusted))
        # The same directory once more: an O_PATH descriptor cannot be read.
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.descriptor)
        try:
            return Listing(sorted(os.listdir(descriptor)), directory.fault)
        finally:
            os.close(descriptor)

    def read(self, path: str, maximum_bytes: int) -> bytes:
        """Return a file's bytes, all of one version and all from the file that was judged.

        Raises:
            Distrusted: why it may not run.
        """
        path = _normal(path)
        with self.opened(path) as descriptor:
            return self._read(descriptor, path, maximum_bytes)

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Open a file in a directory that nobody else can change; the file itself is not judged yet.

        Raises:
            Distrusted: it cannot be opened or, in the block, read; or why nothing in its directory may run.
        """
        path = _normal(path)
        directory, name = os.path.split(path)
        try:
            descriptor = os.open(name, _FILE, dir_fd=self.directory(directory))
        except OSError as error:
            raise Distrusted(_unopened(path, error)) from error
        try:
            yield descriptor
        except OSError as error:
            raise Distrusted(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def directory(self, path: str) -> int:
        """Return a descriptor (O_PATH) of a directory that nobody else can change; the walk's end closes it.

        Raises:
            Distrusted: somebody could change it, or a directory above it; or a symbolic link is on the way.
            OSError: it cannot be opened.
        """
        opened = self._open(_normal(path))
        if opened.fault is not None:
            raise Distrusted(opened.fault)
        return opened.descriptor

    def judge(self, path: str, descriptor: int) -> os.stat_result:
        """Return the status of an open file that nobody else can change.

        Raises:
            Distrusted: somebody could, or it is no regular file.
            OSError: the kernel does not tell.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for test, name in _KINDS if test(status.st_mode)), "something else")
            raise Distrusted(f"not a regular file: {path} is {kind}")
        fault = judge(path, status, self.owners) or _acl_fault(path, descriptor)
        if fault is not None:
            raise Distrusted(fault)
        return status

    def _open(self, path: str) -> _Directory:
        """Open and judge a directory, and first those above it.

        Raises:
            Distrusted: a symbolic link is on the way.
            OSError: it cannot be opened.
        """
        directory = self._judged("/", None)
        for component in _components(path):
            directory = self._judged(component, directory)
        return directory

    def _judged(self, path: str, parent: _Directory | None) -> _Directory:
        if path in self._directories:
            return self._directories[path]
        if parent is None:
            descriptor = os.open(path, _DIRECTORY)
        else:
            name = os.path.basename(path)
            try:
                descriptor = os.open(name, _DIRECTORY, dir_fd=parent.descriptor)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP) and _is_link(name, parent.descriptor):
                    raise Distrusted(_link_fault(path)) from error
                raise
        try:
            own = judge(path, os.fstat(descriptor), self.owners) or _acl_fault(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        opened = _Directory(descriptor, (parent and parent.fault) or own)
        self._directories[path] = opened
        return opened

    def _read(self, descriptor: int, path: str, maximum_bytes: int) -> bytes:
        for _ in range(ATTEMPTS):
            status = self.judge(path, descriptor)
            data = _read_all(descriptor, min(status.st_size, maximum_bytes) + 1)
            if len(data) > maximum_bytes:
                raise Distrusted(f"larger than {maximum_bytes} bytes")
            if version_of(os.fstat(descriptor)) == version_of(status) and len(data) == status.st_size:
                return data
        raise Distrusted("changed while it was read; write a new file and rename it over the old one")


def judge(path: str, status: os.stat_result, owners: frozenset[int]) -> str | None:
    """Return why others than ``owners`` could change a file or a directory, with the remedy; None if they cannot.

    In a sticky directory, such as /tmp, others may write, but they can neither remove nor rename what is not theirs.
    """
    mode = stat.S_IMODE(status.st_mode)
    what = f"{path} (uid {status.st_uid}, gid {status.st_gid}, mode {mode:04o})"
    if status.st_uid not in owners:
        return f"{what} belongs to {_user(status.st_uid)}, who could change it: chown root {shlex.quote(path)}"
    if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return None
    if mode & stat.S_IWOTH:
        return f"{what} can be written by everybody: chmod go-w {shlex.quote(path)}"
    gid = status.st_gid
    if mode & stat.S_IWGRP and gid != 0 and not _is_private(gid, owners) and not writes_plugd(gid):
        group = _group(gid)
        return f"{what} can be written by group {group}: chmod go-w {shlex.quote(path)}"
    return None


def _is_private(gid: int, owners: frozenset[int]) -> bool:
    """Whether a group is that of one trusted user alone, named as the user is."""
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwnam(group.gr_name)
    except KeyError:
        return False
    if user.pw_uid not in owners or any(member != user.pw_name for member in group.gr_mem):
        return False
    # Those who have it as their first group are not among its members: group(5).
    return all(other.pw_uid in owners for other in pwd.getpwall() if other.pw_gid == gid)


def _acl_fault(path: str, descriptor: int) -> str | None:
    """Return the fault of an access list that may let others write, beside the group: acl(5).

    With such a list, the group's bits of the mode say the most that anybody named in it may do.
    """
    status = os.fstat(descriptor)
    if not status.st_mode & stat.S_IWGRP or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return None
    try:
        os.getxattr(f"/proc/self/fd/{descriptor}", _ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        return f"{path} can be written by its group, and its access list cannot be read: chmod go-w {shlex.quote(path)}"
    return f"{path} can be written by those in its access list: setfacl -b {shlex.quote(path)}"


def _read_all(descriptor: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := os.pread(descriptor, size - len(data), len(data))):
        data += chunk
    return bytes(data)


def version_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return what tells one version of an open file from another."""
    # The time of the last change of the inode cannot be set back, unlike that of the content.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _unopened(path: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return _link_fault(path)
    if error.errno == errno.ENXIO:  # what opening a socket, or a device without a driver, gives
        return f"not a regular file: {path}"
    return f"cannot be opened: {error.strerror}"


def _is_link(name: str, parent: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False  # It is gone, or cannot be seen; the first error says more.


def _link_fault(path: str) -> str:
    try:
        target = shlex.quote(os.path.realpath(path))
    except OSError:
        return f"{path} is a symbolic link, or was one a moment ago"
    return f"{path} is a symbolic link; name what it leads to instead: {target}"


def _normal(path: str) -> str:
    # As text: where no links are followed, "x/.." is what is left when both are dropped.
    return "/" + os.path.normpath(path).lstrip("/")


def _components(path: str) -> Iterator[str]:
    """``/a/b`` gives ``/a`` and ``/a/b``."""
    so_far = ""
    for name in path.split("/"):
        if name:
            so_far += f"/{name}"
            yield so_far


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
