"""Other people's programs: what a path leads to, who could change it, and which bytes of it there are.

Their paths may have links, unlike those of plugins: half of a system's programs are reached by some. Each link on the
way, and each directory that one is in, is judged like the program itself.
"""

import hashlib
import os
import stat
import time
from typing import NamedTuple

from plugd.catalog.trust import ATTEMPTS, Distrusted, Trust, version_of
from plugd.paths import SEARCH_PATH

MAXIMUM_PROGRAM_BYTES = 1024 * 1024 * 1024
MAXIMUM_LINKS = 40  # as the kernel has it: path_resolution(7)
REMEMBERED = 1024  # programs whose hash is not computed again
SETTLED = 2.0  # seconds after a change: until then another one may come at what is the same time to the file system

_CHUNK_BYTES = 1024 * 1024
_ELF = b"\x7fELF"


class Identity(NamedTuple):
    """What tells one version of a file from another without reading it."""

    device: int
    inode: int
    modified: int  # nanoseconds
    size_bytes: int


class Program(NamedTuple):
    """An executable as it was judged.

    Attributes:
        path: absolute, as it was named.
        sha256: of its bytes, in hexadecimal.
        identity: of the file that was read.
        binary: whether the kernel runs its bytes, and no interpreter that opens it again by its path.
    """

    path: str
    sha256: str
    identity: Identity
    binary: bool


def find_program(name: str) -> str | None:
    """Return the path of a program by its name, from a fixed PATH; None: there is none. A path is its own."""
    if name.startswith("/"):
        return name
    paths = (os.path.join(directory, name) for directory in SEARCH_PATH.split(":"))
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def inspect_program(trust: Trust, path: str) -> Program:
    """Judge and hash a program; blocks on the disk.

    Raises:
        Distrusted: why it may not run.
    """
    real = follow(trust, path)
    with trust.opened(real) as descriptor:
        for _ in range(ATTEMPTS):
            status = trust.judge(real, descriptor)
            if not status.st_mode & 0o111:
                raise Distrusted(f"{real} is not executable: chmod +x {real}")
            if status.st_size > MAXIMUM_PROGRAM_BYTES:
                raise Distrusted(f"larger than {MAXIMUM_PROGRAM_BYTES} bytes")
            sha256 = _sha256(descriptor, status)
            if version_of(os.fstat(descriptor)) == version_of(status):
                identity = Identity(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
                return Program(path, sha256, identity, os.pread(descriptor, len(_ELF), 0) == _ELF)
    raise Distrusted("changed while it was read; write a new file and rename it over the old one")


def follow(trust: Trust, path: str) -> str:
    """Return the path without links of what an absolute path leads to.

    Raises:
        Distrusted: somebody else could lead it elsewhere; or it leads nowhere.
    """
    real, links = "", 0
    waiting = _components(path)
    while waiting:
        name = waiting.pop()
        if name == "..":
            real = os.path.dirname(real).rstrip("/")
            continue
        here = f"{real}/{name}"
        try:
            parent = trust.directory(real or "/")
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(status.st_mode) else None
        except OSError as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
            raise Distrusted(f"{path}: {reason}" + (f" ({here})" if here != path else "")) from error
        if target is None:
            real = here
            continue
        links += 1
        if links > MAXIMUM_LINKS:
            raise Distrusted(f"{path}: more than {MAXIMUM_LINKS} symbolic links")
        # In a sticky directory, such as /tmp, anybody can make one.
        if status.st_uid not in trust.owners:
            raise Distrusted(f"{here} is a symbolic link of uid {status.st_uid}, who could change it")
        if target.startswith("/"):
            real = ""
        waiting += _components(target)
    return real or "/"


def _components(path: str) -> list[str]:
    """Return the names in a path that lead somewhere, the last first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


_known: dict[tuple[int, ...], str] = {}  # the hash by device, inode and version; an interpreter may have 100 MB


def _sha256(descriptor: int, status: os.stat_result) -> str:
    key = (status.st_dev, status.st_ino, *version_of(status))
    if key in _known:
        return _known[key]
    digest = hashlib.sha256()
    position = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, position):
        digest.update(chunk)
        position += len(chunk)
    if time.time() - status.st_ctime > SETTLED:
        if len(_known) >= REMEMBERED:
            _known.clear()
        _known[key] = digest.hexdigest()
    return digest.hexdigest()
