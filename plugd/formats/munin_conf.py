"""Munin's own configuration of its plugins, ``plugin-conf.d``, and the environment that munin-node gives them.

After Munin's guide (https://guide.munin-monitoring.org/en/latest/plugin/use.html) and what munin-node 2.0 does: the
section with a plugin's own name comes first, then those with ``*`` at one end, the greatest name in byte order first,
which puts the longer prefix before the shorter. Each of these only adds what is not set yet, variable by variable.
In one section, and over the files in the order of their names, the later line wins.

munin-node drops the rest of a file behind a malformed line. Here only the line is dropped; but behind a malformed
header everything up to the next one, since nobody knows whose ``user root`` that would be.
"""

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from plugd.formats.lines import number, numbered_lines, shown
from plugd.formats.reading import Fault

# What Debian's munin-common has in Munin::Common::Defaults: some plugins look for other parts of Munin by these.
DEFAULTS = {
    "MUNIN_PREFIX": "/usr",
    "MUNIN_CONFDIR": "/etc/munin",
    "MUNIN_BINDIR": "/usr/bin",
    "MUNIN_SBINDIR": "/usr/sbin",
    "MUNIN_LIBDIR": "/usr/share/munin",
    "MUNIN_DBDIR": "/var/lib/munin",
    "MUNIN_LOGDIR": "/var/log/munin",
    "MUNIN_STATEDIR": "/var/run/munin",
    "MUNIN_SPOOLDIR": "/var/lib/munin-async",
    "MUNIN_USER": "munin",
    "MUNIN_GROUP": "munin",
    "MUNIN_PLUGINUSER": "nobody",
    "MUNIN_PERL": "/usr/bin/perl",
    "MUNIN_PERLLIB": "/usr/share/perl5",
    "MUNIN_GOODSH": "/bin/sh",
    "MUNIN_BASH": "/bin/bash",
    "MUNIN_PYTHON": "/usr/bin/env python3",
    "MUNIN_RUBY": "/usr/bin/env ruby",
    "MUNIN_OSTYPE": "linux",
    "MUNIN_HASSETR": "1",
}
PLUGIN_STATE = "/var/lib/munin-node/plugin-state"

_COMMENT = re.compile(r"(?<!\\)#.*")
_HEADER = re.compile(r"\[([^\]]+)\]")
_DIRECTIVE = re.compile(r"([\w.]+)\s+(.+)", re.ASCII)
_OLD_ENVIRONMENT = re.compile(r"env\s+([^=\s]+)\s*=")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_CONF_FILE = re.compile(r"(?!\.)[-\w.:]+", re.ASCII)
_PLUGIN_FILE = re.compile(r"(?!\.)[-\w@.:]+(?<!\.conf)", re.ASCII)
# What Debian's munin-node.conf has by ignore_file.
_LEFT_OVER = re.compile(r".*(?:DEADJOE|\.bak|\.dpkg-(?:tmp|new|old|dist)|\.rpm(?:save|new)|\.pod)", re.ASCII)


class Group(NamedTuple):
    """A group to run a plugin with: name or number. An optional one is left out if the host has no such group."""

    name: str
    optional: bool


class PluginSettings(NamedTuple):
    """How munin-node runs one plugin; None or empty where the files say nothing."""

    user: str | None = None  # Name or number.
    groups: tuple[Group, ...] = ()  # The first is the primary one.
    environment: Mapping[str, str] = MappingProxyType({})
    command: tuple[str, ...] = ()  # Instead of the plugin: see expand_command.
    timeout: float | None = None  # Seconds.
    host_name: str | None = None
    update_rate: float | None = None  # Seconds.
    disable_autoconf: bool = False


class PluginConf(NamedTuple):
    """All sections of plugin-conf.d, and the faults with the name of the file."""

    sections: dict[str, PluginSettings]
    faults: list[tuple[str, Fault]]


def is_conf_file(name: str) -> bool:
    """Whether munin-node reads a file of plugin-conf.d: no hidden one, no editor's or package manager's left-over."""
    return bool(_CONF_FILE.fullmatch(name)) and not _LEFT_OVER.fullmatch(name)


def is_plugin_file(name: str) -> bool:
    """Whether munin-node takes an executable of its plugin directory for a plugin, going by the name."""
    return bool(_PLUGIN_FILE.fullmatch(name)) and not _LEFT_OVER.fullmatch(name)


def parse_plugin_conf(files: Iterable[tuple[str, bytes]]) -> PluginConf:
    """Return what files of plugin-conf.d say.

    Args:
        files: their names and contents. Which of a directory's count, is_conf_file says; the order is that of names.
            Bytes that are not UTF-8 stay what they are in the environment: surrogates, as os.fsencode takes them.
    """
    conf = PluginConf({}, [])
    environments: dict[str, dict[str, str]] = {}
    for name, content in sorted(files):
        section = None
        headed = False
        for line, text in numbered_lines(content, "surrogateescape"):
            text = _COMMENT.sub("", text).replace("\\#", "#").strip()
            if not text:
                continue
            try:
                if text.startswith("["):
                    section, headed = None, True
                    section = _section(text)
                    environment = environments.setdefault(section, {})
                    conf.sections.setdefault(section, PluginSettings(environment=environment))
                elif section is not None:
                    conf.sections[section] = _with_directive(conf.sections[section], environments[section], text)
                elif not headed:
                    raise ValueError(f"expected a [section] first, found {shown(text)}")
            except ValueError as error:
                conf.faults.append((name, Fault(line, str(error))))
    return conf


