"""The values of the configuration that name other people's programs, and what must hold between them."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from plugd.config_reader import Reads
from plugd.units import shown

if TYPE_CHECKING:
    from plugd.config import PluginConfig

Format = Literal["nagios", "munin", "prometheus", "influx", "collectd", "plugd"]
ProgramMode = Literal["oneshot", "daemon"]

MODES: Mapping[str, tuple[ProgramMode, ...]] = {
    "nagios": ("oneshot",),
    "munin": ("oneshot",),
    "prometheus": ("oneshot",),  # The text has no end but that of the output.
    "influx": ("oneshot", "daemon"),
    "collectd": ("oneshot", "daemon"),
    "plugd": ("daemon",),
}
"""What each format can run as, the usual first."""

IMPORTED = ("munin.", "nagios.")  # begins the names of plugins that come from [import]

_WORDS = 256
_COMMAND_BYTES = 16 * 1024  # of one command line; it goes to the worker in one packet
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]*")


def read_words(value: object) -> tuple[str, ...]:
    """Return the words of a command line: an array of text, passed on as it is and never to a shell.

    Raises:
        ValueError: it is something else, or too much.
    """
    if not isinstance(value, list):
        hint = "; a command is an array, and no shell looks at it" if isinstance(value, str) else ""
        raise ValueError(f"expected an array of text, got {shown(value)}{hint}")  # noqa: TRY004 - as every reader
    for word in value:
        if not isinstance(word, str):
            raise ValueError(f"expected an array of text, got {shown(word)} in it")  # noqa: TRY004
        if "\0" in word:
            raise ValueError("an argument has no NUL characters")
    size_bytes = sum(len(word.encode()) + 1 for word in value)
    if len(value) > _WORDS or size_bytes > _COMMAND_BYTES:
        raise ValueError(f"{len(value)} words of {size_bytes} bytes; at most {_WORDS} of {_COMMAND_BYTES} are possible")
    return tuple(value)


def read_command(value: object) -> tuple[str, ...]:
    """Return a command line whose program is an absolute path, or a name that is looked for in a fixed PATH.

    Raises:
        ValueError: it is something else.
    """
    words = read_words(value)
    if not words:
        raise ValueError("expected a program and its arguments, got []")
    program = words[0]
    if not program.startswith("/") and not _PROGRAM.fullmatch(program):
        raise ValueError(f"expected an absolute path, or a program's name without any, got {shown(program)}")
    return words


def read_arguments(value: object) -> dict[str, tuple[str, ...]]:
    """Return arguments by the name of their program.

    Raises:
        ValueError: it is no table of such arrays.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of arrays, got {shown(value)}")  # noqa: TRY004
    arguments = {}
    for name, words in value.items():
        try:
            arguments[name] = read_words(words)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return arguments


Command = Annotated[tuple[str, ...], Reads(read_command)]
Arguments = Annotated[dict[str, tuple[str, ...]], Reads(read_arguments)]


def contradictions(name: str, plugin: "PluginConfig") -> Iterator[tuple[str, str]]:
    """Yield the key and the reason for each thing that does not go together in a plugin's table."""
    if not plugin.command:
        own: Mapping[str, Any] = {"format": plugin.format, "mode": plugin.mode, "cwd": plugin.cwd}
        for key, value in own.items():
            # An imported plugin has its command from elsewhere.
            if value is not None and not (key == "cwd" and name.startswith(IMPORTED)):
                yield key, "is for a plugin with a command, and this one has none"
        return
    if plugin.format is None:
        yield "command", f"needs a format as well: one of {', '.join(MODES)}"
    elif plugin.mode is not None and plugin.mode not in MODES[plugin.format]:
        able = ", ".join(name for name, modes in MODES.items() if plugin.mode in modes)
        yield "mode", f"format {plugin.format!r} has no mode {plugin.mode!r}, which is for {able}"
