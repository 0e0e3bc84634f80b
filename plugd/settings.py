"""What the daemon runs with: flags, the configuration, systemd's directories and defaults, in that order."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from plugd.config import SOCKET_PATH_BYTES, Config, ConfigError, Fault, LogFormat, LogLevel, load
from plugd.paths import Defaults, defaults, home


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

        Blocks on the disk. Which of the changes take effect without a restart is the caller's affair.

        Raises:
            ConfigError: with every fault; these settings stay as they are.
        """
        return resolve(self.flags, self.environ, self.uid)


def resolve(flags: Flags, environ: Mapping[str, str], uid: int) -> Settings:
    """Return the settings: a flag wins over the configuration, that over systemd's directories and defaults.

    Raises:
        ConfigError: with every fault of the files and the flags.
    """
    flags = _absolute(flags)
    usual = defaults(environ, uid)
    faults = _flag_faults(flags)
    try:
        loaded = load(flags.config or usual.config_file, required=flags.config is not None)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from error
    config = _with_flags(loaded.config, flags)
    settings = Settings(
        config=config,
        plugin_dirs=_plugin_dirs(config, usual, home(environ, uid)),
        socket=_expand(config.socket, home(environ, uid)) or usual.socket,
        state_dir=_expand(config.state_dir, home(environ, uid)) or usual.state_dir,
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


def _flag_faults(flags: Flags) -> list[Fault]:
    return [
        Fault("--plugin-dir", None, f"cannot use {directory!r}: no such directory")
        for directory in flags.plugin_dirs or ()
        if not os.path.isdir(directory)
    ]


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
