"""The files of the configuration: read, parsed and merged, each value with the file that set it."""

import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterable
from typing import Any, NamedTuple

Key = tuple[str | int, ...]
"""Where a value stands: table names, and positions in arrays."""

_NESTING = 64  # levels of tables
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TOML_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class Fault(NamedTuple):
    """One thing wrong with the configuration."""

    file: str
    """The file that says it, or the command-line flag."""

    key: str | None
    """Where in the file: ``$.plugins.cpu.interval``; None for the file as a whole."""

    reason: str

    line: int | None = None
    """The line of a syntax error."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}" if self.key is None else f"{place}: {self.key}: {self.reason}"


class ConfigError(Exception):
    """The configuration cannot be used; ``faults`` has every reason, not only the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(map(str, self.faults)))


class Document(NamedTuple):
    """One parsed file."""

    file: str
    table: dict[str, Any]


class Merged(NamedTuple):
    """Several documents as one."""

    table: dict[str, Any]
    origins: dict[Key, str]
    """The file that set the table or value at a key; of a table in several files, the last."""

    def origin(self, key: Key) -> str:
        """Return the file that set what stands at a key, or the nearest thing round it."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, "configuration")


def read_documents(path: str, *, required: bool) -> list[Document]:
    """Return the main file and its drop-ins, ``plugd.d/*.toml`` beside it in the order of their names.

    Args:
        path: the main file.
        required: whether it is a fault that the main file does not exist. Drop-ins are read in any case.

    Raises:
        ConfigError: files cannot be read or are no TOML; it lists all of them.
    """
    documents = []
    faults = []
    drop_ins, listing_fault = _list_drop_ins(os.path.join(os.path.dirname(path), "plugd.d"))
    if listing_fault:
        faults.append(listing_fault)
    for file in [path, *drop_ins]:
        try:
            documents.append(parse(read_file(file), file))
        except FileNotFoundError as error:
            if file != path or required:
                faults.append(_read_fault(file, error))
        except OSError as error:
            faults.append(_read_fault(file, error))
        except ConfigError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigError(faults)
    return documents


def read_file(path: str, most: int = -1) -> bytes:
    """Return what is in a regular file, or in ``/dev/null``; never waits for somebody to write, as at a FIFO.

    Args:
        path: of the file.
        most: bytes that are read; -1: all.

    Raises:
        OSError: it cannot be read, or is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode) and not _is_null(status):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        with open(descriptor, "rb", closefd=False) as stream:  # A directory is refused here.
            return stream.read(most)
    finally:
        os.close(descriptor)


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


def parse(data: bytes, file: str) -> Document:
    """Return the document that a file's bytes are.

    Raises:
        ConfigError: it is no TOML; the fault has the line.
    """
    try:
        text = data.decode()
        return Document(file, tomllib.loads(text))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Fault(file, None, "not UTF-8 text", line)]) from error
    except tomllib.TOMLDecodeError as error:
        match = _TOML_LINE.search(str(error))
        # "end of document" has no number: it is the last line that has anything on it.
        line = int(match[1]) if match and match[1] else text.rstrip().count("\n") + 1
        reason = _TOML_LINE.sub("", str(error))
        raise ConfigError([Fault(file, None, f"{reason[:1].lower()}{reason[1:]}", line)]) from error
    except RecursionError as error:
        raise ConfigError([Fault(file, None, "nested too deeply")]) from error
    except ValueError as error:  # numbers and dates that the grammar allows and Python does not
        raise ConfigError([Fault(file, None, str(error))]) from error


def merge(documents: Iterable[Document]) -> Merged:
    """Return the documents as one: tables are merged, any other value replaces the one before it.

    Raises:
        ConfigError: tables are nested too deeply to be worked on.
    """
    merged = Merged({}, {})
    for document in documents:
        _merge_table(merged.table, document.table, (), document.file, merged.origins)
    return merged


def format_key(key: Key) -> str:
    """Return a key as messages name it: ``$.plugins."disk@data".interval``, ``$.plugin_dirs[1]``."""
    parts = ["$"]
    for part in key:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif _BARE_KEY.fullmatch(part):
            parts.append(f".{part}")
        else:
            quoted = part.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'."{quoted}"')
    return "".join(parts)


def _list_drop_ins(directory: str) -> tuple[list[str], Fault | None]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], _read_fault(directory, error)
    # A leading dot is an editor's or a package manager's temporary file.
    chosen = sorted(name for name in names if name.endswith(".toml") and not name.startswith("."))
    return [os.path.join(directory, name) for name in chosen], None


def _read_fault(file: str, error: OSError) -> Fault:
    return Fault(file, None, f"cannot read: {(error.strerror or str(error)).lower()}")


def _merge_table(into: dict[str, Any], table: dict[str, Any], key: Key, file: str, origins: dict[Key, str]) -> None:
    if len(key) > _NESTING:
        raise ConfigError([Fault(file, None, f"nested too deeply: {format_key(key[:4])}")])
    for name, value in table.items():
        place = (*key, name)
        origins[place] = file
        if isinstance(value, dict):
            if not isinstance(into.get(name), dict):
                into[name] = {}
            _merge_table(into[name], value, place, file, origins)
        else:
            into[name] = value
