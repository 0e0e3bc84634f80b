"""Secrets of plugins, which systemd calls credentials: where they are, and whether they have changed.

Their values do not stay in the daemon: what is kept is a digest, under a key that only this process has.
"""

import hashlib
import os
import stat
from dataclasses import replace

from plugd.catalog.spec import Credential, PluginSpec, Secrets

PREFIX = "plugd_"  # of what LoadCredential=plugd:DIRECTORY makes of the files of a directory: systemd.exec(5)
MAXIMUM_BYTES = 1024 * 1024  # of one; as systemd has it for all of a unit
CHUNK_BYTES = 64 * 1024

_KEY = os.urandom(32)


def with_secrets(spec: PluginSpec, directory: str) -> PluginSpec:
    """Return the plugin with its secrets, or with the fault that one is missing; blocks on the disk."""
    found: list[Credential] = []
    faults: list[str] = []
    for name in spec.config.credentials:
        try:
            found.append(find(name, directory))
        except LookupError as error:
            faults.append(error.args[0])
    guarded = _guarded(directory) or (os.path.realpath(directory) if found else None)
    fault = spec.fault or "; ".join(faults) or None
    return replace(spec, secrets=Secrets(guarded, tuple(found)), fault=fault)


def find(name: str, directory: str) -> Credential:
    """Look for a credential by its name, and then with the prefix that systemd gives to the files of a directory.

    Raises:
        LookupError: it is not there, or cannot be read; the message says where it was looked for.
    """
    for file in (name, PREFIX + name):
        path = os.path.join(directory, file)
        try:
            return Credential(name, path, _digest(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise LookupError(f"credential {name!r} cannot be read: {path}: {reason}") from error
    raise LookupError(f"there is no credential {name!r}: neither {name} nor {PREFIX}{name} is in {directory}")


def open_credential(path: str) -> int:
    """Return a descriptor of a credential's file, which may be behind a symbolic link: containers have them so.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger than 1 MiB.
    """
    # Without O_NONBLOCK a FIFO would wait for somebody to write.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    reason = "not a regular file" if not stat.S_ISREG(status.st_mode) else ""
    if status.st_size > MAXIMUM_BYTES:
        reason = f"larger than {MAXIMUM_BYTES} bytes"
    if reason:
        os.close(descriptor)
        raise OSError(0, reason)
    return descriptor


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(key=_KEY, digest_size=16)
    chunk = bytearray(CHUNK_BYTES)
    descriptor = open_credential(path)
    try:
        while count := os.readv(descriptor, [chunk]):
            digest.update(memoryview(chunk)[:count])
    finally:
        os.close(descriptor)
        chunk[:] = bytes(CHUNK_BYTES)  # Nothing of it shall be found in a core.
    return digest.digest()


def _guarded(directory: str) -> str | None:
    """Return the directory without links, if there is anything in it that the daemon can read."""
    try:
        with os.scandir(directory) as entries:
            return os.path.realpath(directory) if any(entries) else None
    except OSError:
        return None
