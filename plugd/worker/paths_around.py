"""What is below a directory, but for some that are hidden: Landlock allows, and has no way to forbid: landlock(7).

So each entry of the directories that lead to what is hidden is allowed on its own. It is the entry that is allowed, and
not its name: a file or directory that is made, replaced or mounted over in one of these few directories afterwards
cannot be read by a process that confined itself before. Further down nothing is different.
"""

import os
from collections.abc import Sequence


def paths_around(root: str, hidden: Sequence[str]) -> list[str] | None:
    """Return the paths that make up all that is below a directory, but for what is hidden.

    Symbolic links are left out: where they lead to is what counts. So is what is in a directory that cannot be listed.

    Args:
        root: the directory.
        hidden: absolute paths of directories, without links.

    Returns: the paths; None if nothing below the directory is hidden, so that it may be had as a whole.
    """
    real = os.path.realpath(root)
    return _entries(real, hidden) if _leads_to(real, hidden) else None


def _entries(directory: str, hidden: Sequence[str]) -> list[str]:
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.path in hidden or entry.is_symlink():
                    continue
                found += _entries(entry.path, hidden) if _leads_to(entry.path, hidden) else [entry.path]
    except OSError:
        pass  # It cannot be listed: then nobody can tell what in it may be read.
    return found


def _leads_to(directory: str, hidden: Sequence[str]) -> bool:
    prefix = directory.rstrip("/") + "/"
    return any(path.startswith(prefix) for path in hidden)
