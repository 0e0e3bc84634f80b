"""The plugd that is running: where its programs are, and all that Python may load for them."""

import os
import re
import sys
import sysconfig
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import NamedTuple

from plugd.install.errors import EXIT_REFUSED, InstallError

NAMES = ("plugd", "plugctl")

# In a unit file anything else would have to be quoted, and a script's first line knows no quotes.
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@,:=~-]*")


class Program(NamedTuple):
    """An installation of plugd; all paths are absolute.

    Attributes:
        paths: the two programs, by name.
        interpreter: the Python that they run with.
        own: directories and files that must be there for plugd to run.
        others: directories that Python looks for modules in, too.
    """

    paths: dict[str, str]
    interpreter: str
    own: tuple[str, ...]
    others: tuple[str, ...]


def this_program() -> Program:
    """Return the installation that this process runs.

    Raises:
        InstallError: it is no installation, such as plain sources, or has no path that a unit file can name.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        paths = _scripts(distribution("plugd"))
    except PackageNotFoundError:
        paths = {}
    missing = [name for name in NAMES if name not in paths]
    if missing:
        raise InstallError(
            f"cannot find the program {missing[0]!r} of the plugd in {package}: pip has not installed it",
            EXIT_REFUSED,
            "python3 -m venv /opt/plugd && /opt/plugd/bin/pip install .",
        )
    for path in paths.values():
        if not _PLAIN.fullmatch(path):
            raise InstallError(
                f"cannot name {path!r} in a unit file", EXIT_REFUSED, "install plugd in a path without such characters"
            )
    own = {*paths.values(), package, os.path.join(os.path.dirname(package), "plugctl")}
    if sys.prefix != sys.base_prefix:  # a virtual environment, which is all plugd's
        own.add(sys.prefix)
    # The first entry is the directory of the script, or that of whoever says `python -m`.
    others = {path for path in sys.path[1:] if os.path.isdir(path)} | {sysconfig.get_path("stdlib")}
    return Program(paths, sys.executable, tuple(sorted(own)), tuple(sorted(others - own)))


def _scripts(found: Distribution) -> dict[str, str]:
    """Return the programs in a distribution's list of files; those it does not list, or that are gone, are left out."""
    scripts = {}
    for file in found.files or ():
        if file.name in NAMES and file.parent.name == "bin":
            path = os.path.normpath(str(found.locate_file(file)))
            if os.access(path, os.X_OK):
                scripts[file.name] = path
    return scripts
