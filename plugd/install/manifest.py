"""What ``plugd install`` has made, written down before it is made: no more than that is ever removed."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from plugd.install.errors import EXIT_REFUSED, InstallError
from plugd.install.tree import ABSENT, Tree

# Not plugd's own state directory: its user could write there what root then removes.
DIRECTORY = "/var/lib/plugd-install"
PATH = f"{DIRECTORY}/manifest.json"
FORMAT = 1


class Entry(msgspec.Struct, omit_defaults=True):
    """A file or a link.

    Attributes:
        content: what it was given, as of tree.py; empty if something else was there and has been left.
        previous: what it had before, while an installation is under way.
        offered: the content that was written beside it, since it had been changed.
    """

    content: str = ABSENT
    previous: str = ABSENT
    offered: str = ABSENT

    def is_own(self, content: str) -> bool:
        """Whether what is there now is what was written there."""
        return content != ABSENT and content in (self.content, self.previous)


class Manifest(msgspec.Struct):
    """What was made.

    Attributes:
        format: of this file.
        version: plugd's.
        entries: files and links, by path.
        directories: those that were made, outer ones first.
        users: the names of those of "user" and "group" that were not there before.
        enabled: whether the units were enabled.
        outdated: units that ran on as they had been when their files were changed, and which run of theirs it was.
    """

    format: int = FORMAT
    version: str = ""
    entries: dict[str, Entry] = {}
    directories: list[str] = []
    users: list[str] = []
    enabled: bool = False
    outdated: dict[str, str] = {}

    def copy(self) -> "Manifest":
        """Return one that can be changed without this one."""
        return decode(encode(self))


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as it is in its file: for reading, too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(data: bytes) -> Manifest:
    """Return the manifest in a file's bytes.

    Raises:
        InstallError: it is none, or that of a later plugd.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstallError(f"cannot read {PATH}: {error}", EXIT_REFUSED) from error
    if manifest.format != FORMAT:
        raise InstallError(f"cannot read {PATH}: a later plugd has written it", EXIT_REFUSED)
    return manifest


def load(tree: Tree) -> Manifest:
    """Return a tree's manifest; an empty one where there is none.

    Raises:
        InstallError: it cannot be read, or others than root could have written it.
    """
    real = tree.real(PATH)
    try:
        for path in (os.path.dirname(real), real):
            status = os.lstat(path)
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InstallError(f"cannot trust {PATH}: others than root can write it", EXIT_REFUSED)
        data = tree.read(PATH)
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise InstallError(f"cannot read {PATH}: {error.strerror}", EXIT_REFUSED) from error
    return decode(data)


def save(tree: Tree, manifest: Manifest) -> None:
    """Write a tree's manifest, if it differs from what is there.

    Raises:
        OSError: it cannot be written.
    """
    data = encode(manifest)
    if not tree.exists(PATH) or tree.read(PATH) != data:
        tree.write(PATH, data)


@contextmanager
def locked(tree: Tree) -> Iterator[None]:
    """Keep others from installing into this tree, in the block.

    The lock is the manifest's directory: it is made, and removed if nothing is in it afterwards.

    Raises:
        InstallError: another is under way.
        OSError: the directory cannot be made.
    """
    tree.make(DIRECTORY)
    descriptor = os.open(tree.real(DIRECTORY), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InstallError("another plugd install or uninstall is under way", EXIT_REFUSED) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # There is a manifest in it.
                tree.remove_directory(DIRECTORY)
    finally:
        os.close(descriptor)
