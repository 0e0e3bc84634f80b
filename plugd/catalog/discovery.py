"""Which plugins exist: a walk over the plugin directories, and the configuration's own."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from plugd.catalog.commands import command_plugin
from plugd.catalog.imports import import_plugins
from plugd.catalog.lock import Lock
from plugd.catalog.spec import Kind, PluginSpec
from plugd.catalog.trust import Distrusted, Listing, Trust, trusted_owners
from plugd.config import ImportConfig, PluginConfig
from plugd.sealed import SealedCopy

PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_.\-]{0,63}(@[a-z0-9_.\-]{1,64})?\Z")
KINDS: Mapping[str, Kind] = {".py": "python", ".so": "native"}  # by the file's suffix
MAXIMUM_SOURCE_BYTES = 4 * 1024 * 1024
MAXIMUM_OBJECT_BYTES = 64 * 1024 * 1024  # of a native plugin, which may have a whole runtime in it
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
    imports: ImportConfig | None = None,
    state_dir: str | None = None,
) -> Found:
    """Find every plugin; blocks on the file system.

    Of files of one name the first directory's wins. A directory that is not there is an empty one. Plugins
    that the configuration disables are found as well: ``config.enabled`` tells.

    Args:
        directories: absolute paths.
        configs: the tables of the configuration, by plugin name.
        lock: which plugins may run; None: all that are trusted.
        owners: users who may change what runs; None: :func:`plugd.catalog.trust.trusted_owners`.
        imports: directories of other people's plugins.
        state_dir: the daemon's own, where such plugins may get a directory.
    """
    directories = list(directories)
    with Trust(trusted_owners() if owners is None else owners) as trust:
        files, ignored = _walk(trust, directories)
        sources = {stem: _read(trust, paths) for stem, paths in files.items()}
        commands = _commands(trust, imports or ImportConfig(), configs, lock, state_dir, ignored)
    specs = {stem: _spec(stem, sources[stem], configs.get(stem, PluginConfig()), lock) for stem in files}
    for name, config in configs.items():
        stem, _, instance = name.partition("@")
        if instance and stem in files:
            specs[name] = _spec(name, sources[stem], config, lock)
        elif name not in specs and config.enabled:
            wanted = " or ".join(stem + suffix for suffix in KINDS)
            where = ", ".join(directories) or "no directory"
            specs[name] = PluginSpec(name, "python", "", b"", "", config, f"no file {wanted} in {where}")
    return Found(specs | commands, ignored)


def _commands(
    trust: Trust,
    imports: ImportConfig,
    configs: Mapping[str, PluginConfig],
    lock: Lock | None,
    state_dir: str | None,
    ignored: list[tuple[str, str]],
) -> dict[str, PluginSpec]:
    """Return the plugins that are programs; what the configuration names itself wins over what is imported."""
    imported = import_plugins(trust, imports, configs)
    ignored += [(_text(path), reason) for path, reason in imported.ignored]
    specs = {}
    for name, (config, source, autoconf, fault) in imported.plugins.items():
        if fault is not None:
            specs[name] = PluginSpec(name, "command", _text(source), b"", "", config, fault)
        else:
            specs[name] = command_plugin(trust, name, config, lock, state_dir, autoconf=autoconf)
    for name, config in configs.items():
        if config.command:
            specs[name] = command_plugin(trust, name, config, lock, state_dir)
    return specs


class _Source(NamedTuple):
    """A file as it was read, once for all its instances."""

    path: str
    data: bytes
    sha256: str
    fault: str | None
    image: SealedCopy | None = None


def _walk(trust: Trust, directories: list[str]) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Return the paths by stem, of each the one, or all in the first directory that has any; and what is ignored."""
    files: dict[str, list[str]] = {}
    ignored: list[tuple[str, str]] = []
    for directory in directories:
        names = 0
        here: dict[str, list[str]] = {}
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
                here.setdefault(stem, []).append(path)
        files = here | files
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


def _read(trust: Trust, paths: list[str]) -> _Source:
    """Read a plugin's file once; what was read is what runs."""
    path = paths[0]
    if len(paths) > 1:
        return _Source(path, b"", "", f"which of them is the plugin: {' or '.join(paths)}? Take the other one away")
    native = KINDS[os.path.splitext(path)[1]] == "native"
    try:
        data = trust.read(path, MAXIMUM_OBJECT_BYTES if native else MAXIMUM_SOURCE_BYTES)
        sha256 = hashlib.sha256(data).hexdigest()
        return _Source(path, b"", sha256, None, SealedCopy(data, path)) if native else _Source(path, data, sha256, None)
    except Distrusted as error:
        return _Source(path, b"", "", str(error))
    except OSError as error:
        return _Source(path, b"", "", f"cannot be copied into memory: {error.strerror}")


def _spec(name: str, source: _Source, config: PluginConfig, lock: Lock | None) -> PluginSpec:
    kind = KINDS[os.path.splitext(source.path)[1]]
    fault = source.fault
    if fault is None and lock is not None:
        fault = lock.fault_of(name, source.sha256)
    if fault is not None:
        # Without its hash: a lock made of `list --json` must not come to have what the last one refused.
        return PluginSpec(name, kind, source.path, b"", "", config, fault)
    return PluginSpec(name, kind, source.path, source.data, source.sha256, config, image=source.image)


def _text(path: str) -> str:
    # A file's name may be any bytes; what is told over the wire is UTF-8.
    return os.fsencode(path).decode(errors="backslashreplace")
