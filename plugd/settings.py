"""What the daemon runs with: flags, the configuration, systemd's directories and defaults, in that order."""

import grp
import os
import pwd
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from plugd.config import Config, ConfigError, Fault, LogFormat, LogLevel, load
from plugd.config_values import SOCKET_PATH_BYTES
from plugd.paths import Defaults, defaults, home
from plugd.settings_files import Key, format_key, merge, read_documents


class Flags(NamedTuple):
    """What the command line says; None where it says nothing. Relative paths are the caller's."""

    config: str | None = None
    plugin_dirs: tuple[str, ...] | None = None
    lock: str | None = None
    socket: str | None = None
    state_dir: str | None = None
    log_level: LogLevel | None = None
    log_format: LogFormat | None = None


class Settings(NamedTuple):
    """All that the daemon must know to run; paths are absolute and need not exist."""

    config: Config
    """The configuration, with the flags already in its place: ``config.log.level`` is the one to use."""

    plugin_dirs: tuple[str, ...]
    socket: str
    state_dir: str

    runtime_dir: str
    """What is gone with the machine's memory: /run/plugd for root."""

    credentials_dir: str
    """Where plugins' secrets are looked for."""

    lock: str | None
    """The file that says which plugins may run; None: no such file."""

    config_path: str | None
    """The main configuration file; None if there is no such file."""

    config_files: tuple[str, ...]
    """The files that were read, drop-ins included, in order."""

    flags: Flags
    environ: Mapping[str, str]
    uid: int

    def reload_config(self) -> "Settings":
        """Return the settings anew from the same sources: files are read again, flags still win.

        Blocks on the disk and on the databases of users and groups. Which of the changes take effect without a
        restart is the caller's affair.

        Raises:
            ConfigError: with every fault; these settings stay as they are.
        """
        return resolve(self.flags, self.environ, self.uid)


def resolve(flags: Flags, environ: Mapping[str, str], uid: int) -> Settings:
    """Return the settings: a flag wins over the configuration, that over systemd's directories and defaults.

    Raises:
        ConfigError: with every fault of the files and the flags; that a user or group does not exist is one.
    """
    faults = list(_socket_faults(flags.socket))
    flags = _absolute(flags)
    usual = defaults(environ, uid)
    faults += _flag_faults(flags)
    path = flags.config or usual.config_file
    try:
        loaded = load(path, required=flags.config is not None)
        faults += _account_faults(loaded.config, path)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from error
    config = _with_flags(loaded.config, flags)
    settings = Settings(
        config=config,
        plugin_dirs=_plugin_dirs(config, usual, home(environ, uid)),
        socket=_expand(config.socket, home(environ, uid)) or usual.socket,
        state_dir=_expand(config.state_dir, home(environ, uid)) or usual.state_dir,
        runtime_dir=usual.runtime_dir,
        credentials_dir=_expand(config.credentials_dir, home(environ, uid)) or usual.credentials_dir,
        lock=_expand(config.lock, home(environ, uid)),
        config_path=loaded.path if loaded.path in loaded.files else None,
        config_files=loaded.files,
        flags=flags,
        environ=environ,
        uid=uid,
    )
    if len(os.fsencode(settings.socket)) > SOCKET_PATH_BYTES:
        place = "--socket" if flags.socket is not None else "socket"
        reason = f"cannot use {settings.socket!r}: a socket's path has at most {SOCKET_PATH_BYTES} bytes"
        faults.append(Fault(place, None, reason))
    if faults:
        raise ConfigError(faults)
    return settings


def _absolute(flags: Flags) -> Flags:
    """Return the flags with absolute paths: a reload must find the same files from any directory."""
    return flags._replace(
        config=None if flags.config is None else os.path.abspath(flags.config),
        plugin_dirs=None if flags.plugin_dirs is None else tuple(map(os.path.abspath, flags.plugin_dirs)),
        lock=None if flags.lock is None else os.path.abspath(flags.lock),
        socket=None if flags.socket is None else os.path.abspath(flags.socket),
        state_dir=None if flags.state_dir is None else os.path.abspath(flags.state_dir),
    )


def _socket_faults(socket: str | None) -> Iterator[Fault]:
    """Refuse what would make an abstract socket, which has no permissions: unix(7), socat(1)."""
    if socket is not None and (not socket or socket.startswith("@")):
        yield Fault("--socket", None, f"cannot use {socket!r}: it is not the path of a file")


def _flag_faults(flags: Flags) -> list[Fault]:
    return [
        Fault("--plugin-dir", None, f"cannot use {directory!r}: no such directory")
        for directory in flags.plugin_dirs or ()
        if not os.path.isdir(directory)
    ]


def _account_faults(config: Config, path: str) -> list[Fault]:
    unknown = list(_unknown_accounts(config))
    if not unknown:
        return []
    merged = merge(read_documents(path, required=False))  # Again, for the files that the names are from.
    return [Fault(merged.origin(key), format_key(key), reason) for key, reason in unknown]


def _unknown_accounts(config: Config) -> Iterator[tuple[Key, str]]:
    """Yield the key and the reason for each group and user that does not exist; a number needs no entry."""
    control = config.control
    groups: list[tuple[Key, str | None]] = [(("control", "group"), control.group)]
    groups += [(("control", "operators", position), name) for position, name in enumerate(control.operators)]
    groups += [(("control", "admins", position), name) for position, name in enumerate(control.admins)]
    for key, name in groups:
        if name is not None and not _is_group(name):
            yield key, f"there is no group {name!r}"
    users: list[tuple[Key, str | int | None]] = [(("workers", "user"), config.workers.user)]
    users += [(("plugins", name, "user"), plugin.user) for name, plugin in config.plugins.items()]
    users += [(("import", "munin", "user"), config.import_.munin.user)]
    users += [(("import", "nagios", "user"), config.import_.nagios.user)]
    for key, user in users:
        if isinstance(user, str) and user not in ("auto", "root") and not _is_user(user):
            yield key, f"there is no user {user!r}"


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):  # ValueError: it has a NUL character
        return False
    return True


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _with_flags(config: Config, flags: Flags) -> Config:
    log = msgspec.structs.replace(
        config.log,
        level=flags.log_level or config.log.level,
        format=flags.log_format or config.log.format,
    )
    return msgspec.structs.replace(
        config,
        plugin_dirs=config.plugin_dirs if flags.plugin_dirs is None else flags.plugin_dirs,
        lock=flags.lock or config.lock,
        socket=flags.socket or config.socket,
        state_dir=flags.state_dir or config.state_dir,
        log=log,
    )


def _plugin_dirs(config: Config, usual: Defaults, home_dir: str) -> tuple[str, ...]:
    if config.plugin_dirs is None:
        return usual.plugin_dirs
    return tuple(_expand(directory, home_dir) or directory for directory in config.plugin_dirs)


def _expand(path: str | None, home_dir: str) -> str | None:
    """Return a path with ``~/`` replaced; also that of the daemon's user under systemd, which has no HOME."""
    return f"{home_dir}/{path[2:]}" if path is not None and path.startswith("~/") else path
