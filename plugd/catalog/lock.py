"""The lock: the sha256 of every plugin that may run."""

from collections.abc import Mapping
from typing import NamedTuple

from plugd.config import ConfigError, Fault
from plugd.lockfile import MAXIMUM_BYTES, LockError, parse
from plugd.settings_files import read_file


class Lock(NamedTuple):
    """Which plugins may run, and which bytes of them.

    Attributes:
        path: the file that says it.
        hashes: sha256 in hexadecimal, by plugin name.
    """

    path: str
    hashes: Mapping[str, str]

    def fault_of(self, name: str, sha256: str) -> str | None:
        """Return why a plugin with this hash may not run, or None. An instance may run as its file may."""
        locked = self.hashes.get(name) or self.hashes.get(name.partition("@")[0])
        if locked is None:
            return f"not in the lock {self.path}: sha256 {sha256}"
        if locked != sha256:
            return f"differs from the lock {self.path}: sha256 {sha256}, locked {locked}"
        return None


def read_lock(path: str) -> Lock:
    """Read a lock file; blocks on the disk.

    Raises:
        ConfigError: it cannot be read, or is no lock.
    """
    try:
        data = read_file(path, MAXIMUM_BYTES + 1)
    except OSError as error:
        raise _invalid(path, f"cannot read the lock: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAXIMUM_BYTES:
        raise _invalid(path, f"not a lock: larger than {MAXIMUM_BYTES} bytes")
    return parse_lock(data, path)


def parse_lock(data: bytes, path: str) -> Lock:
    """Return the lock that a file's bytes are, in any form of ``plugd.lockfile``.

    A plugin without a hash is as good as absent: so is one that failed before its file could be trusted.

    Raises:
        ConfigError: they are not one.
    """
    try:
        return Lock(path, {name: locked.sha256 for name, locked in parse(data).items()})
    except LockError as error:
        raise _invalid(path, f"not a lock: {error}") from error


def _invalid(path: str, reason: str) -> ConfigError:
    return ConfigError([Fault(path, None, reason)])
