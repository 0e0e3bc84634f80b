"""Whole directories of other people's plugins, as tables of the configuration: ``[import]``."""

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from plugd.catalog.programs import follow
from plugd.catalog.trust import Distrusted, Trust
from plugd.config import ImportConfig, MuninImportConfig, NagiosImportConfig, PluginConfig
from plugd.config_values import read_user
from plugd.formats.munin_conf import (
    PluginConf,
    PluginSettings,
    is_conf_file,
    is_plugin_file,
    parse_plugin_conf,
    plugin_settings,
)
from plugd.formats.nrpe import parse_nrpe

CONF_BYTES = 1024 * 1024  # of one file
NAME_LENGTH = 64

_NOT_IN_NAME = re.compile(r"[^a-z0-9_.-]")


class Imported(NamedTuple):
    """One plugin that a directory holds.

    Attributes:
        config: as if it stood in the configuration.
        source: the file that it comes from.
        autoconf: whether it is asked first if it can work here.
        fault: why it may not run, or None.
    """

    config: PluginConfig
    source: str
    autoconf: bool = False
    fault: str | None = None


class Imports(NamedTuple):
    """What was imported by plugin name, and what was not, with the reason."""

    plugins: dict[str, Imported]
    ignored: list[tuple[str, str]]


def import_plugins(trust: Trust, config: ImportConfig, own: Mapping[str, PluginConfig]) -> Imports:
    """Read the directories; blocks on the disk.

    Args:
        trust: judges the directories, and the files that say what is run.
        config: which directories.
        own: the tables of the configuration; what one says of an imported plugin wins.
    """
    imports = Imports({}, [])
    for prefix, file, found in (
        *(("munin", *each) for each in _munin(trust, config.munin, imports.ignored)),
        *(("nagios", *each) for each in _nagios(trust, config.nagios, imports.ignored)),
    ):
        name = f"{prefix}.{_NOT_IN_NAME.sub('_', file.lower())}"
        if len(name) > NAME_LENGTH:
            imports.ignored.append((found.source, f"{name}: a plugin's name has at most {NAME_LENGTH} characters"))
        elif name in imports.plugins:
            reason = f"it would have the same name, {name}, as {imports.plugins[name].source}"
            imports.ignored.append((found.source, reason))
        else:
            table = own.get(name, PluginConfig())
            imports.plugins[name] = found._replace(config=_spread(name, _merged(found.config, table)))
    return imports


def _munin(trust: Trust, config: MuninImportConfig, ignored: list[tuple[str, str]]) -> Iterator[tuple[str, Imported]]:
    if config.directory is None:
        return
    conf = _plugin_conf(trust, config.conf_dir, ignored)
    for file in _programs(trust, config.directory, config.only, config.except_, ignored):
        if not is_plugin_file(file):
            continue  # Munin itself takes it for no plugin: an editor's or a package manager's left-over.
        path = os.path.join(config.directory, file)
        settings = plugin_settings(conf, file)
        base = PluginConfig(
            command=(path,),
            format="munin",
            interval=settings.update_rate or config.interval,
            timeout=settings.timeout or config.timeout,
            user=config.user if settings.user is None else None,
        )
        try:
            yield file, Imported(_with_settings(base, settings), path, config.autoconf)
        except ValueError as error:
            yield file, Imported(base, path, fault=f"{config.conf_dir}: {error}")


def _with_settings(base: PluginConfig, settings: PluginSettings) -> PluginConfig:
    """Return a table with what Munin's own configuration says; ValueError: plugd cannot do that."""
    if settings.command:
        reason = "runs it by another program, which plugd does not: give it a table with such a command"
        raise ValueError(f"command {' '.join(settings.command)!r} {reason}")
    for name, value in settings.environment.items():
        if not value.isascii() and any("\udc80" <= each <= "\udcff" for each in value):
            raise ValueError(f"env.{name} is not UTF-8")
    user = base.user
    if settings.user is not None:
        user = read_user(int(settings.user) if settings.user.isascii() and settings.user.isdigit() else settings.user)
    environment = dict(settings.environment)
    if settings.host_name is not None:
        environment.setdefault("FQDN", settings.host_name)
    return msgspec.structs.replace(base, environment=environment, user=user)