def plugin_settings(conf: PluginConf, plugin: str) -> PluginSettings:
    """Return the settings of the plugin with this name, which is that of its link in the plugin directory."""
    settings = conf.sections.get(plugin, PluginSettings())
    for pattern in sorted(conf.sections, reverse=True):
        if _matches(pattern, plugin):
            settings = _filled(settings, conf.sections[pattern])
    return settings


def expand_command(command: tuple[str, ...], path: str, argument: str | None = None) -> tuple[str, ...]:
    """Return the argv to run a plugin with: ``%c`` becomes its path, and the argument comes right behind that.

    Args:
        command: from the settings; empty for the plugin itself.
        path: the plugin's absolute path.
        argument: ``config`` or ``autoconf``; None to fetch the values.
    """
    arguments = () if argument is None else (argument,)
    argv: list[str] = []
    for word in command or ("%c",):
        argv.append(word.replace("%c", path))
        if "%c" in word:
            argv += arguments
    return tuple(argv)


def node_environment(
    plugin: str, *, user: str, host: str, state: str = PLUGIN_STATE, dirtyconfig: bool = False
) -> dict[str, str]:
    """Return the environment that munin-node gives to a plugin; that of its settings goes on top.

    Args:
        plugin: its name.
        user: the name of the user that it runs as, who owns a directory of this name in that for state.
        host: the host's full name.
        state: the directory for state; Munin's own, so that a plugin finds what it has kept there.
        dirtyconfig: whether values in the answer to ``config`` are welcome.
    """
    directory = f"{state}/{user}"
    return {
        **DEFAULTS,
        "MUNIN_PLUGSTATE": directory,
        "MUNIN_STATEFILE": f"{directory}/{plugin}-",  # What follows would be the address of Munin's master.
        "MUNIN_MASTER_IP": "",
        "MUNIN_CAP_MULTIGRAPH": "1",
        **({"MUNIN_CAP_DIRTYCONFIG": "1"} if dirtyconfig else {}),
        "MUNIN_DEBUG": "0",
        "FQDN": host,
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONIOENCODING": "utf8:replace",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }


def _section(text: str) -> str:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"no section: {shown(text)}")
    name = match[1]
    if "*" in name[1:-1] or (len(name) > 1 and name[0] == name[-1] == "*"):
        raise ValueError(f"a section has one * at its start or its end, not {shown(name)}")
    return name


def _with_directive(settings: PluginSettings, environment: dict[str, str], text: str) -> PluginSettings:
    """Return settings with those of one line; a variable goes into the environment. ValueError: the line is none."""
    if old := _OLD_ENVIRONMENT.match(text):
        raise ValueError(f"'env NAME=value' is written 'env.NAME value' today: {shown(old[1])}")
    match = _DIRECTIVE.fullmatch(text)
    if match is None or "\0" in text:  # No argument of a program, nor its environment, holds a null byte.
        raise ValueError(f"expected a name and a value, found {shown(text)}")
    name, value = match[1], match[2]
    if name.startswith("env.") and name != "env.":
        environment[name.removeprefix("env.")] = value
        return settings
    match name:
        case "user":
            return settings._replace(user=value)
        case "group":
            return settings._replace(groups=tuple(_group(part) for part in re.split(r"[\s,]+", value) if part))
        case "command":
            return settings._replace(command=tuple(value.split()))
        case "host_name":
            return settings._replace(host_name=value)
        case "timeout":
            return settings._replace(timeout=_seconds(name, value))
        case "update_rate":
            return settings._replace(update_rate=_seconds(name, value))
        case "disable_autoconf" if value in _BOOLEANS:
            return settings._replace(disable_autoconf=_BOOLEANS[value])
    raise ValueError(f"nothing that Munin knows: {shown(text)}; a variable would be 'env.NAME value'")


def _group(text: str) -> Group:
    optional = len(text) > 2 and text.startswith("(") and text.endswith(")")
    return Group(text[1:-1] if optional else text, optional)


def _seconds(name: str, text: str) -> float:
    seconds = number(text)
    if seconds is None or not 0 < seconds < math.inf:
        raise ValueError(f"{name} is no number of seconds: {shown(text)}")
    return seconds


def _matches(pattern: str, plugin: str) -> bool:
    if pattern.endswith("*"):
        return plugin.startswith(pattern[:-1])
    return pattern.startswith("*") and plugin.endswith(pattern[1:])


def _filled(settings: PluginSettings, more: PluginSettings) -> PluginSettings:
    """Return settings with what they lack taken from others."""
    return PluginSettings(
        user=settings.user if settings.user is not None else more.user,
        groups=settings.groups or more.groups,
        environment={**more.environment, **settings.environment},
        command=settings.command or more.command,
        timeout=settings.timeout or more.timeout,
        host_name=settings.host_name or more.host_name,
        update_rate=settings.update_rate or more.update_rate,
        disable_autoconf=settings.disable_autoconf or more.disable_autoconf,
    )
