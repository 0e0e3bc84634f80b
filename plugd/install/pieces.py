"""What belongs to an installed plugd beside its Python packages: every file, with its place and its content."""

import os
import re
from typing import NamedTuple

from plugctl import completion
from plugd.install.errors import EXIT_REFUSED, InstallError
from plugd.install.program import Program

# Below /usr/local, and not in /etc: there the administrator's own files go, with which `systemctl edit` and
# `systemctl mask` override these, and which `systemctl revert` takes away. systemd.unit(5), file-hierarchy(7)
UNITS = "/usr/local/lib/systemd/system"
SYSUSERS = "/usr/local/lib/sysusers.d/plugd.conf"
TMPFILES = "/usr/local/lib/tmpfiles.d/plugd.conf"
EXAMPLES = "/usr/local/share/doc/plugd/examples"
MAN = "/usr/local/share/man"
COMPLETIONS = {
    "bash": "/usr/local/share/bash-completion/completions/plugctl",
    "zsh": "/usr/local/share/zsh/site-functions/_plugctl",
    "fish": "/usr/local/share/fish/vendor_completions.d/plugctl.fish",
}

CONFIGURATION = "/etc/plugd"
CONFIG = f"{CONFIGURATION}/plugd.toml"
STATE = "/var/lib/plugd"
RUNTIME = "/run/plugd"
DIRECTORIES = (CONFIGURATION, f"{CONFIGURATION}/plugd.d", f"{CONFIGURATION}/plugins")

SERVICE, SOCKET = "plugd.service", "plugd.socket"

_PROGRAM = re.compile(rb"/usr/bin/(plugd|plugctl)(?![\w.-])")


class Piece(NamedTuple):
    """A file to be installed.

    Attributes:
        path: where.
        data: its bytes.
        seed: it is a beginning for a file that the administrator writes: one that is there already is left alone.
    """

    path: str
    data: bytes
    seed: bool = False


def pieces(program: Program) -> list[Piece]:
    """Return all files, for an installation at these paths.

    Raises:
        InstallError: what should have come with plugd is not there.
    """
    source = shared("systemd")
    found = []
    for name in sorted(os.listdir(source)):
        _, suffix = os.path.splitext(name)
        if suffix in (".service", ".socket", ".slice", ".target"):
            found.append(Piece(f"{UNITS}/{name}", _with_programs(_read(source, name), program)))
        elif suffix == ".sysusers":
            found.append(Piece(SYSUSERS, _read(source, name)))
        elif suffix == ".tmpfiles":
            found.append(Piece(TMPFILES, _read(source, name)))
        elif name == os.path.basename(CONFIG):
            found.append(Piece(CONFIG, _read(source, name), seed=True))
        elif name == "examples":
            examples = os.path.join(source, name)
            found += [
                Piece(f"{EXAMPLES}/{example}", _with_programs(_read(examples, example), program))
                for example in sorted(os.listdir(examples))
            ]
    manual = shared("man")
    for name in sorted(os.listdir(manual)):
        found.append(Piece(f"{MAN}/man{name.rpartition('.')[2]}/{name}", _read(manual, name)))
    scripts = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}
    found += [Piece(path, scripts[shell]().rstrip("\n").encode() + b"\n") for shell, path in COMPLETIONS.items()]
    return found


def shared(name: str) -> str:
    """Return the directory of files that are no modules: in the package, or, in the sources, where they are written.

    Raises:
        InstallError: there is none.
    """
    package = os.path.dirname(os.path.realpath(__file__))
    sources = os.path.dirname(os.path.dirname(package))
    for directory in (os.path.join(package, "share", name), os.path.join(sources, _SOURCES[name])):
        if os.path.isdir(directory):
            return directory
    raise InstallError(f"cannot find what belongs to plugd: no share/{name} in {package}", EXIT_REFUSED)


_SOURCES = {"systemd": "systemd", "man": "docs/man"}


def directories_of(tmpfiles: bytes) -> list[str]:
    """Return the directories that a file for systemd-tmpfiles makes: its lines of the types d and D, tmpfiles.d(5)."""
    lines = [line.split() for line in tmpfiles.decode(errors="replace").splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0][0] in "dD"]


def _with_programs(data: bytes, program: Program) -> bytes:
    return _PROGRAM.sub(lambda match: program.paths[match[1].decode()].encode(), data)


def _read(directory: str, name: str) -> bytes:
    with open(os.path.join(directory, name), "rb") as file:
        return file.read()
