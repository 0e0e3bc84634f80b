"""Where things are, unless somebody says otherwise.

For root the system's directories, for everybody else those of the XDG Base Directory Specification.
systemd's ``CONFIGURATION_DIRECTORY``, ``STATE_DIRECTORY``, ``RUNTIME_DIRECTORY`` and ``CREDENTIALS_DIRECTORY`` win
over both; see systemd.exec(5).
"""

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple

from plugd.rpc.address import control_socket_candidates

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of every plugin, and where programs are looked for that the configuration names without a path."""


class Defaults(NamedTuple):
    """The paths for one user; absolute, and none of them need exist."""

    config_file: str
    plugin_dirs: tuple[str, ...]
    socket: str
    state_dir: str
    runtime_dir: str
    credentials_dir: str


def defaults(environ: Mapping[str, str], uid: int) -> Defaults:
    """Return the paths for a user with this environment."""
    config_dir = _unit_directory(environ, "CONFIGURATION_DIRECTORY")
    state_dir = _unit_directory(environ, "STATE_DIRECTORY")
    if uid == 0:
        config_dir = config_dir or "/etc/plugd"
        state_dir = state_dir or "/var/lib/plugd"
    else:
        config_dir = config_dir or f"{_xdg(environ, uid, 'XDG_CONFIG_HOME', '.config')}/plugd"
        state_dir = state_dir or f"{_xdg(environ, uid, 'XDG_STATE_HOME', '.local/state')}/plugd"
    socket = control_socket_candidates(environ, uid)[0]
    return Defaults(
        config_file=f"{config_dir}/plugd.toml",
        plugin_dirs=(f"{config_dir}/plugins", shipped_plugins()),
        socket=socket,
        state_dir=state_dir,
        runtime_dir=os.path.dirname(socket),
        credentials_dir=_unit_directory(environ, "CREDENTIALS_DIRECTORY") or f"{config_dir}/credentials",
    )


def shipped_plugins() -> str:
    """Return the directory of the plugins that come with plugd: in the package, or beside it in the sources.

    Its real path: no plugin is loaded by way of a symbolic link, and an installation may well be behind one.
    """
    package = os.path.dirname(os.path.realpath(__file__))
    shipped = os.path.join(package, "shipped")
    return os.path.realpath(shipped if os.path.isdir(shipped) else os.path.join(os.path.dirname(package), "plugins"))


def home(environ: Mapping[str, str], uid: int) -> str:
    """Return the user's home directory, ``/`` if nobody knows it."""
    directory = environ.get("HOME", "")
    if directory.startswith("/"):
        return directory.rstrip("/")
    try:
        return pwd.getpwuid(uid).pw_dir.rstrip("/")
    except KeyError:  # a user that only the kernel knows, as in containers
        return ""


def _unit_directory(environ: Mapping[str, str], variable: str) -> str:
    # Several directories are separated by colons; the first is the main one.
    return environ.get(variable, "").split(":")[0]


def _xdg(environ: Mapping[str, str], uid: int, variable: str, usual: str) -> str:
    directory = environ.get(variable, "")
    # The specification: a relative path is invalid, and to be ignored.
    return directory.rstrip("/") if directory.startswith("/") else f"{home(environ, uid)}/{usual}"
