"""Secrets on their way from the daemon to the one plugin that may have them.

Each worker gets a directory of its own with its credentials, the copies of which are its user's; it is there for as
long as the worker. That workers of one user, or of one that may read everything, cannot read each other's, and not
what these are copied from, is up to Landlock: see ``plugd.worker.landlock``.
"""

import contextlib
import errno
import itertools
import os
import shutil
import stat
from types import TracebackType
from typing import Self

import structlog

from plugd import leftovers
from plugd.catalog.secrets import open_credential
from plugd.catalog.spec import Credential, PluginSpec
from plugd.errors import PLUGIN_INVALID, CommandError
from plugd.hosting.confinement import identity_of

log = structlog.get_logger()

DIRECTORY = "credentials"
SEND_BYTES = 1024 * 1024


class SecretStore:
    """A context manager round the directories of all workers; what one that was killed has left is taken away.

    Args:
        runtime_dir: below which they are, on a file system that is in memory. None: there are no secrets, as in tests.
    """

    def __init__(self, runtime_dir: str | None = None) -> None:
        self._base = None if runtime_dir is None else os.path.join(os.path.realpath(runtime_dir), DIRECTORY)
        self._own = None if self._base is None else os.path.join(self._base, leftovers.mark_of(os.getpid()))
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        if self._base is not None:
            with contextlib.suppress(OSError):  # There is none, or it is somebody else's.
                for name in os.listdir(self._base):
                    if leftovers.is_of_dead_daemon(name):
                        shutil.rmtree(os.path.join(self._base, name), ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None and os.path.lexists(self._own):
            shutil.rmtree(self._own, ignore_errors=True)

    def hidden_from(self, spec: PluginSpec) -> tuple[str, ...]:
        """Return the directories that a plugin may not read from, its own excepted; none where there is no secret."""
        if self._base is None or spec.secrets is None or spec.secrets.directory is None:
            return ()
        return spec.secrets.directory, self._base

    def give(self, spec: PluginSpec) -> str | None:
        """Make a directory with a plugin's credentials for one worker; blocks on the disk.

        They are read anew. Returns: its path, or None where the plugin has none.

        Raises:
            CommandError: ``plugin.invalid``: one cannot be read, or there is no place for it.
        """
        if spec.secrets is None or not spec.secrets.credentials or self._own is None:
            return None
        directory = os.path.join(self._own, f"{spec.name}.{next(self._numbers)}")
        try:
            identity = identity_of(spec)
            self._make(directory, identity)
            for credential in spec.secrets.credentials:
                _copy(credential, directory, identity)
        except OSError as error:
            self.take_back(directory)
            raise CommandError(
                PLUGIN_INVALID, f"cannot hand over credentials: {error.filename or directory}: {error.strerror}"
            ) from error
        except BaseException:
            self.take_back(directory)
            raise
        return directory

    def take_back(self, directory: str | None) -> None:
        """Remove what :meth:`give` has made; what it had to itself, nobody uses any more."""
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _make(self, directory: str, identity: tuple[int, int] | None) -> None:
        assert self._base is not None
        assert self._own is not None
        # Others pass through, where workers have users of their own; they list nothing.
        through = 0o700 if identity is None else 0o711
        runtime_dir = os.path.dirname(self._base)
        os.makedirs(runtime_dir, 0o755, exist_ok=True)
        _check_owner(runtime_dir, os.geteuid(), 0)  # Whose it is, may put another in the place of what is below it.
        for path in (self._base, self._own):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            _check_owner(path, os.geteuid())
            if stat.S_IMODE(os.stat(path).st_mode) & through != through:
                os.chmod(path, through)
        os.mkdir(directory, 0o700)
        if identity is not None:
            # It stays the daemon's, which can so take it away; its files are the worker's.
            os.chown(directory, -1, identity[1])
            os.chmod(directory, 0o750)  # noqa: S103 - the group is that of the worker


def _check_owner(path: str, *owners: int) -> None:
    if os.lstat(path).st_uid not in owners:
        raise PermissionError(errno.EPERM, "it belongs to somebody else", path)


def _copy(credential: Credential, directory: str, identity: tuple[int, int] | None) -> None:
    """Copy a credential in the kernel: nothing of it shall be found in a core of the daemon.

    Raises:
        CommandError: ``plugin.invalid``: it cannot be read.
        OSError: it cannot be written.
    """
    try:
        source = open_credential(credential.path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(
            PLUGIN_INVALID, f"credential {credential.name!r} cannot be read: {credential.path}: {reason}"
        ) from error
    try:
        path = os.path.join(directory, credential.name)
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            while os.sendfile(target, source, None, SEND_BYTES):
                pass
            if identity is not None:
                os.fchown(target, *identity)
        finally:
            os.close(target)
    finally:
        os.close(source)
