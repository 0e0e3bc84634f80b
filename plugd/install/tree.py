"""The file system that plugd is installed into: ``/``, or another one in a directory, as ``--root`` says."""

import contextlib
import hashlib
import os
import shutil
import stat

from plugd.install.errors import EXIT_REFUSED, InstallError

ABSENT = ""
OTHER = "other"  # a directory, a device: nothing that plugd has written


def file_content(data: bytes) -> str:
    """Return how a file with these bytes is written down."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def link_content(target: str) -> str:
    """Return how a symbolic link to this target is written down."""
    return f"link:{target}"


class Tree:
    """A file system; every path is absolute in it, whatever directory it lies in here.

    Args:
        root: its directory, which must be there.

    All methods raise OSError where the kernel does, and InstallError for a path that leads out of the tree.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.realpath(root)

    @property
    def is_own(self) -> bool:
        """Whether it is the one that this process runs in."""
        return self.root == "/"

    def real(self, path: str) -> str:
        """Return where a path of the tree is here."""
        if self.is_own:
            return path
        directory = os.path.realpath(os.path.join(self.root, os.path.dirname(path).lstrip("/")))
        # A link that is right inside the tree may lead to this system's own files from outside.
        if directory != self.root and not directory.startswith(f"{self.root}/"):
            raise InstallError(f"cannot use {path} in {self.root}: it leads to {directory}, out of it", EXIT_REFUSED)
        return os.path.join(directory, os.path.basename(path))

    def content(self, path: str) -> str:
        """Return what is at a path: file_content(), link_content(), ABSENT or OTHER."""
        real = self.real(path)
        try:
            mode = os.lstat(real).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        if stat.S_ISLNK(mode):
            return link_content(os.readlink(real))
        return file_content(self.read(path)) if stat.S_ISREG(mode) else OTHER

    def exists(self, path: str) -> bool:
        """Whether anything is at a path, and be it a broken link."""
        return os.path.lexists(self.real(path))

    def is_directory(self, path: str) -> bool:
        """Whether a directory is at a path, or a link to one."""
        return os.path.isdir(self.real(path))

    def names(self, path: str) -> set[str]:
        """Return the names in a directory; none where there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return set(os.listdir(self.real(path)))
        return set()

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        with open(self.real(path), "rb") as file:
            return file.read()

    def make(self, path: str, mode: int = 0o755) -> None:
        """Make a directory, with this mode whatever the umask is; one that is there stays as it is."""
        real = self.real(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(real, mode)
            os.chmod(real, mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file: at any moment, and after a crash, it is the old one or the new one."""
        real = self.real(path)
        aside = f"{real}.plugd-new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)  # what a crash has left
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.rename(aside, real)
        except BaseException:
            os.unlink(aside)
            raise
        self._sync_directory(real)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, in the place of one that is there."""
        real = self.real(path)
        aside = f"{real}.plugd-new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        os.symlink(target, aside)
        os.rename(aside, real)

    def remove(self, path: str) -> None:
        """Remove a file or a link; none is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.real(path))

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory; none is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.real(path))

    def remove_all(self, path: str) -> None:
        """Remove whatever is at a path, a directory with all that is in it; links are not followed."""
        real = self.real(path)
        if os.path.islink(real) or not os.path.isdir(real):
            self.remove(path)
        else:
            shutil.rmtree(real)  # by descriptors: it cannot be led elsewhere while it runs

    @staticmethod
    def _sync_directory(real: str) -> None:
        descriptor = os.open(os.path.dirname(real), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
