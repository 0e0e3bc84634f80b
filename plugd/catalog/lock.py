"""The lock: the sha256 of every plugin that may run, as ``plugctl list --json`` prints it."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from plugd.config import ConfigError, Fault

MAXIMUM_BYTES = 16 * 1024 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


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
        with open(path, "rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise _invalid(path, f"cannot read the lock: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAXIMUM_BYTES:
        raise _invalid(path, f"not a lock: larger than {MAXIMUM_BYTES} bytes")
    return parse_lock(data, path)


def parse_lock(data: bytes, path: str) -> Lock:
    """Return the lock that a file's bytes are: ``[{"name": …, "sha256": …}]`` or ``{name: sha256}``.

    A plugin without a hash is as good as absent: so is one that failed before its file could be trusted.

    Raises:
        ConfigError: they are not one.
    """
    try:
        document = json.loads(data)
        hashes: dict[str, str] = {}
        for name, sha256 in _rows(document):
            if not sha256:
                continue
            if not _SHA256.match(sha256):
                raise ValueError(f"the sha256 of {name!r} is not 64 hexadecimal digits: {sha256[:80]!r}")
            if hashes.setdefault(name, sha256) != sha256:
                raise ValueError(f"{name!r} is in it twice, with two hashes")
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"not a lock: {str(error) or 'nested too deeply'}") from error
    return Lock(path, hashes)


def _rows(document: Any) -> list[tuple[str, str]]:
    shape = "expected the output of `plugctl list --json`, or {name: sha256}"
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list) and all(isinstance(row, dict) and "name" in row for row in document):
        pairs = [(row["name"], row.get("sha256")) for row in document]
    else:
        raise ValueError(shape)
    for name, sha256 in pairs:
        if not isinstance(name, str) or not isinstance(sha256, str | None):
            raise ValueError(f"{shape}; got {name!r}: {sha256!r:.80}")  # noqa: TRY004 - of the document, not the type
    return [(name, (sha256 or "").lower()) for name, sha256 in pairs]


def _invalid(path: str, reason: str) -> ConfigError:
    return ConfigError([Fault(path, None, reason)])
