"""Which plugins exist: a walk over the plugin directories, and the configuration's own."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from plugd.catalog.lock import Lock
from plugd.catalog.spec import Kind, PluginSpec
from plugd.catalog.trust import Distrusted, Listing, Trust, trusted_owners
from plugd.config import PluginConfig

PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_.\-]{0,63}(@[a-z0-9_.\-]{1,64})?\Z")
KINDS: Mapping[str, Kind] = {".py": "python"}  # by the file's suffix
MAXIMUM_SOURCE_BYTES = 4 * 1024 * 1024
MAXIMUM_DISTRUSTED = 256  # plugins of a directory that anybody may fill; enough to show what is wrong


class Found(NamedTuple):
    """The result of a walk.

    Attributes:
        specs: by name; those with a fault are among them.
        ignored: what is in a directory and no plugin, with the reason.
    """

    specs: dict[str, PluginSpec]
    ignored: list[tuple[str, str]]


def discover(
    directories: Iterable[str],
    configs: Mapping[str, PluginConfig],
    lock: Lock | None = None,
    owners: frozenset[int] | None = None,
) -> Found:
    """Find every plugin; blocks on the file system.

    Of files of one name the first directory's wins. A directory that is not there is an empty one. Plugins
    that the configuration disables are found as well: ``config.enabled`` tells.

    Args:
        directories: absolute paths.
        configs: the tables of the configuration, by plugin name.
        lock: which plugins may run; None: all that are trusted.
        owners: users who may change what runs; None: :func:`plugd.catalog.trust.trusted_owners`.
    """
    directories = list(directories)
    with Trust(trusted_owners() if owners is None else owners) as trust:
        files, ignored = _walk(trust, directories)
        sources = {stem: _read(trust, path) for stem, path in files.items()}
    specs = {stem: _spec(stem, sources[stem], configs.get(stem, PluginConfig()), lock) for stem in files}
    for name, config in configs.items():
        stem, _, instance = name.partition("@")
        if instance and stem in files:
            specs[name] = _spec(name, sources[stem], config, lock)
        elif name not in specs and config.enabled:
            wanted = ", ".join(directories) or "no directory"
            specs[name] = PluginSpec(name, "python", "", b"", "", config, f"no file {stem}.py in {wanted}")
    return Found(specs, ignored)


class _Source(NamedTuple):
    """A file as it was read, once for all its instances."""

    path: str
    data: bytes
    sha256: str
    fault: str | None


def _walk(trust: Trust, directories: list[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the paths by stem, and what is ignored."""
    files: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for directory in directories:
        names = 0
        listing = _listing(trust, directory, ignored)
        for entry in listing.names:
            stem, suffix = os.path.splitext(entry)
            if suffix not in KINDS or stem.startswith(("_", ".")):
                continue
            names += 1
            if listing.fault is not None and names > MAXIMUM_DISTRUSTED:
                ignored.append((_text(directory), f"and what else is in it; {listing.fault}"))
                break
            path = os.path.join(directory, entry)
            if not PLUGIN_NAME.match(stem) or "@" in stem:
                ignored.append((_text(path), "not a plugin's name: a lowercase letter, then letters, digits and _ . -"))
            else:
                files.setdefault(stem, path)
    return files, ignored


def _listing(trust: Trust, directory: str, ignored: list[tuple[str, str]]) -> Listing:
    try:
        return trust.list(directory)
    except FileNotFoundError:
        return Listing([], None)
    except Distrusted as error:  # a link again, where there was none a moment ago
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    ignored.append((_text(directory), reason))
    return Listing([], None)


def _read(trust: Trust, path: str) -> _Source:
    """Read a plugin's file once; what was read is what runs."""
    try:
        data = trust.read(path, MAXIMUM_SOURCE_BYTES)
    except Distrusted as error:
        return _Source(path, b"", "", str(error))
    return _Source(path, data, hashlib.sha256(data).hexdigest(), None)


def _spec(name: str, source: _Source, config: PluginConfig, lock: Lock | None) -> PluginSpec:
    kind = KINDS[os.path.splitext(source.path)[1]]
    fault = source.fault
    if fault is None and lock is not None:
        fault = lock.fault_of(name, source.sha256)
    if fault is not None:
        # Without its hash: a lock made of `list --json` must not come to have what the last one refused.
        return PluginSpec(name, kind, source.path, b"", "", config, fault)
    return PluginSpec(name, kind, source.path, source.data, source.sha256, config)


def _text(path: str) -> str:
    # A file's name may be any bytes; what is told over the wire is UTF-8.
    return os.fsencode(path).decode(errors="backslashreplace")
