"""Directories that plugins of other people have to themselves, below the daemon's own."""

import os
import stat

import structlog

from plugd.catalog.spec import PluginSpec
from plugd.hosting.confinement import identity_of

log = structlog.get_logger()


def make_state(spec: PluginSpec) -> None:
    """Make the directory of a plugin, its user's own; where that cannot be, the plugin runs without one.

    Blocks on the disk. What is in it stays for the next generations.
    """
    assert spec.command is not None
    assert spec.command.state is not None
    path = spec.command.state
    identity = identity_of(spec)
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.makedirs(path, 0o700, exist_ok=True)
        if identity is not None:
            # Nobody but the daemon can replace it: what is above it belongs to the daemon.
            os.chown(path, *identity, follow_symlinks=False)
            if spec.user != "auto":
                _let_through(os.path.dirname(os.path.dirname(path)))
    except OSError as error:
        log.warning("plugin_state_unavailable", plugin=spec.name, path=path, reason=error.strerror)


def _let_through(directory: str) -> None:
    """Let users that are not plugd's reach what is below a directory: not list, read or change anything of it."""
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    if mode & 0o011 != 0o011:
        os.chmod(directory, mode | 0o011)  # noqa: S103 - to pass through, and no more
