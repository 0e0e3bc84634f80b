"""Plugins that are other people's programs: from their table of the configuration to what is run."""

import os
from collections.abc import Mapping

import msgspec

from plugd.catalog.lock import Lock
from plugd.catalog.programs import find_program, inspect_program
from plugd.catalog.spec import CommandSpec, PluginSpec
from plugd.catalog.trust import Distrusted, Trust
from plugd.config import PluginConfig
from plugd.config_commands import MODES
from plugd.formats.munin_conf import node_environment
from plugd.paths import SEARCH_PATH


def command_plugin(
    trust: Trust,
    name: str,
    config: PluginConfig,
    lock: Lock | None = None,
    state_dir: str | None = None,
    *,
    autoconf: bool = False,
) -> PluginSpec:
    """Return the plugin that a table with a ``command`` means, with its fault if it may not run; blocks on the disk.

    Args:
        trust: the walk that judges its program.
        name: of the plugin.
        config: its table.
        lock: which plugins may run; None: all that are trusted.
        state_dir: the daemon's own; None: nothing can be kept.
        autoconf: whether it is asked first if it can work here.
    """
    path = find_program(config.command[0])
    try:
        if path is None:
            raise Distrusted(f"there is no program {config.command[0]!r} in {SEARCH_PATH}")
        program = inspect_program(trust, path)
        if lock is not None and (fault := lock.fault_of(name, program.sha256)) is not None:
            raise Distrusted(fault)
    except Distrusted as distrusted:
        return PluginSpec(name, "command", path or config.command[0], b"", "", config, str(distrusted))
    format_ = config.format
    assert format_ is not None  # See plugd.config_commands.contradictions.
    state = None
    if format_ == "munin":
        state = os.path.join(state_dir, "munin", name) if state_dir is not None else None
        config = msgspec.structs.replace(config, environment=_munin_environment(config, state))
    command = CommandSpec(
        argv=config.command,
        program=program,
        format=format_,
        mode=config.mode or MODES[format_][0],
        cwd=config.cwd or "/",
        state=state,
        autoconf=autoconf,
    )
    return PluginSpec(name, "command", path, b"", program.sha256, config, command=command)


def _munin_environment(config: PluginConfig, state: str | None) -> Mapping[str, str]:
    """Return what Munin's plugins find in their environment; what is configured wins."""
    plugin = os.path.basename(config.command[0])
    environment = node_environment(plugin, user="", host=os.uname().nodename, dirtyconfig=True)
    if state is not None:
        environment |= {"MUNIN_PLUGSTATE": state, "MUNIN_STATEFILE": f"{state}/{plugin}-"}
    return {**environment, **config.environment}
