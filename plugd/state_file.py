"""Files of the state directory: what outlives the daemon, each of them replaced as a whole.

A file is written under another name, brought to the disk, and renamed: whoever looks, be it after a SIGKILL or a
loss of power, finds the old one or the new one. What cannot be written is told once, and what cannot be read is put
aside; neither ends the daemon.
"""

import errno
import os
import stat
from typing import BinaryIO

import structlog

log = structlog.get_logger()


class Replacement:
    """What is to take a file's place; nobody sees it before :meth:`commit`. Its methods block on the disk.

    Args:
        path: of the file; its directory is made where there is none.

    Raises:
        OSError: it cannot be made; also by the methods, and nothing of it is left then.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = path + ".new"
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        try:
            os.unlink(self._temporary)  # Of one that was killed; whatever it is, it is not written into.
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = open(os.open(self._temporary, flags, 0o600), "wb")  # noqa: SIM115 - closed by commit and discard

    def write(self, data: bytes) -> None:
        """Add to it."""
        try:
            self._file.write(data)
        except OSError:
            self.discard()
            raise

    def commit(self) -> None:
        """Put it in the file's place, on the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.rename(self._temporary, self._path)
        except OSError:
            self.discard()
            raise
        parent = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)  # The rename itself is on the disk only then.
        finally:
            os.close(parent)

    def discard(self) -> None:
        """Leave nothing of it, and the file as it is."""
        try:
            self._file.close()
        except OSError:
            pass  # It could not write what it had; nobody wants that any more.
        try:
            os.unlink(self._temporary)
        except OSError:
            pass  # The next one tries again.


class StateFile:
    """One file, and what is wrong with it. Its methods block on the disk; one thread at a time calls them.

    Args:
        path: where it is.
        maximum_bytes: a larger one is neither read nor written.
        notes: has a line for people on each thing that is not in order; shared with other files.
    """

    def __init__(self, path: str, maximum_bytes: int, notes: list[str]) -> None:
        self.path = path
        self.maximum_bytes = maximum_bytes
        self._notes = notes
        self._fault: str | None = None  # of the last attempt to write it

    def open(self) -> BinaryIO:
        """Open it for reading; the caller closes it.

        Raises:
            OSError: it cannot be opened, or is no regular file; FileNotFoundError: there is none.
            ValueError: it is too large.
        """
        # What is no file may make who opens it wait for ever: fifo(7).
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "It is not a regular file")
            if status.st_size > self.maximum_bytes:
                raise ValueError(f"larger than {self.maximum_bytes} bytes")
            return open(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def read(self) -> bytes:
        """Return all of it.

        Raises:
            OSError, ValueError: as of :meth:`open`.
        """
        with self.open() as file:
            data = file.read(self.maximum_bytes + 1)
        if len(data) > self.maximum_bytes:
            raise ValueError(f"larger than {self.maximum_bytes} bytes")
        return data

    def replace(self, data: bytes) -> None:
        """Have it hold something else.

        Raises:
            OSError: it cannot be written, and is as it was.
        """
        if len(data) > self.maximum_bytes:
            raise OSError(errno.EFBIG, f"It would be larger than {self.maximum_bytes} bytes")
        replacement = Replacement(self.path)
        replacement.write(data)
        replacement.commit()

    def put_aside(self) -> str:
        """Rename a file that is of no use, for people to look at; return what has become of it.

        Raises:
            OSError: it cannot be renamed.
        """
        os.replace(self.path, self.path + ".broken")
        return f"it is kept as {self.path}.broken"

    def give_up(self, what: str, reason: str) -> None:
        """Put it aside and tell of it: ``what`` is not as it was when the last plugd ended."""
        try:
            kept = self.put_aside()
        except OSError as error:
            kept = f"it cannot be put aside: {_reason_of(error)}"
        note = f"{what}: {self.path} is broken ({reason}); {kept}"
        self._notes.append(note)
        log.warning("state_broken", path=self.path, reason=note)

    def tell(self, error: OSError | None) -> None:
        """Take note of how an attempt to write it went. Of one fault it is told once, and once that it is over."""
        fault = None if error is None else _reason_of(error)
        before, self._fault = self._fault, fault
        if fault == before:
            return
        if before is not None:
            self._notes.remove(self._note(before))
        if fault is not None:
            self._notes.append(self._note(fault))
            log.error("state_not_written", path=self.path, reason=fault)
        else:
            log.info("state_written_again", path=self.path)

    def _note(self, fault: str) -> str:
        return f"cannot write {self.path}: {fault}; what it would hold will be lost when plugd ends"


def _reason_of(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