def _plugin_conf(trust: Trust, directory: str, ignored: list[tuple[str, str]]) -> PluginConf:
    """Read what decides, among other things, who becomes root."""
    names = [name for name in _listing(trust, directory, ignored, optional=True) if is_conf_file(name)]
    files = [
        (name, data) for name in names if (data := _read(trust, os.path.join(directory, name), ignored)) is not None
    ]
    conf = parse_plugin_conf(files)
    ignored += [(os.path.join(directory, name), f"line {fault.line}: {fault.message}") for name, fault in conf.faults]
    return conf


def _nagios(trust: Trust, config: NagiosImportConfig, ignored: list[tuple[str, str]]) -> Iterator[tuple[str, Imported]]:
    base = PluginConfig(format="nagios", interval=config.interval, timeout=config.timeout, user=config.user)
    if config.directory is not None:
        without = dict(config.arguments)
        for file in _programs(trust, config.directory, config.only, config.except_, ignored):
            path = os.path.join(config.directory, file)
            command = (path, *without.pop(file, ()))
            yield file, Imported(msgspec.structs.replace(base, command=command), path)
        reason = "[import.nagios] has arguments for it, and does not import it"
        ignored += [(os.path.join(config.directory, file), reason) for file in without]
    for path in config.commands:
        names = [path]
        if os.path.isdir(path):
            listed = _listing(trust, path, ignored)
            names = [os.path.join(path, name) for name in listed if name.endswith(".cfg") and not name.startswith(".")]
        for name in names:
            data = _read(trust, name, ignored)
            commands, faults = parse_nrpe(data or b"")
            ignored += [(name, f"line {fault.line}: {fault.message}") for fault in faults]
            for each in commands:
                if not _fits(each.name, ("*",), config.except_):
                    continue
                yield each.name, Imported(msgspec.structs.replace(base, command=each.argv), name)


def _programs(
    trust: Trust, directory: str, only: Iterable[str], but: Iterable[str], ignored: list[tuple[str, str]]
) -> Iterator[str]:
    """Yield the names of the executable files in a directory; what may not run is found out later."""
    for name in _listing(trust, directory, ignored):
        path = os.path.join(directory, name)
        if name.startswith(".") or not _fits(name, only, but) or os.path.isdir(path):
            continue
        if not name.isprintable():
            ignored.append((path, "a name that is not printable"))
        elif not os.path.exists(path):
            ignored.append((path, "a symbolic link to what is not there"))
        elif os.stat(path).st_mode & 0o111:
            yield name


def _fits(name: str, only: Iterable[str], but: Iterable[str]) -> bool:
    return any(fnmatchcase(name, each) for each in only) and not any(fnmatchcase(name, each) for each in but)


def _listing(trust: Trust, directory: str, ignored: list[tuple[str, str]], *, optional: bool = False) -> list[str]:
    try:
        listing = trust.list(follow(trust, directory))
        if listing.fault is None:
            return listing.names
        reason = listing.fault
    except Distrusted as distrusted:
        if optional and not os.path.lexists(directory):
            return []
        reason = str(distrusted)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    ignored.append((directory, reason))
    return []


def _read(trust: Trust, path: str, ignored: list[tuple[str, str]]) -> bytes | None:
    try:
        return trust.read(follow(trust, path), CONF_BYTES)
    except Distrusted as distrusted:
        ignored.append((path, str(distrusted)))
        return None


def _merged(base: PluginConfig, own: PluginConfig) -> PluginConfig:
    """Return a table with whatever another one says."""
    usual = PluginConfig()
    said = {name: value for name, value in msgspec.structs.asdict(own).items() if value != getattr(usual, name)}
    if "environment" in said:
        said["environment"] = {**base.environment, **own.environment}
    return msgspec.structs.replace(base, **said)


def _spread(name: str, config: PluginConfig) -> PluginConfig:
    """Give a plugin a time of its own within the interval: fifty scripts at one instant would be noticed."""
    if config.offset is not None or config.interval is None:
        return config
    return msgspec.structs.replace(config, offset=round(zlib.crc32(name.encode()) / 2**32 * config.interval, 3))
