"""Where workers import from: no directory that others may write to."""

import os
import stat
import sys
from collections.abc import Iterable

import msgpack

import plugd


def trusted_entries(entries: Iterable[str]) -> list[str]:
    """Return the entries of ``sys.path`` that nobody can write to but root, this user and the owner of plugd.

    What holds plugd, its dependencies or Python itself stays in any case: it has been trusted already, by the daemon.
    An entry that is no absolute path, or is not there, goes.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(plugd.__file__)))
    owners = {0, os.getuid(), os.stat(package).st_uid}
    dependencies = os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))
    loaded = {
        package,
        dependencies,
        os.path.dirname(os.__file__),
        os.path.join(os.path.dirname(os.__file__), "lib-dynload"),
    }
    return [entry for entry in entries if os.path.isabs(entry) and (entry in loaded or _is_safe(entry, owners))]


def clean_search_path() -> None:
    """Leave only trusted entries in ``sys.path``, and forget what was looked up by the others."""
    sys.path[:] = trusted_entries(sys.path)
    for entry in set(sys.path_importer_cache).difference(sys.path):
        if not any(entry.startswith(f"{kept}/") for kept in sys.path):
            del sys.path_importer_cache[entry]


def _is_safe(entry: str, owners: set[int]) -> bool:
    """Whether only ``owners`` can change what is found there: the entry, or a directory above it."""
    path = os.path.realpath(entry)
    sticky = 0  # In a sticky directory nobody replaces what is another's; but anybody adds a module.
    while True:
        try:
            status = os.stat(path)
        except OSError:
            return False
        open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if status.st_uid not in owners or (open_to_others and not status.st_mode & sticky):
            return False
        sticky = stat.S_ISVTX
        if path == "/":
            return True
        path = os.path.dirname(path)
