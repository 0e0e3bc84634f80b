"""Other people's programs as a worker runs them: the bytes that were checked, in a process group, without a shell."""

import errno
import os
import signal
import stat
from collections.abc import Mapping
from typing import Any

from plugd.descendants import descendants_of, signal_all, stop_descendants
from plugd.worker.failure import INVALID, Failure

# hashlib would bring OpenSSL with it: two megabytes in each worker, for what is needed when somebody touches a file.
try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]  # since Python 3.12
except ImportError:
    from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]

REAP_TRIES = 100
REAP_PERIOD = 0.002  # seconds
CHUNK_BYTES = 1024 * 1024

# Signals that Python, or the daemon's parent, may have had ignored: what is ignored stays so across an exec.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM)


class Program:
    """The executable of a plugin.

    A binary is opened once and run by its descriptor, whatever becomes of its name. A script is opened by its
    interpreter, and has to be run by its path: that it leads to the file that was checked is seen each time before.

    Args:
        command: as ``plugd.catalog.spec.CommandSpec.as_params`` has it.

    Raises:
        Failure: ``plugin.invalid``: it is not there any more, or not what was checked.
    """

    def __init__(self, command: Mapping[str, Any]) -> None:
        self.argv: tuple[str, ...] = tuple(command["argv"])
        self._path: str = command["path"]
        self._sha256: str = command["sha256"]
        self._identity = tuple(command["identity"])
        self._executable = self._path
        try:
            if command["binary"]:
                descriptor = os.open(self._path, os.O_PATH | os.O_CLOEXEC)
                self._executable = f"/proc/self/fd/{descriptor}"
            os.chdir(command["cwd"])
        except OSError as error:
            raise Failure(INVALID, f"{error.filename or self._path}: {_reason(error)}", path=self._path) from error
        self._check_readable()

    def start(self, *arguments: str, stdin: int = 0, stdout: int, stderr: int = 2) -> int:
        """Start it, in a process group of its own; return its pid.

        Args:
            arguments: further ones, behind its own.
            stdin: a descriptor for its input; this process's own is empty.
            stdout: one for its output.
            stderr: one for its errors; this process's own goes to the plugin's log.

        Raises:
            Failure: ``plugin.invalid``: it cannot be run.
        """
        self._check_readable()
        try:
            return os.posix_spawn(
                self._executable,
                [*self.argv, *arguments],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, descriptor, number)
                    for number, descriptor in enumerate((stdin, stdout, stderr))
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except FileNotFoundError as error:  # It is there: that was seen just before.
            message = f"cannot run {self._path}: the interpreter that it names is not there"
            raise Failure(INVALID, message, path=self._path) from error
        except OSError as error:
            raise Failure(INVALID, f"cannot run {self._path}: {_reason(error)}", path=self._path) from error

    def _check_readable(self) -> None:
        try:
            self._check()
        except OSError as error:
            raise Failure(INVALID, f"{self._path}: {_reason(error)}", path=self._path) from error

    def _check(self) -> None:
        status = os.stat(self._executable)
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if identity == self._identity:
            return
        if not stat.S_ISREG(status.st_mode) or _sha256(self._executable) != self._sha256:
            message = f"{self._path} has changed since it was checked: `plugctl reload` takes it as it is now"
            raise Failure(INVALID, message, path=self._path)
        self._identity = identity  # The same bytes, written again.


def kill_started(pid: int | None = None) -> None:
    """Kill and reap all that this process has started; it is a child subreaper, so that nothing has got away.

    Args:
        pid: of the one whose status somebody else waits for; it is killed, and not reaped.
    """
    if stopped := stop_descendants(os.getpid()):
        signal_all(stopped, signal.SIGKILL)
        _reap(pid)


def _reap(but: int | None) -> None:
    """Wait for what was killed; one that hangs in the kernel is left to it."""
    import time

    for _ in range(REAP_TRIES):
        left = [pid for pid in descendants_of(os.getpid()) if pid != but]
        if not left:
            return
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass  # A grandchild yet: its parent is about to be reaped.
        time.sleep(REAP_PERIOD)


def _sha256(path: str) -> str:
    digest = sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return str(digest.hexdigest())


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return "no binary of this machine, and no script whose first line names its interpreter"
    if isinstance(error, PermissionError):
        return f"permission denied, as user {os.getuid()}"
    return str(error.strerror)
