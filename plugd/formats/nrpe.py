"""The commands in the configuration of NRPE, the server through which Nagios runs plugins on other hosts.

``command[check_root]=/usr/lib/nagios/plugins/check_disk -w 20% -c 10% -p /``: NRPE gives the line to a shell. Here only
its words count, with their quotes; what needs a shell, or an argument from the server (``$ARG1$``), is a fault.
"""

import re
import shlex
from typing import NamedTuple

from plugd.formats.lines import numbered_lines, shown
from plugd.formats.reading import Fault

_COMMAND = re.compile(r"command\[([^\]\s]+)\]\s*=\s*(.*)")
_QUOTED = re.compile(r"""'[^']*'|"((?:[^"\\]|\\.)*)"|\\.""")
_EXPANDED = re.compile(r"[$`]")
_OF_SHELLS = re.compile(r"[|&;<>()$`*?~#{}\n]")


class NrpeCommand(NamedTuple):
    """One command: its name, and the words of its line."""

    name: str
    argv: tuple[str, ...]


def parse_nrpe(content: bytes) -> tuple[list[NrpeCommand], list[Fault]]:
    """Return the commands in a file, and its faults; of two with one name the later counts. All else is ignored."""
    commands: dict[str, NrpeCommand] = {}
    faults: list[Fault] = []
    for line, text in numbered_lines(content):
        match = _COMMAND.fullmatch(text)
        if match is None:
            if text.startswith("command["):
                faults.append(Fault(line, f"expected command[NAME]=PROGRAM ARGUMENT..., found {shown(text)}"))
            continue
        try:
            commands[match[1]] = NrpeCommand(match[1], _words(match[2]))
        except ValueError as error:
            faults.append(Fault(line, f"command {shown(match[1])}: {error}"))
    return list(commands.values()), faults


def _words(text: str) -> tuple[str, ...]:
    for quoted in _QUOTED.finditer(text):
        if quoted[1] and (found := _EXPANDED.search(re.sub(r"\\.", "", quoted[1]))):
            raise ValueError(f"has a {found[0]!r}, which needs a shell or an argument of the server's")
    if found := _OF_SHELLS.search(_QUOTED.sub("", text)):
        raise ValueError(f"has a {found[0]!r}, which needs a shell or an argument of the server's")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("has a quote without its end") from error
    if not words:
        raise ValueError("has no program")
    return words
