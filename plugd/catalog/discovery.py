"""Which plugins exist: a walk over the plugin directories, and the configuration's own."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from plugd.catalog.spec import Kind, PluginSpec
from plugd.config import PluginConfig

PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_.\-]{0,63}(@[a-z0-9_.\-]{1,64})?\Z")
KINDS: Mapping[str, Kind] = {".py": "python"}  # by the file's suffix
MAXIMUM_SOURCE_BYTES = 4 * 1024 * 1024


class Found(NamedTuple):
    """The result of a walk.

    Attributes:
        specs: by name; those with a fault are among them.
        ignored: what is in a directory and no plugin, with the reason.
    """

    specs: dict[str, PluginSpec]
    ignored: list[tuple[str, str]]


def discover(directories: Iterable[str], configs: Mapping[str, PluginConfig]) -> Found:
    """Find every plugin; blocks on the file system.

    Of files of one name the first directory's wins. A directory that is not there is an empty one. Plugins
    that the configuration disables are found as well: ``config.enabled`` tells.
    """
    files: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for directory in directories:
        for entry in _entries(directory, ignored):
            stem, suffix = os.path.splitext(entry)
            if suffix not in KINDS or stem.startswith(("_", ".")):
                continue
            path = os.path.join(directory, entry)
            if not PLUGIN_NAME.match(stem) or "@" in stem:
                ignored.append((path, "not a plugin's name: a lowercase letter, then letters, digits and _ . -"))
            else:
                files.setdefault(stem, path)
    specs = {stem: _read(stem, path, configs.get(stem, PluginConfig())) for stem, path in files.items()}
    for name, config in configs.items():
        stem, _, instance = name.partition("@")
        if instance and stem in files:
            specs[name] = _read(name, files[stem], config)
        elif name not in specs and config.enabled:
            wanted = ", ".join(directories) or "no directory"
            specs[name] = _faulty(name, "", config, f"no file {stem}.py in {wanted}")
    return Found(specs, ignored)


def _entries(directory: str, ignored: list[tuple[str, str]]) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        ignored.append((directory, f"cannot be read: {error.strerror}"))
        return []


def _read(name: str, path: str, config: PluginConfig) -> PluginSpec:
    """Read a plugin's file once; what was read is what runs."""
    kind = KINDS[os.path.splitext(path)[1]]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return _faulty(name, path, config, f"cannot be opened: {error.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _faulty(name, path, config, "not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            source = file.read(MAXIMUM_SOURCE_BYTES + 1)
    except OSError as error:
        return _faulty(name, path, config, f"cannot be read: {error.strerror}")
    finally:
        os.close(descriptor)
    if len(source) > MAXIMUM_SOURCE_BYTES:
        return _faulty(name, path, config, f"larger than {MAXIMUM_SOURCE_BYTES} bytes")
    return PluginSpec(name, kind, path, source, hashlib.sha256(source).hexdigest(), config)


def _faulty(name: str, path: str, config: PluginConfig, fault: str) -> PluginSpec:
    return PluginSpec(name, "python", path, b"", "", config, fault)
