"""What is wrong with the programs that a configuration names: for ``plugd --check-config``, which starts nothing."""

from plugd.catalog.commands import command_plugin
from plugd.catalog.imports import import_plugins
from plugd.catalog.trust import Trust, trusted_owners
from plugd.settings import Settings
from plugd.settings_files import Fault, Key, format_key, merge, parse


def command_faults(settings: Settings) -> list[Fault]:
    """Return a fault for each program that may not run, and each directory that cannot be imported; blocks on the disk.

    With such a fault plugd runs all the same: it is that plugin which does not.
    """
    config = settings.config
    found: list[tuple[Key, str]] = []
    with Trust(trusted_owners()) as trust:
        for name, plugin in config.plugins.items():
            if plugin.command and plugin.enabled:
                fault = command_plugin(trust, name, plugin).fault
                found += [(("plugins", name, "command"), fault)] if fault is not None else []
        imports = import_plugins(trust, config.import_, config.plugins)
        places: dict[str | None, Key] = {config.import_.munin.directory: ("munin", "directory")}
        places |= {config.import_.nagios.directory: ("nagios", "directory")}
        places |= {path: ("nagios", "commands", number) for number, path in enumerate(config.import_.nagios.commands)}
        for path, reason in imports.ignored:
            if path in places:  # What is not imported of a directory is no fault: Munin itself leaves things out.
                found.append((("import", *places[path]), reason))
        for name, imported in imports.plugins.items():
            if imported.config.enabled:
                fault = imported.fault or command_plugin(trust, name, imported.config).fault
                found += [(("import", name.partition(".")[0]), f"{name}: {fault}")] if fault is not None else []
    merged = merge([parse(_read(file), file) for file in settings.config_files])
    return [Fault(merged.origin(key), format_key(key), reason) for key, reason in found]


def _read(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()
